"""The step and the data with which a Dag run begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.operators.event_payload import asset_events
from airflow_allma.operators.run_link import CONTEXT_POINTER_KEY, payload_of
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.transport import from_json
from airflow_allma.timetables import fired_start_point

if TYPE_CHECKING:
    from airflow_allma.engine import RunState
    from airflow_allma.timetables import StartPointStep

__all__ = ["entry_step", "start_state"]


def start_state(current: TaskContext) -> RunState:
    """Return the state in which the flow begins.

    Raises:
        PermanentStepError: the payload is not an object, or the start point that fired no longer exists.
        ExpressionEvaluationError: the start point's ``payloadTemplate`` cannot be rendered.
    """
    if not current.settings.results_location:
        LOG.info(
            "No [allma] offload_location is set: data of any size passes through Airflow's database, and a "
            "chunk that runs again repeats all of its items"
        )
    _check_version(current)
    payload = _payload(current)
    return current.program.start_state(
        payload, current.info.flow_execution_id, _start_point(current), asset_events(current.dag_run)
    )


def _check_version(current: TaskContext) -> None:
    from airflow_allma.engine.flow_runs import LATEST_VERSION

    asked = current.link.flow_version if current.link is not None else LATEST_VERSION
    if asked not in {LATEST_VERSION, str(current.flow.version)}:
        raise PermanentStepError(
            f"The step that started this run asks for version {asked} of flow {current.flow.id!r}, but its "
            f"Dag runs version {current.flow.version}. Other versions can only run inside the step that "
            "starts them.",
            details={"flowVersion": asked, "dagFlowVersion": str(current.flow.version)},
        )


def _payload(current: TaskContext) -> dict[str, Any]:
    """Return the payload of the run, of which a part can be stored."""
    conf = current.dag_run.conf
    if conf is None:
        return {}
    if not isinstance(conf, dict):
        raise PermanentStepError(
            f"The payload (conf) of a run must be a JSON object, not {type(conf).__name__}."
        )
    payload, text = payload_of(conf)
    if text is not None:
        payload = from_json(text)
    if CONTEXT_POINTER_KEY in payload:
        payload = {**_stored(current, payload), **payload}
        del payload[CONTEXT_POINTER_KEY]
    source = current.link.trigger_source if current.link is not None else None
    return payload if source is None else {"triggerSource": source, **payload}


def _stored(current: TaskContext, payload: dict[str, Any]) -> dict[str, Any]:
    from airflow_allma.engine.errors import step_error_from
    from airflow_allma.storage import Pointer, load_content

    pointer, store = Pointer.parse(payload[CONTEXT_POINTER_KEY]), current.services.store
    if pointer is None or store is None:
        raise PermanentStepError(
            f"The payload of the run cannot be read: {CONTEXT_POINTER_KEY!r} is not a pointer, or no store "
            "is configured."
        )
    try:
        stored = load_content(store, pointer)
    except StorageError as error:
        raise step_error_from(error, doing="Reading the payload of the run") from error
    if not isinstance(stored, dict):
        raise PermanentStepError(f"The payload of a run must be a JSON object; {pointer} is not one.")
    return stored


def entry_step(current: TaskContext) -> str:
    """Return the step at which the flow begins.

    Raises:
        PermanentStepError: the start point that fired no longer exists.
    """
    return current.program.entry(_start_point(current))


def _start_point(current: TaskContext) -> StartPointStep | None:
    """Return the start point that triggered the run, if one did."""
    return fired_start_point(
        current.flow,
        run_id=current.ti.run_id,
        run_type=current.dag_run.run_type,
        logical_date=current.dag_run.logical_date,
    )
