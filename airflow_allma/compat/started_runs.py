"""Runs of other Dags: starting them, their states, and what their tasks have left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from airflow_allma.compat.missing_names import IS_MISSING, warn_once

__all__ = [
    "ENDED_STATES",
    "EndedTask",
    "RunRefusedError",
    "dag_is_paused",
    "ended_tasks",
    "is_operator_triggered",
    "other_run_state",
    "start_dag_run",
]


ENDED_STATES: Final = frozenset({"success", "failed"})
"""The states of a run that has ended (``State.finished_dr_states``, 3.0)."""


class RunRefusedError(Exception):
    """The API server does not start a run, or does not know it.

    Attributes:
        reason: a word of the API server: ``not_found``, ``import_errors``, ``denied_run_type``,
            ``value_error`` for a payload that does not match the Dag's params; ``missing`` if this Airflow
            cannot start runs from tasks.
        message: its sentence.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class EndedTask:
    """A task instance that has ended.

    Attributes:
        task_id: its full id.
        map_index: its map index; -1 if it is not mapped.
        state: its state.
    """

    task_id: str
    map_index: int
    state: str


def _send(message: Any) -> Any:
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    try:
        return cast("Any", SUPERVISOR_COMMS).send(message)
    except Exception as error:
        if refusal := _refusal(_detail(error)):
            raise refusal from error
        raise


def _detail(error: Any) -> Any:
    """Return what the API server answered, as the supervisor passes it on; None if it did not answer."""
    if (response := getattr(error, "response", None)) is not None:
        # ``dag.test()`` has no supervisor: here is the error of Airflow's client itself.
        return {"status_code": response.status_code, "detail": response.json()}
    return getattr(getattr(error, "error", None), "detail", None)


def _refusal(detail: Any) -> RunRefusedError | None:
    """Return the answer of the API server to a request that it understood, but does not fulfil."""
    if not isinstance(detail, Mapping) or detail.get("status_code") not in _REFUSALS:
        return None
    answer = detail.get("detail")
    while isinstance(answer, Mapping) and isinstance(answer.get("detail"), Mapping):
        answer = answer["detail"]
    if not isinstance(answer, Mapping):
        answer = {}
    reason = str(answer.get("reason") or _REFUSALS[detail["status_code"]])
    return RunRefusedError(reason, str(answer.get("message") or detail.get("message") or ""))


_REFUSALS: Final = {400: "value_error", 404: "not_found", 422: "value_error"}
_MISSING: Final = "The Task SDK of this Airflow does not let a task start and observe runs of other Dags: {}"


def start_dag_run(
    dag_id: str, run_id: str, conf: Mapping[str, Any], *, again: bool = False, note: str | None = None
) -> bool:
    """Start a run; it has no logical date.

    Uses ``TriggerDagRun`` of the supervisor's messages (3.0), which Airflow's TriggerDagRunOperator sends.
    Without it no run can be started.

    Args:
        dag_id: the Dag.
        run_id: the run's id.
        conf: its payload.
        note: the run's note in the UI, Markdown; Airflow older than 3.2 does not take one.
        again: if the run exists, clear it, so that it runs again, with the payload that it had.

    Returns:
        Whether the run is new, or was cleared.

    Raises:
        RunRefusedError: it cannot be started.
        AirflowRuntimeError: the API server does not answer.
    """
    try:
        from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun
    except IS_MISSING as error:
        raise RunRefusedError("missing", _MISSING.format(error)) from error
    message = TriggerDagRun(dag_id=dag_id, run_id=run_id, conf=dict(conf), reset_dag_run=again)
    if note is not None and "note" in TriggerDagRun.model_fields:
        message.note = note
    return not isinstance(_send(message), ErrorResponse)


def other_run_state(dag_id: str, run_id: str) -> str:
    """Return the state of a run: queued, running, success or failed.

    Uses ``GetDagRunState`` of the supervisor's messages (3.0). Without it no run can be waited for.

    Raises:
        RunRefusedError: the run does not exist.
        AirflowRuntimeError: the API server does not answer.
    """
    try:
        from airflow.sdk.execution_time.comms import GetDagRunState
    except IS_MISSING as error:
        raise RunRefusedError("missing", _MISSING.format(error)) from error
    state = _send(GetDagRunState(dag_id=dag_id, run_id=run_id)).state
    return str(getattr(state, "value", state))


def dag_is_paused(dag_id: str) -> bool:
    """Return whether a Dag is paused.

    Uses ``GetDag`` of the supervisor's messages (3.2). Without it the answer is False: runs of a paused Dag
    are queued, and nobody says so.

    Raises:
        RunRefusedError: the Dag does not exist.
        AirflowRuntimeError: the API server does not answer.
    """
    try:
        from airflow.sdk.execution_time.comms import GetDag
    except IS_MISSING as error:
        warn_once(f"airflow.sdk.execution_time.comms.GetDag ({error})", "Paused Dags are not reported")
        return False
    return bool(_send(GetDag(dag_id=dag_id)).is_paused)


def ended_tasks(dag_id: str, run_id: str) -> Sequence[EndedTask]:
    """Return the task instances of a run that have ended, by task id and map index.

    Uses ``GetTaskBreadcrumbs`` of the supervisor's messages (3.1). Without it the answer is empty: nothing is
    known about a run but its state.

    Raises:
        AirflowRuntimeError: the API server does not answer.
    """
    try:
        from airflow.sdk.execution_time.comms import GetTaskBreadcrumbs
    except IS_MISSING as error:
        warn_once(
            f"airflow.sdk.execution_time.comms.GetTaskBreadcrumbs ({error})",
            "The results and errors of other runs cannot be read",
        )
        return ()
    listed = _send(GetTaskBreadcrumbs(dag_id=dag_id, run_id=run_id)).breadcrumbs
    return [EndedTask(str(one["task_id"]), int(one["map_index"]), str(one["state"])) for one in listed]


def is_operator_triggered(dag_run: Any) -> bool:
    """Return whether a task has started a run, so that its payload is that task's.

    Uses ``run_type`` of the Dag run, with the value of ``DagRunType.OPERATOR_TRIGGERED`` (3.2). In an Airflow
    without that type the answer is False: such a run does not know what started it.
    """
    kind = getattr(dag_run, "run_type", None)
    return str(getattr(kind, "value", kind)) == "operator_triggered"
