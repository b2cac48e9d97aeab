"""A flow's ``airflow.inputSchema``: whether it can be used, and whether a payload fits it.

All that jsonschema says is turned into sentences of one line; the schema refers to nothing outside of itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from airflow_allma.flow.diagnostics import Diagnostic, json_path, quoted

__all__ = ["check_input_schema", "declared_properties", "fit_payload", "local_references", "takes_null"]

_PLACE: Final = ("airflow", "inputSchema")
_MOST_REASONS: Final = 10
_LONGEST_REASON: Final = 300


def check_input_schema(options: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """What is wrong with the schema of an ``airflow`` object; nothing if it has none.

    Args:
        options: the flow's ``airflow`` object, as it is written.
    """
    schema = options.get("inputSchema")
    if not isinstance(schema, dict):
        return
    broken = False
    for finding in _broken(schema):
        broken = True
        yield finding
    if broken:
        return
    yield from _unfit_defaults(schema)
    if isinstance(options.get("schedule"), str):
        _, reasons = fit_payload(schema, {})
        for reason in reasons:
            yield Diagnostic(
                _PLACE,
                f"the flow has a schedule, and the empty payload of its runs does not fit: {reason}; "
                "give what is required a `default`",
            )


def _broken(schema: dict[str, Any]) -> Iterator[Diagnostic]:
    validator = _validator_class(schema)
    invalid = list(validator(validator.META_SCHEMA).iter_errors(schema))
    for error in invalid:
        yield Diagnostic((*_PLACE, *error.absolute_path), f"no valid JSON Schema: {_short(error.message)}")
    if invalid:
        return
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        yield Diagnostic((*_PLACE, "type"), "a payload is an object; write `object`")
    for path, reference in _references(schema, _PLACE):
        if not reference.startswith("#"):
            yield Diagnostic(
                path, f"{quoted(reference)} lies outside of the schema; put it into `$defs` and refer to that"
            )
        elif not _resolves(schema, reference):
            yield Diagnostic(path, f"{quoted(reference)} refers to nothing in the schema")


def _unfit_defaults(schema: dict[str, Any]) -> Iterator[Diagnostic]:
    for name, part in declared_properties(schema).items():
        if not isinstance(part, dict) or "default" not in part:
            continue
        # All but the one value is left out: only what the schema says of it may be wrong.
        only = {key: value for key, value in schema.items() if key in _NOT_OF_VALUES}
        for reason in _reasons({**only, "properties": {name: part}}, {name: part["default"]}):
            yield Diagnostic(
                (*_PLACE, "properties", name, "default"), f"the default does not fit its schema: {reason}"
            )


_NOT_OF_VALUES: Final = frozenset({"$schema", "$id", "$defs", "definitions"})


def fit_payload(schema: Mapping[str, Any], payload: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A payload as a run gets it, and why it does not fit.

    Properties that are not there get their ``default``. A null where the schema takes none is what Airflow's
    form makes of an empty field: the property counts as not there, unless it is required.

    Args:
        schema: one that ``check_input_schema`` found nothing wrong with.
        payload: what the run was started with.

    Returns:
        The payload with defaults, and the reasons, each a sentence with the place in the payload; none if it
        fits.
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
    """The schema's properties: name -> schema (an object, true or false)."""
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def takes_null(schema: Mapping[str, Any], part: Any) -> bool:
    """Whether a property of the schema may be null."""
    around = {key: value for key, value in schema.items() if key in _NOT_OF_VALUES}
    return not _reasons({**around, "properties": {"it": part}}, {"it": None})


def local_references(part: Any) -> set[str]:
    """What a part of a schema refers to."""
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
        return [_short(f"the schema refers to what is not there: {error}")]
    told = [f"{json_path(tuple(error.absolute_path))}: {_short(error.message)}" for error in errors]
    more = len(told) - _MOST_REASONS
    return [*told[:_MOST_REASONS], f"and {more} more"] if more > 0 else told


def _short(message: str) -> str:
    # Messages hold the value, which may be of any length.
    if len(message) <= _LONGEST_REASON:
        return message
    half = _LONGEST_REASON // 2
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
        return True  # an anchor: jsonschema says so if it is not there
    found: Any = schema
    for text in unquote(reference).removeprefix("#/").split("/"):
        key = text.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return False
    return True
