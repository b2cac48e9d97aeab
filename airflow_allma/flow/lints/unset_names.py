"""Names that nothing sets and that are near to one that is set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from airflow_allma.common.misspelling import SpellingIndex, differ_in_one_letter
from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import quoted
from airflow_allma.flow.expression_fields import Kind, Root
from airflow_allma.flow.lints.flow_names import ROOTS, first_name
from airflow_allma.flow.lints.lint import FlowView, Read, Warnings, lint, warning
from airflow_allma.flow.state_names import STATE_NAMES

__all__ = [
    "current_item_outside_of_branches",
    "names_inside_blocks",
    "start_point_names",
    "unset_payload",
    "unset_roots",
    "unset_targets",
    "unset_variables",
]

# Shorter names of the run's state are also names that payloads have.
_LONG_STATE: Final = tuple(name for name in STATE_NAMES if len(name) >= 14)
_FIXED: Final = (*ROOTS, *_LONG_STATE)
_ALWAYS_SET: Final = frozenset({*ROOTS, *STATE_NAMES})
_MIN_SHORT: Final = 3
_MAX_SHORT: Final = 6
_NOT_LETTERS: Final = re.compile(r"[^a-z0-9]")
_OUTPUTS: Final = re.compile(r"(steps?|step_?)?(outputs?|results?)|steps?", re.IGNORECASE)
_SHORT_FORMS: Final = {"flowvars": "flow_variables", "stepoutputs": "steps_output"}


@lint()
def unset_roots(view: FlowView) -> Warnings:
    """Yield names at the root that nothing sets and that look like a misspelled one that is set."""
    unset = {read.names[0] for read in _of_context(view)} - _ALWAYS_SET - view.names.roots
    if not unset:
        return
    known = SpellingIndex(view.names.roots)
    guesses = {name: _fixed().find(name) or known.find(name) for name in unset}
    own: dict[object, SpellingIndex] = {}
    for read in _of_context(view):
        name = read.names[0]
        if name not in unset or name in (inputs := view.names.inputs_of(read.step)):
            continue
        guess = guesses[name]
        if guess is None and inputs and read.step is not None:
            if read.step.path not in own:
                own[read.step.path] = SpellingIndex(inputs)
            guess = own[read.step.path].find(name)
        if guess is not None:
            yield warning(read.path, f"nothing sets {quoted(name)}; did you mean {quoted(guess)}?")
        elif step_id := _named_step(view, read):
            yield warning(
                read.path,
                f"nothing sets {quoted(name)}; the output of step {quoted(step_id)} is at "
                f"`{_written_as(read, ('steps_output', step_id))}`",
            )


@lint(expressions=(Kind.PATH_KEYS,))
def unset_targets(view: FlowView) -> Warnings:
    """Yield targets of output mappings that look like a misspelled name of the context."""
    fixed = _fixed()
    for step in view.steps:
        for target in view.names.targets.get(step.path, ()):
            name = first_name(target.removeprefix("$").removeprefix("."))
            if name not in ROOTS and (guess := fixed.find(name)):
                yield warning(
                    (*step.path, "outputMappings", target),
                    f"this sets a new name, {quoted(name)}; did you mean {quoted(guess)}?",
                    at_key=True,
                )


@lint(names=("flow_variables",))
def unset_variables(view: FlowView) -> Warnings:
    """Yield flow variables that nothing sets and that look like a misspelled one that is set."""
    known = SpellingIndex(view.names.variables)
    by_letters = {_letters(name): name for name in view.names.variables}
    for read in _of_context(view):
        if read.names[0] != "flow_variables" or not read.names[1:] or read.names[1] in view.names.variables:
            continue
        guess = by_letters.get(_letters(read.names[1])) or known.find(read.names[1]) or _short(view, read)
        if guess is not None:
            yield warning(
                read.path,
                f"`flowVariables` has no {quoted(read.names[1])}; did you mean {quoted(guess)}?",
            )


def _short(view: FlowView, read: Read) -> str | None:
    """Return a variable with a short name that is nearly the one that is read, and that nothing reads."""
    own = view.flow.get("flowVariables")
    names: list[str] = list(own) if isinstance(own, dict) else []
    for name in names:
        if _MIN_SHORT <= len(name) <= _MAX_SHORT and differ_in_one_letter(name, read.names[1]):
            is_read = any(
                one.names[:2] == ("flow_variables", name) or one.names == ("flow_variables",)
                for one in view.reads
            )
            if not is_read:
                return name
    return None


@lint(names=("initialContextData",))
def unset_payload(view: FlowView) -> Warnings:
    """Yield names in ``initialContextData`` that look like a misspelled one of the payload's schema."""
    known = SpellingIndex(view.names.payload)
    for read in _of_context(view):
        if read.names[0] == "initialContextData" and read.names[1:] and (guess := known.find(read.names[1])):
            yield warning(
                read.path,
                f"the payload's schema has no {quoted(read.names[1])}; did you mean {quoted(guess)}?",
            )


@lint(kinds=("SCHEDULE_START_POINT",))
def start_point_names(view: FlowView) -> Warnings:
    """Yield what start points read besides the flow's own variables: there is no payload yet."""
    for read in view.reads:
        if read.expression.root is not Root.VARIABLES or read.in_block or read.step is None:
            continue
        if read.names[0] != "flow_variables":
            yield warning(
                read.path,
                f"nothing sets {quoted(read.names[0])} here; only `flow_variables` exist before a run begins",
            )
        elif read.names[1:] and read.names[1] not in view.names.variables:
            guess = nearest(read.names[1], view.names.variables)
            fix = f"did you mean {quoted(guess)}?" if guess else "add it there"
            yield warning(read.path, f"`flowVariables` has no {quoted(read.names[1])}; {fix}")


@lint(names=("currentItem",))
def current_item_outside_of_branches(view: FlowView) -> Warnings:
    """Yield steps that read ``currentItem`` although no branch leads to them."""
    order = view.order
    forks = [step for step in order.steps if step.step.get("parallelBranches")]
    if not order.has_start or "currentItem" in view.names.roots:
        return
    outside = "no branch leads to this step" if forks else "this flow has no fork"
    in_branches = order.reached_from(
        [edge.target for fork in forks for edge in order.edges[fork.path] if edge.is_branch]
    )
    for read in _of_context(view):
        step = read.step
        if step is None or read.names[0] != "currentItem" or step.path in in_branches:
            continue
        if "parallelBranches" in read.path[len(step.path) :] or step.path not in order.reachable:
            continue
        if "currentItem" not in view.names.inputs_of(step):
            yield warning(
                read.path,
                f"`currentItem` exists only in the branches of a fork, and {outside}",
            )


@lint(names=ROOTS)
def names_inside_blocks(view: FlowView) -> Warnings:
    """Yield names of the root that a template reads inside a block, where names begin at the item."""
    for read in view.reads:
        if read.in_block and read.names[0] in ROOTS and read.expression.root is Root.CONTEXT:
            name = ".".join(read.names)
            yield warning(
                read.path,
                f"inside `{{{{#each}}}}` and `{{{{#with}}}}` names begin at the item, so "
                f"{quoted('{{' + name + '}}')} is empty; write {quoted('{{@root.' + name + '}}')}",
            )


def _of_context(view: FlowView) -> Iterator[Read]:
    for read in view.reads:
        if read.expression.root is Root.CONTEXT and not read.in_block:
            yield read


def _letters(name: str) -> str:
    return _NOT_LETTERS.sub("", name.lower())


class _Fixed:
    """Finds the fixed name of the context that a name is meant to be."""

    def __init__(self) -> None:
        self._by_letters = {_letters(name): name for name in _FIXED} | _SHORT_FORMS
        self._spelling = SpellingIndex(_FIXED)

    def find(self, name: str) -> str | None:
        letters = _letters(name)
        for candidate in (letters, letters.removesuffix("s"), f"{letters}s"):
            if guess := self._by_letters.get(candidate):
                return guess
        return self._spelling.find(name) or self._near(name)

    def _near(self, name: str) -> str | None:
        # Two letters may differ in a name as long as these.
        if not any(root[:2].casefold() == name[:2].casefold() for root in ROOTS):
            return None
        guess = nearest(name, ROOTS)
        return (
            guess
            if guess is not None and abs(len(guess) - len(name)) <= 2 and _is_close(name, guess)
            else None
        )


@cache
def _fixed() -> _Fixed:
    return _Fixed()


def _is_close(name: str, known: str) -> bool:
    short, long = sorted((_letters(name), _letters(known)), key=len)
    rest = iter(long)
    missing = len(long) - sum(letter in rest for letter in short)
    return missing <= 2 and short[:2] == long[:2]


def _named_step(view: FlowView, read: Read) -> str | None:
    """Return the step whose output is meant by ``$.steps.<id>`` or by ``$.<id>.aggregatedData``."""
    outputs = {"aggregatedData": "PARALLEL_FORK_MANAGER", "data": "API_CALL"}
    kinds = {step.id: step.kind for step in view.steps}
    first, second = (*read.names, "", "")[:2]
    if _OUTPUTS.fullmatch(first) and second in kinds:
        return second
    if second in outputs and kinds.get(first) == outputs[second]:
        return first
    return None


def _written_as(read: Read, names: tuple[str, ...]) -> str:
    written = ".".join(names)
    return "{{" + written + "}}" if read.expression.kind is Kind.TEMPLATE else f"$.{written}"
