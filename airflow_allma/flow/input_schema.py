"""A flow's ``airflow.inputSchema``: whether it is valid, and whether a payload fits it.

The errors of jsonschema become sentences of one line. The schema refers to nothing outside of itself, and
nothing is ever fetched: it has an empty registry. The work of a check is bounded, at load as at run time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import islice
from typing import Any, Final

from airflow_allma.common.work_budget import DEFAULT_MAX_STEP_WORK, own_budget
from airflow_allma.exceptions import WorkLimitError
from airflow_allma.flow.diagnostics import Diagnostic, Path, json_path, quoted
from airflow_allma.flow.regex_cost import pattern_problem
from airflow_allma.flow.schema_tree import MAX_EXPANDED, SchemaTree, Subschema, expand
from airflow_allma.flow.schema_validator import bounded_validator, validator_class

__all__ = [
    "MAX_LOAD_WORK",
    "check_input_schema",
    "check_schema",
    "declared_properties",
    "fit_payload",
    "starts_by_itself",
    "takes_null",
]

MAX_LOAD_WORK: Final = 1_000_000
"""Units of work, see ``common.work_budget``, of a check when a file is loaded: up to two seconds."""

_SCHEMA_PATH: Final = ("airflow", "inputSchema")
_OLD_DIALECT: Final = re.compile(r"draft-0[34]")
_MAX_REASONS: Final = 10
_MAX_ERRORS: Final = 100
"""Errors that are read of a check; each has a copy of the value."""
_MAX_REASON_LENGTH: Final = 300


def check_input_schema(options: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield the errors in the schema of an ``airflow`` object, if it has one.

    Args:
        options: the flow's ``airflow`` object, as its file has it.
    """
    schema = options.get("inputSchema")
    if not isinstance(schema, dict):
        return
    problems = list(check_schema(schema))
    yield from problems
    if problems:
        return
    yield from _unfit_defaults(schema)
    if starts_by_itself(options):
        _, reasons = fit_payload(schema, {}, max_work=MAX_LOAD_WORK)
        for reason in reasons:
            yield Diagnostic(
                _SCHEMA_PATH,
                f"the flow has a schedule, and the empty payload of its runs does not match: {reason}; "
                "add a `default` to what is required",
            )


def starts_by_itself(options: Mapping[str, Any]) -> bool:
    """Return whether runs start without a payload: by time, by assets, or with the messages of a queue."""
    watch = options.get("watch")
    return options.get("schedule") is not None or (isinstance(watch, dict) and watch.get("maxMessages") != 1)


def check_schema(schema: dict[str, Any]) -> Iterator[Diagnostic]:
    """Yield why the schema of an object cannot be used, with paths as in a flow; nothing if it can.

    Only with a schema without problems, the work of checking a value is bounded.

    Args:
        schema: the schema, of any origin.
    """
    invalid = list(_invalid(schema, schema, _SCHEMA_PATH))
    yield from invalid
    if invalid:
        return
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        yield Diagnostic((*_SCHEMA_PATH, "type"), "a payload is an object; write `object`")
    tree = SchemaTree(schema, _SCHEMA_PATH)
    for elsewhere in tree.elsewhere:
        yield from _invalid(schema, elsewhere.schema, elsewhere.path)
    for subschema in tree.subschemas:
        yield from _references(tree, subschema)
        yield from _patterns(subschema)
    try:
        size, _ = expand(tree, schema)
    except RecursionError:
        yield Diagnostic(_SCHEMA_PATH, "the references of the schema are nested too deeply; use fewer")
        return
    if size > MAX_EXPANDED:
        yield Diagnostic(
            _SCHEMA_PATH,
            f"the references of the schema multiply to more than {MAX_EXPANDED} subschemas; refer to each "
            "definition fewer times",
        )


def _invalid(root: dict[str, Any], schema: Any, path: Path) -> Iterator[Diagnostic]:
    """Yield what is wrong with a schema by itself, in the dialect of the whole one."""
    validator = validator_class(root)
    try:
        errors = list(islice(validator(validator.META_SCHEMA).iter_errors(schema), _MAX_ERRORS))
    except RecursionError:
        yield Diagnostic(path, "the schema is nested too deeply; put parts of it into `$defs`")
        return
    for error in errors:
        yield Diagnostic((*path, *error.absolute_path), f"not a valid JSON Schema: {_short(error.message)}")


def _references(tree: SchemaTree, subschema: Subschema) -> Iterator[Diagnostic]:
    for path, reference in subschema.references():
        if not reference.startswith("#"):
            yield Diagnostic(
                path, f"{quoted(reference)} is outside of the schema; put it into `$defs` and refer to that"
            )
        elif not tree.find(reference):
            yield Diagnostic(path, f"{quoted(reference)} refers to nothing in the schema")
    # It would change what the references below it are relative to.
    keyword = "id" if _OLD_DIALECT.search(str(tree.root.get("$schema"))) else "$id"
    if subschema.schema is not tree.root and isinstance(subschema.schema.get(keyword), str):
        yield Diagnostic(
            (*subschema.path, keyword),
            f"only the whole schema can have `{keyword}`; remove it, and refer to `$defs`",
        )


def _patterns(subschema: Subschema) -> Iterator[Diagnostic]:
    pattern = subschema.schema.get("pattern")
    if isinstance(pattern, str) and (problem := pattern_problem(pattern)):
        yield Diagnostic((*subschema.path, "pattern"), problem)
    named = subschema.schema.get("patternProperties")
    for pattern in named if isinstance(named, dict) else ():
        if problem := pattern_problem(pattern):
            yield Diagnostic((*subschema.path, "patternProperties", pattern), problem, at_key=True)


def _unfit_defaults(schema: dict[str, Any]) -> Iterator[Diagnostic]:
    left = MAX_LOAD_WORK
    for name, part in declared_properties(schema).items():
        if not isinstance(part, dict) or "default" not in part:
            continue
        # All other properties are omitted: only what the schema says about this value counts.
        only = {key: value for key, value in schema.items() if key in _DEFINITION_KEYS}
        reasons, spent = _reasons({**only, "properties": {name: part}}, {name: part["default"]}, max(1, left))
        left -= spent
        for reason in reasons:
            yield Diagnostic(
                (*_SCHEMA_PATH, "properties", name, "default"),
                f"the default does not match its schema: {reason}",
            )


_DEFINITION_KEYS: Final = frozenset({"$schema", "$id", "$defs", "definitions"})


def fit_payload(
    schema: Mapping[str, Any], payload: Mapping[str, Any], *, max_work: int = DEFAULT_MAX_STEP_WORK
) -> tuple[dict[str, Any], list[str]]:
    """Return a payload with its defaults, and the reasons why it does not match the schema.

    Missing properties get their ``default``. A null that the schema does not accept is what Airflow's form
    makes of an empty field: the property counts as missing, unless it is required.

    Args:
        schema: a valid schema, see ``check_input_schema``.
        payload: what the run was started with.
        max_work: units of work, see ``common.work_budget``; a payload that needs more does not match.

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
    return filled, _reasons(schema, filled, max_work)[0]


def declared_properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema's properties: name -> schema (an object, true or false)."""
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def takes_null(schema: Mapping[str, Any], part: Any) -> bool:
    """Return whether a property of the schema can be null."""
    around = {key: value for key, value in schema.items() if key in _DEFINITION_KEYS}
    return not _reasons({**around, "properties": {"it": part}}, {"it": None}, MAX_LOAD_WORK)[0]


def _reasons(schema: Mapping[str, Any], payload: Any, max_work: int) -> tuple[list[str], int]:
    """Return why a payload does not match, and the units of work that finding it took."""
    from referencing.exceptions import Unresolvable

    validator = bounded_validator(schema)
    with own_budget(max_work) as budget:
        try:
            errors = list(islice(validator.iter_errors(payload), _MAX_ERRORS + 1))
        except RecursionError:
            return ["the schema refers to itself without end, or the payload is nested too deeply"], max_work
        except WorkLimitError:
            reason = "checking it takes too much work; use less data, or fewer references and alternatives"
            return [reason], max_work
        except Unresolvable as error:
            return [_short(f"the schema refers to something that does not exist: {error}")], max_work
        except Exception as error:  # noqa: BLE001 - jsonschema does not expect every JSON value
            return [_short(f"it cannot be checked: {type(error).__name__}: {error}")], max_work
        errors.sort(key=lambda error: [str(key) for key in error.path])
        reasons = [f"{json_path(tuple(error.absolute_path))}: {_short(error.message)}" for error in errors]
    more = len(reasons) - _MAX_REASONS
    if more > 0:
        several = f"{_MAX_ERRORS - _MAX_REASONS} or more" if len(errors) > _MAX_ERRORS else str(more)
        reasons = [*reasons[:_MAX_REASONS], f"and {several} more"]
    return reasons, budget.spent


def _short(message: str) -> str:
    # A message contains the value, which can be of any length.
    if len(message) <= _MAX_REASON_LENGTH:
        return message
    half = _MAX_REASON_LENGTH // 2
    return f"{message[:half]} ... {message[-half:]}"
