"""A task whose run waits: what it saves, how it gives its process back, and how it continues.

Airflow calls ``resume`` of a task that parked or deferred itself in a new process. The task's XComs are kept
until then; a try that begins from scratch (a retry, a clear) has none, and finds its events in the task's
state store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.sdk.exceptions import TaskAwaitingInput

from airflow_allma.common.wait_keys import WaitRow, wait_key, wait_token
from airflow_allma.operators.deferrals import deferral
from airflow_allma.operators.run_states import load_suspended, save_suspended
from airflow_allma.operators.task_context import LOG, TaskContext

if TYPE_CHECKING:
    from airflow_allma.engine import RunState, SegmentResult
    from airflow_allma.engine.suspension import Answers, Wait

__all__ = ["SuspendableTask", "Suspension", "TriggerEnd", "Wakeup", "park", "push_waits"]

_METHOD: Final = "resume"
_MIN_SECONDS: Final = 5.0
"""Airflow can fail a task that it continues sooner than some seconds after it has parked."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """What a task has saved about its run that waits.

    Attributes:
        state: what ``RunState.to_dict`` returned; without a context if no step has run in the task yet.
        waits: what the run waits for.
        consumed: as in ``EventStore``.
    """

    state: dict[str, Any]
    waits: tuple[Wait, ...]
    consumed: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        waits = [wait.to_dict() for wait in self.waits]
        return {"state": self.state, "waits": waits, "consumed": self.consumed}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Suspension:
        """Restore what ``to_dict`` returned."""
        from airflow_allma.engine.suspension import waits_from

        return cls(saved["state"], waits_from(saved["waits"]), saved["consumed"])

    def begin(self, current: TaskContext, wakeup: Wakeup) -> None:
        """Let a process continue the run: take over what was consumed, and pass on what has arrived.

        Args:
            current: this try.
            wakeup: what Airflow continues the task with.
        """
        current.events.is_enabled = True
        current.events.consumed.update(self.consumed)
        self._put_answers(current.services.answers, wakeup.event)

    def _put_answers(self, answers: Answers, event: Any) -> None:
        from airflow_allma.engine.suspension import SuspendReason

        if isinstance(event, TriggerEnd):
            # Without an answer the step looks for itself: whether it is too late, or the other run has ended.
            for wait in self.waits:
                if wait.reason is SuspendReason.POLL and event.error is not None:
                    answers.put(wait.reason, wait.key, {"failed": event.error})
            return
        read = event if isinstance(event, dict) else {}
        arrived, conflicts = _tokens(read, "arrived"), _tokens(read, "conflict")
        for wait in self.waits:
            if wait.reason is not SuspendReason.EVENT:
                if event is not None:
                    answers.put(wait.reason, wait.key, event)
                continue
            token = wait_token(wait.key)
            if token in conflicts:
                answers.put(wait.reason, wait.key, {"conflict": True})
            elif token in arrived:
                answers.announce(wait.reason, wait.key)


def _tokens(event: Mapping[str, Any], name: str) -> frozenset[str]:
    tokens = event.get(name)
    return frozenset(map(str, tokens)) if isinstance(tokens, list | dict) else frozenset()


@dataclass(frozen=True, slots=True)
class TriggerEnd:
    """The trigger of a deferred task has ended without an event.

    Attributes:
        error: the last line of the traceback with which it failed; None if its time was over.
    """

    error: str | None

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> TriggerEnd:
        """Return what Airflow's arguments say about it."""
        lines = arguments.get("traceback")
        return cls("".join(lines).strip().rpartition("\n")[2] if lines else None)


@dataclass(frozen=True, slots=True)
class Wakeup:
    """Airflow continues a task that was suspended.

    Attributes:
        event: what it continues the task with. For events ``{"arrived": [token], "conflict": [token]}``:
            hints, since the events themselves are in the state store. For others what the trigger yielded, or
            a ``TriggerEnd``.
    """

    event: Any


class SuspendableTask:
    """One process of a task whose run can wait.

    Args:
        current: this try.
    """

    def __init__(self, current: TaskContext) -> None:
        self._current = current
        self._before: Suspension | None = None
        self._ran_before = 0

    def load(self, wakeup: Wakeup) -> None:
        """Read what the task saved when it was suspended, and take what has arrived.

        Raises:
            PermanentStepError: it has saved nothing.
            StorageError: what it stored cannot be read.
        """
        current = self._current
        self._before = Suspension.from_dict(load_suspended(current))
        self._before.begin(current, wakeup)

    def restore(self, begin: RunState, base_context: Mapping[str, Any] | None) -> RunState:
        """Return the state in which the run continues; ``begin`` itself if the task has not waited yet.

        Args:
            begin: the state in which the task began.
            base_context: as for ``RunState.from_dict``.
        """
        from airflow_allma.engine import RunState
        from airflow_allma.engine.suspension import SuspendedStep

        self._ran_before = len(begin.path)
        if self._before is None:
            return begin
        saved = self._before.state
        if "nextStep" in saved:
            return RunState.from_dict(saved, base_context)
        begin.suspended = SuspendedStep.from_dict(saved["suspended"])
        if "trace" in saved:
            # It has what this process has repeated so far, and more.
            begin.trace, begin.saved_trace = None, saved["trace"]
        return begin

    def suspend(self, result: SegmentResult) -> NoReturn:
        """Save the run's state, and give the task's process and its slot back.

        Raises:
            TaskAwaitingInput: the run waits for events, until the first deadline.
            TaskDeferred: it waits for a poll or another run.
        """
        state = result.state.suspended_form()
        if len(result.state.path) == self._ran_before:
            # The state is that in which the task began, which it finds again.
            state = {name: state[name] for name in ("suspended", "trace") if name in state}
        current = self._current
        saved = Suspension(state, result.waits, current.events.consumed)
        save_suspended(current, saved.to_dict())
        park(current, result.waits, self._before.waits if self._before is not None else ())


def park(current: TaskContext, waits: Iterable[Wait], already: Iterable[Wait] = ()) -> NoReturn:
    """Give the task's process and its slot back until something has arrived. The run's state is saved before.

    Args:
        current: this try.
        waits: what the run waits for: exactly one poll or run, or one or more events.
        already: the events that the task has waited for before; the API server knows them.

    Raises:
        TaskAwaitingInput: it waits for events, until the first deadline.
        TaskDeferred: it waits for a poll or another run.
    """
    from airflow_allma.engine.suspension import SuspendReason, next_due

    waits = tuple(waits)
    first = waits[0]
    if first.reason is not SuspendReason.EVENT:
        raise deferral(current, first, _METHOD)
    push_waits(current, waits, already)
    seconds = max(_MIN_SECONDS, next_due(waits) - current.services.now())
    keys = ", ".join(repr(wait.key) for wait in waits[:3])
    more = f" and {len(waits) - 3} more" if len(waits) > 3 else ""
    LOG.info("Waiting for events with the keys %s%s, for at most %.0f s", keys, more, seconds)
    raise TaskAwaitingInput(method_name=_METHOD, timeout=timedelta(seconds=seconds))


def push_waits(current: TaskContext, waits: Iterable[Wait], already: Iterable[Wait]) -> None:
    """Push the XComs by which the API server finds the task, for waits that are new."""
    # One that is known may have been marked as delivered in the meantime.
    known = {(wait.key, wait.since) for wait in already}
    for wait in waits:
        if (wait.key, wait.since) in known:
            continue
        message = wait.details.get("message")
        row = WaitRow(
            wait.key,
            wait.step_id,
            wait.since,
            wait.until,
            wait.branch_id,
            wait.item_index,
            None if message is None else str(message),
        )
        current.ti.xcom_push(key=wait_key(wait_token(wait.key)), value=row.to_json())
