"""A run that has ended, as the tasks of its completion Dag see it: its data, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.common.completion_runs import EndedRun
from airflow_allma.common.timestamps import iso_milliseconds
from airflow_allma.compat import OtherRun, find_dag_run
from airflow_allma.exceptions import AllmaError
from airflow_allma.operators.flow_ref import FlowRef
from airflow_allma.operators.routing import states_of
from airflow_allma.operators.run_start import start_state
from airflow_allma.operators.run_states import load_state
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.xcoms import Key, may_have, pull

if TYPE_CHECKING:
    from airflow_allma.engine import RunState
    from airflow_allma.engine.completion import FinalStatus, RunEnd

__all__ = ["EndedRunView"]

_LOST: Final = (
    "has no error of its own: its process was lost, or it took longer than executionTimeoutSeconds. See its "
    "log."
)


class EndedRunView:
    """A run that has ended.

    Args:
        flow: its flow.
        context: Airflow's context of the task of the completion Dag.
        dag_id: the run's Dag.
        ended: which run, and how Airflow says that it ended.
        tasks: full ids of the tasks of the main path that leave the run's state, each after those before it.

    Attributes:
        current: the run, in the terms of its own tasks.
    """

    def __init__(
        self, flow: FlowRef, context: Mapping[str, Any], dag_id: str, ended: EndedRun, tasks: Sequence[str]
    ) -> None:
        dag_run = find_dag_run(dag_id, ended.run_id) or _unknown_run(context["dag_run"])
        self.current = TaskContext(
            flow, {**context, "ti": OtherRun(context["ti"], dag_id, ended.run_id), "dag_run": dag_run}
        )
        self._ended = ended
        self._tasks = tasks
        self._states = states_of(self.current, tasks)

    def final_state(self) -> RunState:
        """Return the run's state after its last step that succeeded, or with which it began."""
        from airflow_allma.engine import RunState

        for task in reversed(self._tasks):
            if self._states.get(task) != "success" or not may_have(self.current.ti, task, Key.STATE):
                continue
            saved = load_state(self.current, task)
            if saved is not None:
                return RunState.from_dict(saved)
        try:
            return start_state(self.current)
        except AllmaError as error:
            # The run failed for the same reason.
            LOG.info("The actions see the payload as it is: %s", error)
            payload = self.current.dag_run.conf
            return RunState.start(
                self.current.program.start,
                payload if isinstance(payload, dict) else {},
                self.current.flow.flow_variables,
                self.current.flow_execution_id,
            )

    def end(self) -> RunEnd:
        """Return how the run ended."""
        from airflow_allma.engine.completion import FinalStatus, RunEnd

        if self._ended.state == "success":
            return RunEnd(FinalStatus.COMPLETED, self._time(), self._ended.number)
        status, error = self._failure()
        return RunEnd(status, self._time(), self._ended.number, error)

    def _time(self) -> str:
        return iso_milliseconds(datetime.fromisoformat(self._ended.ended_at))

    def _failure(self) -> tuple[FinalStatus, Mapping[str, Any]]:
        from airflow_allma.engine.completion import FinalStatus

        failed = [task for task in self._tasks if self._states.get(task) == "failed"]
        for task in failed:
            if not may_have(self.current.ti, task, Key.ERROR):
                continue
            error = pull(self.current.ti, task, Key.ERROR)
            if isinstance(error, Mapping):
                return FinalStatus.FAILED, error
        if self._ended.was_marked:
            return FinalStatus.CANCELLED, _error(
                "Cancelled", "The run, or a task of it, was marked as failed."
            )
        if not failed and self._is_over_its_limit():
            seconds = self.current.flow.airflow.run_timeout_seconds
            return FinalStatus.TIMED_OUT, _error(
                "RunTimeout", f"The run took longer than runTimeoutSeconds, {seconds:g} s."
            )
        if failed:
            return FinalStatus.FAILED, _error("TaskLost", f"Task {failed[0]} {_LOST}", failed[0])
        return FinalStatus.FAILED, _error(
            "RunFailed", "No task of the main path failed. See the tasks of the run."
        )

    def _is_over_its_limit(self) -> bool:
        limit = self.current.flow.airflow.run_timeout_seconds
        started = self.current.dag_run.start_date
        if limit is None or started is None:
            return False
        ended = datetime.fromisoformat(self._ended.ended_at)
        return bool(ended - started >= timedelta(seconds=limit))


def _error(name: str, message: str, task: str | None = None) -> dict[str, Any]:
    details = {} if task is None else {"taskId": task}
    return {"errorName": name, "errorMessage": message, "errorDetails": details, "isRetryable": False}


def _unknown_run(own: Any) -> Any:
    """Return a stand-in for a run that was deleted, or that this Airflow cannot read."""
    return SimpleNamespace(
        conf={}, start_date=None, run_after=own.run_after, run_type="manual", logical_date=None
    )
