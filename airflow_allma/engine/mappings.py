"""Input mappings, literals and output mappings, compiled once per step."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from airflow_allma.common.merging import merge_deep
from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.engine.state import RunInfo, RunState, state_view
from airflow_allma.exceptions import ExpressionEvaluationError, WorkLimitError
from airflow_allma.expressions import (
    NOTHING,
    LoadPointer,
    Target,
    compile_config,
    compile_path,
    compile_target,
    copy_value,
)
from airflow_allma.expressions.targets import member_path
from airflow_allma.flow.state_names import STATE_NAMES

__all__ = ["InputPlan", "OutputPlan", "can_read_state", "mentions_state"]

_META: Final = re.compile(r"""\s*\$(\._meta|\['_meta'\]|\["_meta"\])\s*($|[.\[])""")
_PLAIN_PATH: Final = re.compile(r"\$\.([A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)*")
_PLAIN_LOOKUP: Final = re.compile(r"\{\{\s*([A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)*\s*\}\}")
_OUTPUT: Final = re.compile(r"""\s*\$(\.output|\['output'\]|\["output"\])\s*($|[.\[])""")


def mentions_state(expression: str) -> bool:
    """Return whether an expression can refer to the run's state, and so must see more than the context."""
    return any(key in expression for key in STATE_NAMES)


def can_read_state(source: str) -> bool:
    """Return whether a JSONPath or a template can read the run's state.

    Only plain lookups of other names, such as ``$.order.id`` and ``{{order.id}}``, certainly do not:
    ``{{json this}}`` names nothing and reads everything.
    """
    if source.startswith("$"):
        path = _PLAIN_PATH.fullmatch(source)
        return path is None or path[1] in STATE_NAMES
    names, rest = _PLAIN_LOOKUP.findall(source), _PLAIN_LOOKUP.sub("", source)
    return "{{" in rest or not STATE_NAMES.isdisjoint(names) or "this" in names


class InputPlan:
    """Compiled mappings that build a step's input (or a branch's initial data) from the context.

    Args:
        mappings: dotted target <- JSONPath.
        literals: dotted target <- value that can contain templates; literals override mappings.
        shares: whether mapped values may be those of the context itself, because nobody changes them.

    Attributes:
        is_empty: whether there are none.
        reads_run: whether ``build`` can read the run's state, or keep the context.
    """

    __slots__ = (
        "_constants",
        "_flat",
        "_literals",
        "_mappings",
        "_needs_state",
        "_shares",
        "is_empty",
        "reads_run",
    )

    def __init__(
        self, mappings: Mapping[str, str], literals: Mapping[str, Any], *, shares: bool = False
    ) -> None:
        self._mappings = [
            (target, compile_path(source).find, source, compile_target(target))
            for target, source in sorted(mappings.items())
        ]
        self._needs_state = any(map(mentions_state, mappings.values()))
        self._literals = [
            (compile_target(target), target, compile_config(value)) for target, value in literals.items()
        ]
        self._flat = not any(sign in target for target in (*mappings, *literals) for sign in ".[")
        # A longer target would be set inside of a value of the context.
        self._shares = shares and self._flat
        self._constants: dict[str, Any] = {}
        if self._flat and all(
            config.is_static and not isinstance(literals[target], dict | list)
            for _, target, config in self._literals
        ):
            # Nothing has to be rendered, copied or merged, so all of them are set at once.
            self._constants = {target: config.render({}) for _, target, config in self._literals}
            self._literals = []
        self.is_empty = not mappings and not literals
        self.reads_run = (
            self._needs_state or self._shares or not all(config.is_static for _, _, config in self._literals)
        )

    def build(  # noqa: PLR0917 - called for every step, and keywords take longer
        self,
        context: Mapping[str, Any],
        info: RunInfo,
        load: LoadPointer,
        log: logging.Logger,
        step_id: str | None = None,
        state: RunState | None = None,
    ) -> dict[str, Any]:
        """Return the input.

        For mappings, the context overrides the run's state. For literals, the run's state overrides the
        context, and the input built so far overrides both. A source that finds nothing, or cannot be
        evaluated, leaves its target unset.
        """
        built: dict[str, Any] = {}
        flat = self._flat
        root = {**state_view(info, context, step_id, state), **context} if self._needs_state else context
        for name, find, source, target in self._mappings:
            try:
                value = find(root, load)
            except ExpressionEvaluationError as error:
                log.warning("%s (input %r <- %r is not set)", error, name, source)
                continue
            kind = value.__class__
            if kind is dict or kind is list:
                if not self._shares:
                    value = _copied(value, name)
            elif value is NOTHING:
                continue
            if flat:
                built[name] = value
            else:
                target.assign(built, value)
        built |= self._constants
        for target, name, config in self._literals:
            if config.is_static:
                value = config.render({}, load)
            else:
                view = state_view(info, context, step_id, state)
                value = config.render({**context, **view, **built}, load)
            _set_literal(built, target, name, value, flat=flat)
        return built


def _copied(value: Any, name: str) -> Any:
    try:
        return copy_value(value)
    except WorkLimitError as error:
        raise error.at(f"the input {name!r}") from None


def _set_literal(built: dict[str, Any], target: Target, name: str, value: Any, *, flat: bool) -> None:
    if value is NOTHING:
        return
    if isinstance(value, dict):
        # An object is merged with what mappings have set below the same target.
        current = built.get(name) if flat else target.find(built)
        if isinstance(current, dict):
            value = merge_deep(current, value)
    if flat:
        built[name] = value
    else:
        target.assign(built, value)


def _default_target(step_id: str) -> str:
    """Return the default target of a step's output: ``$.steps_output.<id>``."""
    return member_path("$.steps_output", step_id)


class OutputPlan:
    """Compiled mappings that write a step's output into the context.

    Args:
        step_id: determines the default target.
        mappings: context JSONPath <- output JSONPath; None: the default target; empty: nothing is written.
        falls_back_to_input: whether a source that the output lacks is looked up in the step's input.
    """

    __slots__ = ("_entries", "_falls_back", "_step_id", "is_default", "maps_output")

    def __init__(
        self, step_id: str, mappings: Mapping[str, str] | None, *, falls_back_to_input: bool = True
    ) -> None:
        self.is_default = mappings is None
        if mappings is None:
            mappings = {_default_target(step_id): "$"}
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
            state: its context is replaced by a new one.
            output: without ``_meta``; null, false, 0 and "" count as an empty object.
            step_input: the fallback for sources that the output lacks.
            meta: the output's ``_meta``, for sources that refer to it; NOTHING if it has none.
            whole: the value of ``$``: the output, or the pointer to the offloaded output.
            load: loads the content of pointers on the path.
            log: receives a warning for each source that finds nothing.
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
                        "%s finds nothing in the output of step %s (%s is not changed)",
                        source,
                        self._step_id,
                        target,
                    )
                    continue
                state.write(target, value, load)
            except ExpressionEvaluationError as error:
                log.warning("%s (step %s: %s <- %s is not written)", error, self._step_id, target, source)
        if self.maps_output:
            # Also if the mapping finds nothing: recorded flows return an empty object for such a branch.
            state.output_mapped = True

    def _write_default(self, state: RunState, whole: Any) -> bool:
        """Write to the default target on the fast path; return False if the general path is needed."""
        context = state.context
        outputs = context.get("steps_output")
        if outputs.__class__ is not dict or POINTER_KEY in outputs:
            return False
        state.context = {**context, "steps_output": {**outputs, self._step_id: whole}}
        return True


def _or_object(output: Any) -> Any:
    # As in JavaScript, an empty list is truthy.
    return output if output or output.__class__ is list else {}
