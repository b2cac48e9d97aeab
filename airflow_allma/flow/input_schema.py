"""A flow's ``airflow.inputSchema``: whether it is valid, and whether a payload fits it.

The errors of jsonschema become sentences of one line; the schema refers to nothing outside of itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from airflow_allma.flow.diagnostics import Diagnostic, json_path, quoted

__all__ = ["check_input_schema", "declared_properties", "fit_payload", "local_references", "takes_null"]

_SCHEMA_PATH: Final = ("airflow", "inputSchema")
_MAX_REASONS: Final = 10
_MAX_REASON_LENGTH: Final = 300


def check_input_schema(options: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield the errors in the schema of an ``airflow`` object, if it has one.

    Args:
        options: the flow's ``airflow`` object, as its file has it.
    """
    schema = options.get("inputSchema")
    if not isinstance(schema, dict):
        return
    problems = list(_check_schema(schema))
    yield from problems
    if problems:
        return
    yield from _unfit_defaults(schema)
    if isinstance(options.get("schedule"), str):
        _, reasons = fit_payload(schema, {})
        for reason in reasons:
            yield Diagnostic(
                _SCHEMA_PATH,
                f"the flow has a schedule, and the empty payload of its runs does not match: {reason}; "
                "add a `default` to what is required",
            )


def _check_schema(schema: dict[str, Any]) -> Iterator[Diagnostic]:
    validator = _validator_class(schema)
    invalid = list(validator(validator.META_SCHEMA).iter_errors(schema))
    for error in invalid:
        yield Diagnostic(
            (*_SCHEMA_PATH, *error.absolute_path), f"not a valid JSON Schema: {_short(error.message)}"
        )
    if invalid:
        return
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        yield Diagnostic((*_SCHEMA_PATH, "type"), "a payload is an object; write `object`")
    for path, reference in _references(schema, _SCHEMA_PATH):
        if not reference.startswith("#"):
            yield Diagnostic(
                path, f"{quoted(reference)} is outside of the schema; put it into `$defs` and refer to that"
            )
        elif not _resolves(schema, reference):
            yield Diagnostic(path, f"{quoted(reference)} refers to nothing in the schema")


def _unfit_defaults(schema: dict[str, Any]) -> Iterator[Diagnostic]:
    for name, part in declared_properties(schema).items():
        if not isinstance(part, dict) or "default" not in part:
            continue
        # All other properties are omitted: only what the schema says about this value counts.
        only = {key: value for key, value in schema.items() if key in _DEFINITION_KEYS}
        for reason in _reasons({**only, "properties": {name: part}}, {name: part["default"]}):
            yield Diagnostic(
                (*_SCHEMA_PATH, "properties", name, "default"),
                f"the default does not match its schema: {reason}",
            )


_DEFINITION_KEYS: Final = frozenset({"$schema", "$id", "$defs", "definitions"})


def fit_payload(schema: Mapping[str, Any], payload: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a payload with its defaults, and the reasons why it does not match the schema.

    Missing properties get their ``default``. A null that the schema does not accept is what Airflow's form
    makes of an empty field: the property counts as missing, unless it is required.

    Args:
        schema: a valid schema, see ``check_input_schema``.
        payload: what the run was started with.

    Returns:
        The payload with defaults, and the reasons, each a sentence with the JSON path in the payload; none if
        it fits.
    """
    known = declared_properties(schema)
    required = schema.get("required", ())
    filled = {
        name: value
        for name, value in payload.items()
        if value is not None or name in required or name not in known or takes_null(schema, known[name])
    }
    for name, part in known.items():
        if name not in filled and isinstance(part, dict) and "default" in part:
            filled[name] = deepcopy(part["default"])
    return filled, _reasons(schema, filled)


def declared_properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema's properties: name -> schema (an object, true or false)."""
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def takes_null(schema: Mapping[str, Any], part: Any) -> bool:
    """Return whether a property of the schema can be null."""
    around = {key: value for key, value in schema.items() if key in _DEFINITION_KEYS}
    return not _reasons({**around, "properties": {"it": part}}, {"it": None})


def local_references(part: Any) -> set[str]:
    """Return the references in a part of a schema."""
    return {reference for _, reference in _references(part, ())}


def _reasons(schema: Mapping[str, Any], payload: Any) -> list[str]:
    from jsonschema import FormatChecker
    from referencing.exceptions import Unresolvable

    validator = _validator_class(schema)(dict(schema), format_checker=FormatChecker())
    try:
        errors = sorted(validator.iter_errors(payload), key=lambda error: [str(key) for key in error.path])
    except RecursionError:
        return ["the schema refers to itself without end, or the payload is nested too deep"]
    except Unresolvable as error:
        return [_short(f"the schema refers to something that does not exist: {error}")]
    reasons = [f"{json_path(tuple(error.absolute_path))}: {_short(error.message)}" for error in errors]
    more = len(reasons) - _MAX_REASONS
    return [*reasons[:_MAX_REASONS], f"and {more} more"] if more > 0 else reasons


def _short(message: str) -> str:
    # A message contains the value, which can be of any length.
    if len(message) <= _MAX_REASON_LENGTH:
        return message
    half = _MAX_REASON_LENGTH // 2
    return f"{message[:half]} ... {message[-half:]}"


def _validator_class(schema: Mapping[str, Any]) -> Any:
    from jsonschema.validators import Draft202012Validator, validator_for

    return validator_for(dict(schema), default=Draft202012Validator)


def _references(part: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key in {"$ref", "$dynamicRef"} and isinstance(value, str):
                yield (*path, key), value
            elif key not in {"default", "const", "enum", "examples"}:
                yield from _references(value, (*path, key))
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from _references(value, (*path, index))


def _resolves(schema: Mapping[str, Any], reference: str) -> bool:
    from urllib.parse import unquote

    if reference == "#":
        return True
    if not reference.startswith("#/"):
        return True  # an anchor: jsonschema reports it if it does not exist
    part: Any = schema
    for segment in unquote(reference).removeprefix("#/").split("/"):
        key = segment.replace("~1", "/").replace("~0", "~")
        if isinstance(part, dict) and key in part:
            part = part[key]
        elif isinstance(part, list) and key.isdecimal() and int(key) < len(part):
            part = part[int(key)]
        else:
            return False
    return True
