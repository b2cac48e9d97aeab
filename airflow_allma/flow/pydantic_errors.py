"""The model library's errors as sentences for people who write flows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import Diagnostic, Path, quoted
from airflow_allma.flow.model_base import NAME_PATTERN, URL_PATTERN
from airflow_allma.flow.models import AirflowOptions
from airflow_allma.flow.normalize import MESSAGING, own_steps
from airflow_allma.flow.steps import ForkAirflowOptions, StepType

__all__ = ["diagnostics_of"]

_STEP_TYPES = frozenset(map(str, StepType))
_WORDS = re.compile(r"\w+")
_AIRFLOW_KEYS = frozenset(field.alias or name for name, field in AirflowOptions.model_fields.items())
_FORK_AIRFLOW_KEYS = frozenset(field.alias or name for name, field in ForkAirflowOptions.model_fields.items())

_JSON_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (str, "a text"),
    (int, "a whole number"),
    (float, "a number"),
    (dict, "an object"),
    (list, "a list"),
    (tuple, "a list"),
)


def diagnostics_of(error: ValidationError, document: Any) -> list[Diagnostic]:
    """Every error of a validation, each at its path in the document.

    Args:
        error: what the model said.
        document: the JSON value that was validated, as it was written.
    """
    return [
        finding for one in error.errors(include_url=False) for finding in [_finding(one, document)] if finding
    ]


def _finding(error: ErrorDetails, document: Any) -> Diagnostic | None:
    path = _written_path(error["loc"], document)
    kind, given = error["type"], error["input"]
    field = str(path[-1]) if path else "the file"
    if kind == "union_tag_not_found":
        return Diagnostic(
            (*path, "stepType"), "`stepType` is missing; it says what the step does, for example NO_OP"
        )
    if kind == "union_tag_invalid":
        return _step_type(path, given)
    if kind == "missing":
        return Diagnostic(path, f"{quoted(field)} is missing; add it")
    if kind == "extra_forbidden":
        return Diagnostic(path, _unknown_airflow_key(path), at_key=True)
    if given is None:
        return Diagnostic(path, f"{_wanted(error)}, not null; or leave the field out")
    return Diagnostic(path, f"{_wanted(error)}{_instead(kind, given, error)}")


def _step_type(path: Path, step: Mapping[str, Any]) -> Diagnostic | None:
    given = step.get("stepType")
    if given == MESSAGING:
        return None  # the rule about its module says more
    where = (*path, "stepType")
    if not isinstance(given, str):
        return Diagnostic(where, f"must be a text{_instead('string_type', given, None)}")
    guess = nearest(given, _STEP_TYPES | {MESSAGING})
    mend = f"did you mean {quoted(guess)}?" if guess else f"the types are {', '.join(sorted(_STEP_TYPES))}"
    return Diagnostic(where, f"{quoted(given)} is no step type; {mend}")


def _unknown_airflow_key(path: Path) -> str:
    field = str(path[-1])
    keys = _AIRFLOW_KEYS if path[:1] == ("airflow",) else _FORK_AIRFLOW_KEYS
    guess = nearest(field, keys)
    mend = f"did you mean {quoted(guess)}?" if guess else f"the keys are {', '.join(sorted(keys))}"
    return f"{quoted(field)} is no key of `airflow`; {mend}"


def _bound(words: str, key: str) -> Callable[[Mapping[str, Any]], str]:
    def sentence(context: Mapping[str, Any]) -> str:
        limit = context[key]
        return words.format(int(limit) if isinstance(limit, float) and limit.is_integer() else limit)

    return sentence


def _one_of(context: Mapping[str, Any]) -> str:
    return f"must be {str(context['expected']).replace(chr(39), '')}"


def _own_words(context: Mapping[str, Any]) -> str:
    return str(context["error"])


# Every pattern that a model asks for, in words.
_PATTERNS = {
    NAME_PATTERN: "may hold letters, digits, `_` and `-` only",
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
    "string_type": lambda _: "must be a text, in double quotes",
    "tuple_type": lambda _: "must be a list, [ ... ]",
    "value_error": _own_words,
}
# Errors about a value, not about its type: the value itself helps to see what is meant.
_ABOUT_NUMBERS = frozenset(
    {"greater_than", "greater_than_equal", "less_than_equal", "int_type", "float_type"}
)
_ABOUT_WORDS = frozenset({"enum", "literal_error", "value_error"})


def _wanted(error: ErrorDetails) -> str:
    sentence = _SENTENCES.get(error["type"])
    return sentence(error.get("ctx", {})) if sentence else error["msg"]


def _instead(kind: str, given: Any, error: ErrorDetails | None) -> str:
    if kind in _ABOUT_NUMBERS and isinstance(given, int | float) and not isinstance(given, bool):
        return f"; {str(given)[:40]} is not"
    if kind in _ABOUT_WORDS and isinstance(given, str) and error is not None:
        guess = nearest(given, _WORDS.findall(_wanted(error)))
        return f", not {quoted(given)}" + (f"; did you mean {quoted(guess)}?" if guess else "")
    if kind.endswith(("_type", "_error")):
        names = [name for json_type, name in _JSON_NAMES if isinstance(given, json_type)]
        return f", not {names[0]}" if names else ", not null"
    return ""


def _written_path(location: tuple[int | str, ...], document: Any) -> Path:
    """Where an error's location is in the document as it was written.

    The models see step types as a level of their own and a branch's list of steps as a map.
    """
    path: list[int | str] = []
    at = document
    for index, segment in enumerate(location):
        if segment in _STEP_TYPES and index >= 2 and location[index - 2] == "steps":
            continue
        step: int | str = segment
        if isinstance(at, list) and isinstance(segment, str):
            step = next((place for step_id, place, _ in own_steps(at) if step_id == segment), segment)
        path.append(step)
        if isinstance(at, dict):
            at = at.get(step) if isinstance(step, str) else None
        else:
            at = at[step] if isinstance(at, list) and isinstance(step, int) and step < len(at) else None
    return tuple(path)
