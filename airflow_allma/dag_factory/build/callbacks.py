"""A flow's notifications and deadline as callbacks of its Dag and its tasks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_allma.flow import Flow
from airflow_allma.flow.notify_options import DeadlineStart, NotifyEvent

if TYPE_CHECKING:
    from airflow_allma.operators.notifications import FlowNotifier

__all__ = ["dag_callbacks", "deadline_alert", "task_callbacks"]


def dag_callbacks(flow: Flow) -> dict[str, Any]:
    """Return the arguments of the Dag that notify of a run's end; none without such notifications."""
    arguments = {
        "on_failure_callback": _notifiers(flow, NotifyEvent.FAILURE),
        "on_success_callback": _notifiers(flow, NotifyEvent.SUCCESS),
        "deadline": deadline_alert(flow),
    }
    return {name: value for name, value in arguments.items() if value}


def task_callbacks(flow: Flow) -> dict[str, Any]:
    """Return the arguments of every task that notify of its retries; none without such notifications."""
    retries = _notifiers(flow, NotifyEvent.RETRY)
    return {"on_retry_callback": retries} if retries else {}


def _notifiers(flow: Flow, event: NotifyEvent) -> list[FlowNotifier]:
    if not flow.airflow.notify:
        return []
    from airflow_allma.operators.notifications import FlowNotifier

    return [
        FlowNotifier(event.value, notification.notifier, notification.args, flow.id, flow.version)
        for notification in flow.airflow.notify
        if event in notification.on
    ]


def deadline_alert(flow: Flow) -> Any:
    """Return the Dag's deadline; None if the flow has none."""
    deadline = flow.airflow.deadline
    if deadline is None:
        return None
    # Public since Airflow 3.1; its type stubs do not have them.
    from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference  # type: ignore[attr-defined]

    from airflow_allma.operators.notifications import notify_deadline

    references = {
        DeadlineStart.QUEUED: DeadlineReference.DAGRUN_QUEUED_AT,
        DeadlineStart.LOGICAL_DATE: DeadlineReference.DAGRUN_LOGICAL_DATE,
    }
    return DeadlineAlert(
        reference=references[deadline.start],
        interval=timedelta(seconds=deadline.seconds),
        callback=AsyncCallback(
            notify_deadline,
            {
                "notifier": deadline.notifier,
                "args": deadline.args,
                "flow_id": flow.id,
                "flow_version": flow.version,
            },
        ),
    )
