"""Input mappings, literals and output mappings, compiled once a step."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from airflow_allma.common.merging import merge_deep
from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.engine.state import STATE_KEYS, RunInfo, RunState, member_path, state_view
from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions import (
    NOTHING,
    LoadPointer,
    Target,
    compile_config,
    compile_path,
    compile_target,
    copy_value,
)

__all__ = ["InputPlan", "OutputPlan", "mentions_state", "step_output_path"]

_META: Final = re.compile(r"""\s*\$(\._meta|\['_meta'\]|\["_meta"\])\s*($|[.\[])""")
_OUTPUT: Final = re.compile(r"""\s*\$(\.output|\['output'\]|\["output"\])\s*($|[.\[])""")


def mentions_state(text: str) -> bool:
    """Whether an expression can name the run's state, so that it must see more than the context."""
    return any(key in text for key in STATE_KEYS)


class InputPlan:
    """How a step's input (or a branch's first data) is made from the context.

    Args:
        mappings: dotted target <- JSONPath.
        literals: dotted target <- value that may hold templates; set over what the mappings gave.
    """

    __slots__ = ("_constants", "_flat", "_literals", "_mappings", "_needs_state", "is_empty")

    def __init__(self, mappings: Mapping[str, str], literals: Mapping[str, Any]) -> None:
        self._mappings = [
            (target, compile_path(source).find, source, compile_target(target))
            for target, source in sorted(mappings.items())
        ]
        self._needs_state = any(map(mentions_state, mappings.values()))
        self._literals = [
            (compile_target(target), target, compile_config(value)) for target, value in literals.items()
        ]
        self._flat = not any(mark in target for target in (*mappings, *literals) for mark in ".[")
        self._constants: dict[str, Any] = {}
        if self._flat and all(
            config.is_static and not isinstance(literals[target], dict | list)
            for _, target, config in self._literals
        ):
            # Nothing to render, to copy or to merge: all of them are set at once.
            self._constants = {target: config.render({}) for _, target, config in self._literals}
            self._literals = []
        self.is_empty = not mappings and not literals

    def build(
        self,
        context: Mapping[str, Any],
        info: RunInfo,
        load: LoadPointer,
        log: logging.Logger,
    ) -> dict[str, Any]:
        """The input.

        Mappings see the run's state below the context; literals see it above the context, and the input made
        so far on top. A source that finds nothing, or cannot be evaluated, leaves its target unset.
        """
        made: dict[str, Any] = {}
        flat = self._flat
        seen = {**state_view(info, context), **context} if self._needs_state else context
        for name, find, source, target in self._mappings:
            try:
                value = find(seen, load)
            except ExpressionEvaluationError as error:
                log.warning("Input %r <- %r is left out: %s", name, source, error)
                continue
            kind = value.__class__
            if kind is dict or kind is list:
                value = copy_value(value)
            elif value is NOTHING:
                continue
            if flat:
                made[name] = value
            else:
                target.assign(made, value)
        made |= self._constants
        for target, name, config in self._literals:
            if config.is_static:
                value = config.render({}, load)
            else:
                value = config.render({**context, **state_view(info, context), **made}, load)
            _set_literal(made, target, name, value, flat=flat)
        return made


def _set_literal(made: dict[str, Any], target: Target, name: str, value: Any, *, flat: bool) -> None:
    if value is NOTHING:
        return
    if isinstance(value, dict):
        # An object joins what mapped keys have put below the same target.
        held = made.get(name) if flat else compile_path(_as_path(name)).find(made)
        if isinstance(held, dict):
            value = merge_deep(held, value)
    if flat:
        made[name] = value
    else:
        target.assign(made, value)


def _as_path(target: str) -> str:
    return f"$.{target}" if not target.startswith("[") else f"${target}"


def step_output_path(step_id: str) -> str:
    """Where a step's output goes when the step does not say: ``$.steps_output.<id>``."""
    return member_path("$.steps_output", step_id)


class OutputPlan:
    """How a step's output gets into the context.

    Args:
        step_id: names the default target.
        mappings: context JSONPath <- output JSONPath; None is the default, an empty object maps nothing.
        falls_back_to_input: whether a source that the output lacks is looked up in the step's input.
    """

    __slots__ = ("_entries", "_falls_back", "_step_id", "is_default", "maps_output")

    def __init__(
        self, step_id: str, mappings: Mapping[str, str] | None, *, falls_back_to_input: bool = True
    ) -> None:
        self.is_default = mappings is None
        if mappings is None:
            mappings = {step_output_path(step_id): "$"}
        self._step_id = step_id
        self._falls_back = falls_back_to_input
        self._entries: list[tuple[str, str, Callable[..., Any], bool, bool]] = [
            (
                target,
                source,
                compile_path(source).find,
                compile_path(source).is_root,
                _META.match(source) is not None,
            )
            for target, source in mappings.items()
        ]
        self.maps_output = any(_OUTPUT.match(target) for target in mappings)

    def apply(
        self,
        state: RunState,
        output: Any,
        *,
        step_input: Mapping[str, Any],
        meta: Any,
        whole: Any,
        load: LoadPointer,
        log: logging.Logger,
    ) -> None:
        """Write the output into the state's context.

        Args:
            state: gets a new context.
            output: without ``_meta``; null, false, 0 and "" count as an empty object.
            step_input: where sources are looked up that the output lacks.
            meta: the output's ``_meta``, for sources that name it; NOTHING when it had none.
            whole: what ``$`` stands for: the output, or the pointer that took its place.
            load: loads pointers on the way.
            log: gets a warning for each source that is nowhere.
        """
        output = _or_object(output)
        whole = _or_object(whole)
        if self.is_default and state.journal is None and self._write_default(state, whole):
            return
        for target, source, find, is_root, is_meta in self._entries:
            try:
                if is_root:
                    value = whole
                elif is_meta:
                    value = find({"_meta": meta} if meta is not NOTHING else {}, load)
                else:
                    value = find(output, load)
                    if value is NOTHING and self._falls_back:
                        value = find(step_input, load)
                if value is NOTHING:
                    log.warning(
                        "Step %s: %s finds nothing in the output; %s stays as it is",
                        self._step_id,
                        source,
                        target,
                    )
                    continue
                state.write(target, value, load)
            except ExpressionEvaluationError as error:
                log.warning("Step %s: %s <- %s is left out: %s", self._step_id, target, source, error)
        if self.maps_output:
            # Meant is enough: a branch whose mapping finds nothing yields an empty object, as recorded.
            state.output_mapped = True

    def _write_default(self, state: RunState, whole: Any) -> bool:
        """The write that most steps make, without the general machinery; False where that is needed."""
        context = state.context
        held = context.get("steps_output")
        if held.__class__ is not dict or POINTER_KEY in held:
            return False
        state.context = {**context, "steps_output": {**held, self._step_id: whole}}
        return True


def _or_object(output: Any) -> Any:
    # An empty list is a value, as it is in JavaScript.
    return output if output or output.__class__ is list else {}
