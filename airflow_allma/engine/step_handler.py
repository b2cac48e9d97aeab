"""What the engine asks of a step type: a handler, compiled once per step and called once per attempt."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from airflow_allma.engine.outside_calls import OutsideCalls
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, RunState, state_view
from airflow_allma.expressions import LoadPointer

__all__ = ["AsyncHandler", "Handler", "InlineHandler", "StepCall"]


class StepCall(msgspec.Struct, gc=False):
    """One call of a handler.

    Attributes:
        step_id: the step.
        input: the step's input; private to this call, so the handler can change and return it.
        context: the run's data; must not be changed.
        info: the run.
        services: what the handler can use.
        load: returns the content of a pointer.
        calls: what the step did outside of the flow: ``call.calls.add(HttpCall(...))`` when a call has ended,
            successful or not.
        state: the run's state; None outside of a run.
        tries: how often the handler was called, this call included.
        saved: what the handler passed to ``SuspendStep``, if this call continues that attempt.
    """

    step_id: str
    input: dict[str, Any]
    context: Mapping[str, Any]
    info: RunInfo
    services: Services
    load: LoadPointer
    calls: OutsideCalls = msgspec.field(default_factory=OutsideCalls)
    state: RunState | None = None
    tries: int = 1
    saved: Any = None

    @property
    def log(self) -> logging.Logger:
        """The logger for the handler's own messages."""
        return self.services.log

    def data(self) -> Mapping[str, Any]:
        """Return what ``root`` returns without the run's state, for templates that cannot read it."""
        return {**self.context, **self.input} if self.input else self.context

    def root(self) -> dict[str, Any]:
        """Return what templates of custom configs and calls see: context, run state, and the input on top."""
        view = state_view(self.info, self.context, self.step_id, self.state, self.tries)
        return {**self.context, **view, **self.input}


class InlineHandler:
    """A handler that never waits: it is called without an event loop in branches of such steps.

    Attributes:
        inline: True.
        ends_path: whether the path ends here; the handler is then never called.
        returns_input: whether the output is the step's input itself.
        has_side_effects: False: it changes nothing outside of the flow.
    """

    inline: ClassVar[bool] = True
    has_side_effects: ClassVar[bool] = False
    ends_path: ClassVar[bool] = False
    returns_input: bool = False

    def __call__(self, call: StepCall) -> Any:
        """Return the step's output, ``_meta`` included."""
        raise NotImplementedError


class AsyncHandler:
    """A handler that waits for something.

    Attributes:
        inline: False.
        ends_path: whether the path ends here.
        reads_mappings: whether the engine builds the step's input from ``inputMappings`` and ``literals``. If
            not, the handler reads the context itself.
        keeps_input: whether a call leaves the values in its input as they are, so that they need not be
            copies.
        falls_back_to_input: whether a source of ``outputMappings`` that the output lacks is looked up in the
            step's input.
        stores_output: whether the handler itself decides where a large output is stored.
        bounds_itself: whether the step's own configuration limits how long a call waits, so that the setting
            ``step_timeout_seconds`` does not apply.
        blocks_thread: whether a call occupies a thread.
        max_seconds: how long a call waits at most, if that is known; a longer ``step_timeout_seconds`` then
            does not apply either.
        notes_data: whether the handler itself reports how much data it received (``work_budget.note_data``);
            if not, the engine measures the output.
        suspends: whether a call can raise ``SuspendStep``.
        has_side_effects: whether a call can change something outside of the flow: it is then not repeated
            by itself if it is unknown whether it happened.
    """

    inline: ClassVar[bool] = False
    ends_path: ClassVar[bool] = False
    reads_mappings: ClassVar[bool] = True
    keeps_input: ClassVar[bool] = False
    falls_back_to_input: ClassVar[bool] = True
    stores_output: ClassVar[bool] = False
    blocks_thread: ClassVar[bool] = False
    bounds_itself: bool = False
    max_seconds: float | None = None
    notes_data: ClassVar[bool] = False
    suspends: bool = False
    has_side_effects: bool = False

    async def __call__(self, call: StepCall) -> Any:
        """Return the step's output, ``_meta`` included."""
        raise NotImplementedError

    def runs_inline(self, services: Services) -> bool:  # noqa: ARG002
        """Return whether the work waits for nothing after all, so that ``call_inline`` can do it."""
        return False

    def call_inline(self, call: StepCall) -> Any:
        """Do the same without an event loop; only called if ``runs_inline``."""
        raise NotImplementedError


Handler = InlineHandler | AsyncHandler
