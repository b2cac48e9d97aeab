"""The errors of pydantic as sentences for people who write flows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import Diagnostic, Path, quoted
from airflow_allma.flow.event_options import AssetSchedule, Watch
from airflow_allma.flow.field_homes import Place, fields_of, home_of
from airflow_allma.flow.model_base import NAME_PATTERN, URL_PATTERN
from airflow_allma.flow.models import AirflowOptions
from airflow_allma.flow.normalize import MESSAGING, own_steps
from airflow_allma.flow.notify_options import Deadline, Notification
from airflow_allma.flow.steps import ForkAirflowOptions, StepType, SubFlowAirflowOptions

__all__ = ["diagnostics_of"]

_STEP_TYPES = frozenset(map(str, StepType))
# Words of other systems.
_OTHER_TYPES = {
    **dict.fromkeys(("API", "HTTP", "HTTP_CALL", "HTTP_REQUEST", "REST", "REST_CALL"), "API_CALL"),
    **dict.fromkeys(("FOREACH", "FORK", "MAP", "PARALLEL", "PARALLEL_FORK"), "PARALLEL_FORK_MANAGER"),
    **dict.fromkeys(("END", "FINISH", "STOP", "SUCCEED"), "END_FLOW"),
    **dict.fromkeys(("TRANSFORM", "TRANSFORMATION"), "DATA_TRANSFORMATION"),
    **dict.fromkeys(("LOAD", "S3_LOAD"), "DATA_LOAD"),
    **dict.fromkeys(("SAVE", "S3_SAVE"), "DATA_SAVE"),
    **dict.fromkeys(("CRON", "SCHEDULE"), "SCHEDULE_START_POINT"),
    **dict.fromkeys(("SEND_MESSAGE", "SQS"), "SQS_SEND"),
    **dict.fromkeys(("PUBLISH", "SNS"), "SNS_PUBLISH"),
    **dict.fromkeys(("AWS_LAMBDA", "FUNCTION", "LAMBDA"), "CUSTOM_LAMBDA_INVOKE"),
    **dict.fromkeys(("MAIL", "SES", "SMTP"), "EMAIL"),
    **dict.fromkeys(("DOWNLOAD", "HTTP_DOWNLOAD"), "FILE_DOWNLOAD"),
    **dict.fromkeys(("CUSTOM", "PYTHON"), "CUSTOM_LOGIC"),
}
_WORDS = re.compile(r"\w+")
_AIRFLOW_KEYS = fields_of(AirflowOptions)
_FORK_AIRFLOW_KEYS = fields_of(ForkAirflowOptions)
_SUB_FLOW_AIRFLOW_KEYS = fields_of(SubFlowAirflowOptions)
_KEYS_WITHIN: Mapping[int | str, frozenset[str]] = {
    "deadline": fields_of(Deadline),
    "notify": fields_of(Notification),
    "schedule": fields_of(AssetSchedule),
    "watch": fields_of(Watch),
}

_JSON_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (str, "a string"),
    (int, "a whole number"),
    (float, "a number"),
    (dict, "an object"),
    (list, "a list"),
    (tuple, "a list"),
)


def diagnostics_of(error: ValidationError, document: Any) -> list[Diagnostic]:
    """Return every error of a validation, each at its path in the document.

    Args:
        error: pydantic's error.
        document: the JSON value that was validated, as its file has it.
    """
    located = [_Located(detail, *_path_in(document, detail)) for detail in error.errors(include_url=False)]
    diagnostics = (_diagnostic(one.error, one.path) for one in _of_fitting_members(located))
    return [detail for detail in diagnostics if detail is not None]


class _Located(NamedTuple):
    """An error, its path in the document, and the path of the value that is a union, if it is about one."""

    error: ErrorDetails
    path: Path
    union: Path | None


def _of_fitting_members(errors: list[_Located]) -> Iterator[_Located]:
    """Leave out that a value is not of another type of a union: only the type that it has was meant."""
    deeper = {one.union for one in errors if one.union is not None and one.path != one.union}
    reported: set[Path] = set()
    for one in errors:
        if one.union is None or one.path != one.union:
            yield one
        elif one.union not in deeper and one.union not in reported:
            reported.add(one.union)
            yield one


def _diagnostic(error: ErrorDetails, path: Path) -> Diagnostic | None:
    kind, value = error["type"], error["input"]
    field = str(path[-1]) if path else "the file"
    if kind == "union_tag_not_found":
        return Diagnostic(
            (*path, "stepType"), "`stepType` is missing; it says what the step does, for example NO_OP"
        )
    if kind == "union_tag_invalid":
        return _wrong_step_type(path, value)
    if kind == "missing":
        return Diagnostic(path, f"{quoted(field)} is missing; add it")
    if kind == "extra_forbidden":
        return Diagnostic(path, _unknown_airflow_key(path, error["loc"]), at_key=True)
    if kind == "too_short" and value:
        return None  # its members are not valid, which is reported for each
    if value is None:
        return Diagnostic(path, f"{_expected(error)}, not null; or leave the field out")
    return Diagnostic(path, f"{_expected(error)}{_actual(kind, value, error)}{_example(kind, path)}")


def _wrong_step_type(path: Path, step: Mapping[str, Any]) -> Diagnostic | None:
    kind = step.get("stepType")
    if kind == MESSAGING:
        return None  # the rule about its module is more precise
    type_path = (*path, "stepType")
    if not isinstance(kind, str):
        return Diagnostic(type_path, f"must be a string{_actual('string_type', kind, None)}")
    guess = _OTHER_TYPES.get(kind.upper()) or nearest(kind, _STEP_TYPES | {MESSAGING})
    fix = f"did you mean {quoted(guess)}?" if guess else f"the types are {', '.join(sorted(_STEP_TYPES))}"
    return Diagnostic(type_path, f"{quoted(kind)} is not a step type; {fix}")


def _unknown_airflow_key(path: Path, loc: tuple[int | str, ...]) -> str:
    field, owner = str(path[-1]), "airflow"
    if path[:1] == ("airflow",):
        keys = _AIRFLOW_KEYS
    else:
        # The member of the union of step types that fits comes before the name of its field.
        is_fork = loc[-3:-2] == (StepType.PARALLEL_FORK_MANAGER.value,)
        keys = _FORK_AIRFLOW_KEYS if is_fork else _SUB_FLOW_AIRFLOW_KEYS
    if path[:1] == ("airflow",) and path[1] in _KEYS_WITHIN and len(path) > 2:
        keys, owner = _KEYS_WITHIN[path[1]], f"airflow.{path[1]}"
    if owner == "airflow" and (home := home_of(field, Place.AIRFLOW)):
        fix = f"write it {home}"
    elif guess := nearest(field, keys):
        fix = f"did you mean {quoted(guess)}?"
    else:
        fix = f"the keys are {', '.join(sorted(keys))}"
    return f"{quoted(field)} is not a key of `{owner}`; {fix}"


def _bound(words: str, key: str) -> Callable[[Mapping[str, Any]], str]:
    def sentence(context: Mapping[str, Any]) -> str:
        limit = context[key]
        return words.format(int(limit) if isinstance(limit, float) and limit.is_integer() else limit)

    return sentence


def _one_of(context: Mapping[str, Any]) -> str:
    words = str(context["expected"]).replace("'", "")
    # Without quotes it would be a number.
    return f'must be "{words}", in double quotes' if words[:1].isdigit() else f"must be {words}"


def _own_message(context: Mapping[str, Any]) -> str:
    return str(context["error"])


# Every pattern of the models, in words.
_PATTERNS = {
    NAME_PATTERN: "can contain only letters, digits, `_` and `-`",
    URL_PATTERN: "must be a URL that begins with `https://` or `http://`",
}


def _pattern(context: Mapping[str, Any]) -> str:
    return _PATTERNS.get(context["pattern"], "has the wrong form")


_SENTENCES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "bool_type": lambda _: "must be true or false, without quotes",
    "dict_type": lambda _: "must be an object, { ... }",
    "enum": _one_of,
    "float_type": lambda _: "must be a number, without quotes",
    "greater_than": _bound("must be above {}", "gt"),
    "greater_than_equal": _bound("must be {} or more", "ge"),
    "int_type": lambda _: "must be a whole number, without quotes",
    "less_than_equal": _bound("must be {} or less", "le"),
    "list_type": lambda _: "must be a list, [ ... ]",
    "literal_error": _one_of,
    "model_attributes_type": lambda _: "must be an object, { ... }",
    "model_type": lambda _: "must be an object, { ... }",
    "string_pattern_mismatch": _pattern,
    "string_too_short": lambda _: "must not be empty",
    "string_type": lambda _: "must be a string, in double quotes",
    "too_short": _bound("must have at least {} member", "min_length"),
    "tuple_type": lambda _: "must be a list, [ ... ]",
    "value_error": _own_message,
}
_EXAMPLES: Mapping[str, str] = {
    "aggregationConfig": '{"strategy": "COLLECT_ARRAY"}',
    "apiUrlTemplate": '{"template": "https://..."}',
    "contextMappings": '{"name": {"sourceJsonPath": "$.name"}}',
    "inputMappings": '{"name": "$.name"}',
    "onError": '{"retries": {"count": 3}}',
    "outputMappings": '{"$.name": "$"}',
    "outputValidation": '{"requiredFields": ["$.name"]}',
    "parallelBranches": '{"branchId": "one", "stepInstanceId": "..."}',
    "requestBodyTemplate": '{"name": {"sourceJsonPath": "$.name"}}',
    "retries": '{"count": 3}',
    "retryOnContentError": '{"count": 3}',
    "steps": '{"first": {"stepType": "NO_OP"}}',
    "transitions": '{"condition": "$.ok", "nextStepInstanceId": "..."}',
}
"""Field -> an object as it can be written there, or as a member of it."""
_OBJECTS = frozenset({"dict_type", "model_attributes_type", "model_type"})


def _example(kind: str, path: Path) -> str:
    """Return what to write where an object is expected."""
    if kind not in _OBJECTS or not path:
        return ""
    field = str(path[-1])
    if field in _EXAMPLES:
        return f"; for example `{_EXAMPLES[field]}`"
    around = str(path[-2]) if len(path) > 1 else ""
    if around in {"parallelBranches", "transitions"}:
        return f"; for example `{_EXAMPLES[around]}`"
    if around in {"contextMappings", "requestBodyTemplate"}:
        return '; for example `{"sourceJsonPath": "$.name"}`'
    return ""


# Errors about a value, not about its type: their messages show the value.
_ABOUT_NUMBERS = frozenset(
    {"greater_than", "greater_than_equal", "less_than_equal", "int_type", "float_type"}
)
_ABOUT_WORDS = frozenset({"enum", "literal_error", "value_error"})


def _expected(error: ErrorDetails) -> str:
    sentence = _SENTENCES.get(error["type"])
    return sentence(error.get("ctx", {})) if sentence else error["msg"]


def _actual(kind: str, value: Any, error: ErrorDetails | None) -> str:
    if kind in _ABOUT_NUMBERS and isinstance(value, int | float) and not isinstance(value, bool):
        return f"; {str(value)[:40]} is not"
    if kind in _ABOUT_WORDS and isinstance(value, str) and error is not None:
        guess = nearest(value, _WORDS.findall(_expected(error)))
        return f", not {quoted(value)}" + (f"; did you mean {quoted(guess)}?" if guess else "")
    if kind.endswith(("_type", "_error")):
        names = [name for json_type, name in _JSON_NAMES if isinstance(value, json_type)]
        return f", not {names[0]}" if names else ", not null"
    return ""


def _path_in(document: Any, error: ErrorDetails) -> tuple[Path, Path | None]:
    """Return the path in the document of an error, and that of the union which it is about, if any.

    Pydantic's locations have the step types, and the types of unions, as levels of their own, and a branch's
    list of steps is a map in the model.
    """
    location = error["loc"]
    path: list[int | str] = []
    union: Path | None = None
    at = document
    for index, segment in enumerate(location):
        if segment in _STEP_TYPES and index >= 2 and location[index - 2] == "steps":
            continue
        step: int | str = segment
        if isinstance(at, list) and isinstance(segment, str):
            step = next((key for step_id, key, _ in own_steps(at) if step_id == segment), segment)
        is_missing = error["type"] == "missing" and index == len(location) - 1
        if not is_missing and _is_type_of_union(step, at):
            union = tuple(path)
            continue
        path.append(step)
        if isinstance(at, dict):
            at = at.get(step) if isinstance(step, str) else None
        else:
            at = at[step] if isinstance(at, list) and isinstance(step, int) and step < len(at) else None
    return tuple(path), union


def _is_type_of_union(segment: int | str, value: Any) -> bool:
    """Return whether a segment of a location cannot be a key of the value, so that it names a type."""
    return isinstance(segment, str) and not (isinstance(value, dict) and segment in value)
