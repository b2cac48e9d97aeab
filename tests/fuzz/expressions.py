"""Campaign: expressions of all kinds over awkward data, with pointers on the way."""

from __future__ import annotations

import contextlib
import copy
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_allma.engine import RunInfo, RunState
from airflow_allma.engine.mappings import InputPlan, OutputPlan
from airflow_allma.exceptions import (
    ExpressionEvaluationError,
    ExpressionSyntaxError,
    ObjectNotFoundError,
)
from airflow_allma.expressions import (
    NOTHING,
    compile_condition,
    compile_config,
    compile_context_mappings,
    compile_path,
    compile_target,
    compile_template,
)
from tests.fuzz import awkward, expression_grammar
from tests.fuzz.campaign import Campaign, UnlocatedError, WrongError

MAX_MESSAGE = 1_500
"""Characters of an error: a sentence and a part of the expression."""

MAX_EXPRESSION = 10_000
"""Of a longer one an error has only the beginning."""

INFO = RunInfo("flow", 1, "run-1", "2026-03-01T00:00:00.000Z")
LOG = logging.getLogger("tests.fuzz")
JSON_CLASSES = (dict, list, str, int, float, bool, type(None))


@dataclass(frozen=True)
class Case:
    """An expression and its data.

    Attributes:
        kind: which language.
        source: the expression; a JSON value for configs and context mappings.
        data: the context.
        stored: the content of each object, by key.
        value: what an assignment sets.
    """

    kind: str
    source: Any
    data: dict[str, Any]
    stored: dict[str, Any]
    value: Any

    def load(self, pointer: Mapping[str, Any]) -> Any:
        """Load a pointer's content, as the engine's loader does."""
        key = pointer.get("key")
        if not isinstance(key, str) or key not in self.stored:
            raise ObjectNotFoundError(f"{key!r} does not exist")
        return self.stored[key]


def make(rng: random.Random) -> Case:
    kind = rng.choice(tuple(_KINDS))
    source: Any = _SOURCES[kind](rng)
    if kind in _COMPILERS and rng.random() < 0.6:
        source = _mostly_valid(rng, _SOURCES[kind], _COMPILERS[kind])
    elif isinstance(source, str) and rng.random() < 0.7:
        source = expression_grammar.mutate(rng, source)
    if isinstance(source, str) and rng.random() < 0.05:
        source = expression_grammar.long_expression(rng)
    # Small data: what grows with the data has its own tests, and the campaign looks for errors.
    data = {name: _value(rng) for name in expression_grammar.PLAIN_NAMES if rng.random() < 0.5}
    if rng.random() < 0.5:
        data["items"] = [_value(rng) for _ in range(rng.randrange(4))]
    stored = {key: _value(rng) for key in ("k", "l", "loop") if rng.random() < 0.8}
    return Case(kind, source, data, stored, _value(rng))


def _value(rng: random.Random) -> Any:
    value = awkward.value(rng, 3, _key)
    return _with_pointers(rng, value) if rng.random() < 0.5 else value


def _key(rng: random.Random) -> str:
    names = expression_grammar.PLAIN_NAMES if rng.random() < 0.6 else expression_grammar.NAMES
    return rng.choice(names)


def _with_pointers(rng: random.Random, value: Any) -> Any:
    """Return a value in which some members are pointers, whole and broken ones."""
    if rng.random() < 0.3:
        pointer: Any = {"bucket": "b", "key": rng.choice(("k", "l", "loop", "missing"))}
        if rng.random() < 0.2:
            pointer = rng.choice(
                ({}, {"bucket": 1, "key": None}, {"Bucket": "b"}, None, "s3://b/k", [pointer])
            )
        return {"_s3_output_pointer": pointer, **({"a": value} if rng.random() < 0.3 else {})}
    if isinstance(value, dict):
        return {key: _with_pointers(rng, member) for key, member in value.items()}
    if isinstance(value, list):
        return [_with_pointers(rng, element) for element in value]
    return value


def check(case: Case, folder: Path) -> str:
    before = copy.deepcopy((case.data, case.stored))
    try:
        result = _KINDS[case.kind](case)
    except ExpressionSyntaxError as error:
        if not 0 <= error.position <= len(error.expression):
            raise UnlocatedError(f"a syntax error outside of its expression: {error}") from error
        is_short = isinstance(case.source, str) and len(case.source) <= MAX_EXPRESSION
        if is_short and error.expression != case.source:
            raise UnlocatedError(f"a syntax error of another expression: {error}") from error
        _check_message(str(error).replace("\n", " "))
        return f"{case.kind}: syntax error"
    except (ExpressionEvaluationError, ObjectNotFoundError) as error:
        _check_message(str(error))
        return f"{case.kind}: not evaluated"
    if case.kind not in _ASSIGNS and (case.data, case.stored) != before and _is_comparable(before):
        raise WrongError("the data was changed")
    if result is not NOTHING:
        _check_json(result)
    return f"{case.kind}: {'nothing' if result is NOTHING else 'result'}"


def _check_message(message: str) -> None:
    if len(message) > MAX_MESSAGE:
        raise UnlocatedError(f"an error that is too long: {len(message)} characters: {message[:300]}")


def _is_comparable(value: Any) -> bool:
    return value == value  # noqa: PLR0124 - NaN is not


def _check_json(result: Any) -> None:
    waiting = [result]
    while waiting:
        part = waiting.pop()
        if part.__class__ not in JSON_CLASSES:
            raise WrongError(f"a result that is not JSON: {type(part)}")
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _assign(case: Case) -> Any:
    path = compile_path(case.source)
    before = copy.deepcopy(case.data)
    shared = path.assign_shared(case.data, copy.deepcopy(case.value), case.load)
    if case.data != before and _is_comparable(before):
        raise WrongError("assign_shared changed its data")
    path.assign(case.data, case.value, case.load)
    if case.data != shared and _is_comparable(shared):
        raise WrongError("assign and assign_shared differ")
    return case.data


def _input(case: Case) -> Any:
    plan = InputPlan(case.source["inputMappings"], case.source["literals"])
    return plan.build(case.data, INFO, case.load, LOG)


def _output(case: Case) -> Any:
    state = RunState(None, case.data)
    OutputPlan("step", case.source["outputMappings"]).apply(
        state,
        case.value,
        step_input=case.stored,
        meta=NOTHING,
        whole=case.value,
        load=case.load,
        log=LOG,
    )
    return state.context


def _target(case: Case) -> Any:
    compile_target(case.source).assign(case.data, case.value)
    return case.data


_KINDS: dict[str, Callable[[Case], Any]] = {
    "path": lambda case: compile_path(case.source).find(case.data, case.load),
    "assignment": _assign,
    "condition": lambda case: compile_condition(case.source).matches(case.data, case.load),
    "template": lambda case: compile_template(case.source).render(case.data, case.load),
    "config": lambda case: compile_config(case.source).render(case.data, case.load),
    "mappings": lambda case: compile_context_mappings(case.source).resolve(case.data, case.load),
    "target": _target,
    "input": _input,
    "output": _output,
}
_ASSIGNS = frozenset({"assignment", "target"})


def _named(
    rng: random.Random,
    name: tuple[Callable[[random.Random], Any], Callable[[Any], Any]],
    value: tuple[Callable[[random.Random], Any], Callable[[Any], Any]],
) -> dict[str, Any]:
    """Return members that are mostly valid: one that is not would hide what the others do."""
    return {_mostly_valid(rng, *name): _mostly_valid(rng, *value) for _ in range(rng.choice((0, 1, 2, 3)))}


def _mostly_valid(
    rng: random.Random, make_one: Callable[[random.Random], Any], compile_one: Callable[[Any], Any]
) -> Any:
    for _ in range(6):
        made = make_one(rng)
        with contextlib.suppress(ExpressionSyntaxError):
            compile_one(made)
            break
    return made


_PATH = (expression_grammar.path, compile_path)
_TARGET = (expression_grammar.target, compile_target)
_CONFIG = (expression_grammar.config, compile_config)


def _mappings(rng: random.Random) -> dict[str, Any]:
    return {
        rng.choice(expression_grammar.NAMES): {
            "sourceJsonPath": expression_grammar.path(rng),
            "formatAs": rng.choice(("RAW", "JSON", "CUSTOM_STRING", None)),
            "selectFields": rng.choice((None, None, [], ["a", "b"])),
            "itemTemplate": expression_grammar.template(rng),
            "joinSeparator": rng.choice((None, ", ", "")),
        }
        for _ in range(rng.choice((1, 1, 2)))
    }


_COMPILERS: dict[str, Callable[[Any], Any]] = {
    "path": compile_path,
    "assignment": compile_path,
    "condition": compile_condition,
    "template": compile_template,
    "config": compile_config,
    "mappings": compile_context_mappings,
    "target": compile_target,
}

_SOURCES: dict[str, Callable[[random.Random], Any]] = {
    "path": expression_grammar.path,
    "assignment": expression_grammar.path,
    "condition": expression_grammar.condition,
    "template": expression_grammar.template,
    "config": expression_grammar.config,
    "mappings": _mappings,
    "target": expression_grammar.target,
    "input": lambda rng: {
        "inputMappings": _named(rng, _TARGET, _PATH),
        "literals": _named(rng, _TARGET, _CONFIG),
    },
    "output": lambda rng: {
        "outputMappings": _named(rng, _PATH, _PATH),
    },
}

CAMPAIGN = Campaign("expressions", make, check)
