"""Which steps are traced while they run, and the steps of one item or path so far.

A run of a million good items must not pay for traces that nobody keeps. While a branch runs, its trace is a
list of references to what its steps got and returned; their JSON is made when the branch run has failed, or
if it is kept for another reason. The last step of a branch run that succeeds is not even noted where only
failures are kept.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, Protocol, Self

import msgspec

from airflow_allma.engine.context_size import json_size_up_to
from airflow_allma.engine.outside_calls import NO_CALLS, OutsideCalls
from airflow_allma.engine.records import StepRecord
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.engine.state import RunInfo, RunState
from airflow_allma.engine.traces import MAX_TRACED_STEPS, TraceForm, bound_steps, shorten_step
from airflow_allma.exceptions import PermanentStepError

__all__ = ["StepNote", "Trace", "TraceSelection", "Tracer"]

_HALF: Final = MAX_TRACED_STEPS // 2
_NOTED: Final = 16
"""Steps whose values are kept as they are; of earlier ones with large values only the JSON."""
_MAX_NOTED_BYTES: Final = 16 << 10
"""Larger values of earlier steps, and of steps that wait for something, are kept as bounded JSON."""
_PARKED: Final = 10
"""Steps at each end of the trace of a run that waits in no process."""
_PARKED_BYTES: Final = 1024
"""Maximum size of each of their inputs and outputs, in bytes of JSON."""

_UNKNOWN: Final = -1.0
_REPEATED: Final = (
    "This step ran in an earlier task of the item, whose log says how long it took and what it called."
)

_SETTING: Final = re.compile(r"(none|failed|all)|sample:([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class TraceSelection:
    """Which items have traces.

    Attributes:
        every: besides those that failed every so many others, by index; 0 for no other, 1 for all.
    """

    every: int = 0

    @classmethod
    def parse(cls, setting: str) -> Self | None:
        """Read ``[allma] trace_items``; None for no traces, neither of items nor of the main path.

        Raises:
            PermanentStepError: it is something else than the documented values.
        """
        match = _SETTING.fullmatch(setting.strip())
        if match is None:
            raise PermanentStepError(
                f"[allma] trace_items is {setting[:100]!r}; it must be none, failed, all, or such as "
                "sample:1000 for every thousandth item."
            )
        if match[1] == "none":
            return None
        return cls(int(match[2] or 0) or int(match[1] == "all"))


class NotedStep(Protocol):
    """What a trace says about a step itself."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def type_name(self) -> str:
        """Its type, as written."""


class StepNote(msgspec.Struct, frozen=True, gc=False):
    """References to what is known about an execution of a step; like ``StepRecord``, but quickly made.

    It has no reference to the run, whose trace it is in.
    """

    step: NotedStep
    input: Any
    output: Any
    error: dict[str, Any] | None
    next_step: str | None
    started: float
    ended: float
    began_before: float
    tries: int
    calls: OutsideCalls
    flow_id: str | None
    within: tuple[tuple[str, str, int], ...]


class Trace:
    """The steps of one item or path, in the order in which they ended.

    Memory holds the first and the last steps of a long one.

    Args:
        form: makes the JSON.
        now: returns the time in seconds since the epoch.
        within: where it is inside of another trace, as in ``StepRecord``.
    """

    __slots__ = ("_form", "_known", "_now", "_omitted", "_steps", "within")

    def __init__(
        self,
        form: TraceForm,
        now: Callable[[], float],
        within: tuple[tuple[str, str, int], ...] = (),
    ) -> None:
        self._form = form
        self._now = now
        self.within = within
        self._omitted = 0
        # Notes of steps, JSON of those with large values.
        self._steps: list[Any] = []
        self._known: int | None = None

    def add(self, note: StepNote) -> None:
        """Add a step that has ended."""
        self._steps.append(note)
        if len(self._steps) > _NOTED:
            self._shorten(1)
        # What waits for something can return much, and takes longer than looking at it.
        if note.calls is not NO_CALLS and (_is_large(note.input) or _is_large(note.output)):
            self._encode_at(len(self._steps) - 1)

    def add_repeated(self, step: NotedStep, state: RunState, step_input: Any) -> None:
        """Add a step that ran in an earlier task, of which only the output was passed on.

        Args:
            step: the step.
            state: the run's state after it.
            step_input: its input, built again; None if that is not possible.
        """
        self._steps.append(
            StepNote(
                step,
                step_input,
                state.last_output,
                None,
                state.next_step,
                _UNKNOWN,
                _UNKNOWN,
                0.0,
                1,
                NO_CALLS,
                None,
                self.within,
            )
        )

    @property
    def has_calls(self) -> bool:
        """Whether a step in it has called something outside of the flow."""
        return any(step.calls.count if isinstance(step, StepNote) else step["calls"] for step in self._steps)

    def merge(self, inner: Trace, *, failed: bool) -> None:
        """Add the steps of an item of a fork inside of this trace; of items that succeeded only some.

        Args:
            inner: the item's trace.
            failed: whether the item failed.
        """
        if not failed and len(self._steps) >= _HALF:
            self._omitted += len(inner._steps) + inner._omitted
            return
        self._steps += inner._steps
        self._omitted += inner._omitted
        if inner._known is not None:
            self._known = inner._known if self._known is None else min(inner._known, self._known)
        self._shorten(len(inner._steps))

    def steps(self) -> tuple[list[dict[str, Any]], int]:
        """Return the JSON of the steps, and how many are omitted between the first and the last ones."""
        early = [step for step in self._steps if not isinstance(step, StepNote)]
        if early and self._known != self._form.known_secrets:
            early = self._form.mask_again(early)
        remaining = iter(early)
        steps = [
            self._encode(step) if isinstance(step, StepNote) else next(remaining) for step in self._steps
        ]
        return bound_steps(steps, self._omitted)

    def to_dict(self) -> dict[str, Any]:
        """Return the trace of a run that waits as a small JSON object, for ``restore``."""
        steps, omitted = self.steps()
        if len(steps) > 2 * _PARKED:
            omitted += len(steps) - 2 * _PARKED
            steps = [*steps[:_PARKED], *steps[-_PARKED:]]
        return {"steps": [shorten_step(step, _PARKED_BYTES) for step in steps], "omitted": omitted}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Restore what ``to_dict`` returned, into an empty trace."""
        self._steps, self._omitted = list(saved["steps"]), int(saved["omitted"])
        # This process can know other secrets.
        self._known = -1

    def _encode(self, note: StepNote) -> dict[str, Any]:
        shown = self._form.step(self._record(note))
        if note.started == _UNKNOWN:
            shown |= {"seconds": None, "at": None, "note": _REPEATED}
        return shown

    def _record(self, note: StepNote) -> StepRecord:
        seconds = note.ended - note.started
        at = self._now() - (perf_counter() - note.started)
        if note.began_before:
            seconds += at - note.began_before
            at = note.began_before
        return StepRecord(
            step_id=note.step.id,
            step_type=note.step.type_name,
            input=note.input,
            output=note.output,
            error=note.error,
            next_step=note.next_step,
            seconds=seconds,
            tries=note.tries,
            calls=note.calls,
            flow_id=note.flow_id,
            at=at,
            within=note.within,
        )

    def _encode_at(self, number: int) -> None:
        note = self._steps[number]
        if isinstance(note, StepNote):
            if self._known is None:
                self._known = self._form.known_secrets
            self._steps[number] = self._encode(note)

    def _shorten(self, added: int) -> None:
        """Keep only the JSON of earlier large steps, and not those in the middle, after some were added."""
        steps = self._steps
        end = len(steps) - _NOTED
        for number in range(max(0, end - added), end):
            note = steps[number]
            # The middle of a long loop is dropped: making JSON of all of it would take longer than the loop.
            if isinstance(note, StepNote) and (_is_large(note.input) or _is_large(note.output)):
                self._encode_at(number)
        if len(steps) >= MAX_TRACED_STEPS + _HALF:
            self._omitted += len(steps) - MAX_TRACED_STEPS
            del steps[_HALF:-_HALF]


def _is_large(value: Any) -> bool:
    return json_size_up_to(value, _MAX_NOTED_BYTES) > _MAX_NOTED_BYTES


class Tracer:
    """Traces the steps of a process.

    Args:
        form: makes the JSON.
        selection: which items have traces.
        now: returns the time in seconds since the epoch; tests pass in a fake.
    """

    def __init__(
        self, form: TraceForm, selection: TraceSelection, now: Callable[[], float] = time.time
    ) -> None:
        self._form = form
        self._now = now
        self.selection = selection

    @classmethod
    def of_settings(
        cls,
        items: str,
        max_bytes: int,
        masks: SecretMasks,
        log: logging.Logger,
        redact: Callable[[Any], Any] | None = None,
    ) -> Self | None:
        """Return the tracer for ``[allma] trace_items`` and ``trace_bytes``; None if nothing is traced.

        Args:
            items: which items have traces. A wrong value fails no run: it is logged.
            max_bytes: as in ``TraceForm``, like the others.
            masks: as in ``TraceForm``.
            log: the logger.
            redact: as in ``TraceForm``.
        """
        try:
            selection = TraceSelection.parse(items)
        except PermanentStepError as error:
            log.warning("%s Only failed items are traced.", error)
            selection = TraceSelection()
        return None if selection is None else cls(TraceForm(masks, max_bytes, redact), selection)

    def trace_of(self, state: RunState, info: RunInfo) -> Trace:
        """Return the trace of a run; a new one if it has none yet."""
        trace: Trace | None = state.trace
        if trace is None:
            within: tuple[tuple[str, str, int], ...] = ()
            around: Trace | None = info.outer.trace if info.outer is not None else None
            if around is not None:
                within = (*around.within, (info.fork_id, info.branch_id or "", info.item_index or 0))
            trace = state.trace = Trace(self._form, self._now, within)
            if state.saved_trace is not None:
                trace.restore(state.saved_trace)
                state.saved_trace = None
        return trace

    def keeps(self, info: RunInfo, item: int) -> bool:
        """Return whether the trace of an item is kept that has not failed."""
        every = 1 if info.enable_execution_logs else self.selection.every
        return every > 0 and item % every == 0

    def keeps_good(self, info: RunInfo) -> bool:
        """Return whether the traces of some items are kept that have not failed."""
        return self.selection.every > 0 or info.enable_execution_logs
