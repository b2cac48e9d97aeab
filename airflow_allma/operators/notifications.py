"""What calls the notifiers of a flow: Airflow's callbacks.

``FlowNotifier`` runs in the Dag processor after a run has failed or succeeded, and in a task's process before
a retry; ``notify_deadline`` runs in the triggerer. They make the arguments from the flow's templates and the
facts of the run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.common.notifiers import make_notifier
from airflow_allma.configuration import allowed_notifiers
from airflow_allma.operators.run_urls import run_url
from airflow_allma.operators.xcoms import Key, pull

__all__ = ["FlowNotifier", "notify_deadline"]

_LOG: Final = logging.getLogger("airflow_allma.notify")


@dataclass(frozen=True)
class FlowNotifier:
    """A callback of a Dag or a task that calls a notifier.

    Attributes:
        event: what has happened, one of ``NotifyEvent``.
        notifier: import path of the class.
        args: its arguments, with templates.
        flow_id: the flow.
        flow_version: its version.
    """

    event: str
    notifier: str
    args: Mapping[str, Any]
    flow_id: str
    flow_version: int

    def __call__(self, context: Any) -> None:
        """Call the notifier.

        Raises:
            NotifierError: it is not allowed or not installed, or refuses its arguments.
            Exception: whatever the notifier raises; Airflow logs it.
        """
        facts = {
            "event": self.event,
            "flow_id": self.flow_id,
            "flow_version": self.flow_version,
            **_facts_of_context(context, self.event),
        }
        notifier = _make(self.notifier, self.args, facts)
        _LOG.info("Notify of %s of %s: %s", self.event, facts.get("run_id"), self.notifier)
        if _has_own(notifier, "notify"):
            # Not the notifier itself: that renders templates first.
            notifier.notify(context)
        else:
            asyncio.run(notifier.async_notify(context))


async def notify_deadline(
    notifier: str, args: dict[str, Any], flow_id: str, flow_version: int, context: dict[str, Any]
) -> None:
    """Call the notifier of a deadline that a run has missed; runs in the triggerer.

    Args:
        notifier: import path of the class.
        args: its arguments, with templates.
        flow_id: the flow.
        flow_version: its version.
        context: Airflow's: the run as the REST API shows it, and the deadline.

    Raises:
        NotifierError: the notifier is not allowed or not installed, or refuses its arguments.
        Exception: whatever the notifier raises; Airflow logs it.
    """
    run = context.get("dag_run") or {}
    dag_id, run_id = run.get("dag_id"), run.get("dag_run_id")
    facts = {
        "event": "deadline",
        "flow_id": flow_id,
        "flow_version": flow_version,
        "dag_id": dag_id,
        "run_id": run_id,
        "logical_date": _shown(run.get("logical_date")),
        "run_after": _shown(run.get("run_after")),
        "start_date": _shown(run.get("start_date")),
        "deadline": _shown((context.get("deadline") or {}).get("deadline_time")),
        "url": run_url(dag_id, run_id),
    }
    # Importing a class can take long, which would hold up all triggers.
    made = await asyncio.to_thread(_make, notifier, args, facts)
    _LOG.info("Notify of the missed deadline of %s: %s", run_id, notifier)
    if _has_own(made, "notify"):
        # Not the asynchronous way: it often needs packages that are not installed.
        await asyncio.to_thread(made.notify, context)
    else:
        await made.async_notify(context)


def _make(name: str, args: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
    from airflow_allma.common.work_budget import own_budget
    from airflow_allma.expressions import compile_config

    with own_budget():
        arguments = compile_config(args).render(dict(facts))
    return make_notifier(name, arguments, allowed_notifiers())


def _has_own(notifier: Any, method: str) -> bool:
    from airflow.sdk import BaseNotifier

    return getattr(type(notifier), method) is not getattr(BaseNotifier, method)


def _facts_of_context(context: Mapping[str, Any], event: str) -> dict[str, Any]:
    """Return the facts that Airflow's context of a callback has; without a task instance there are few."""
    ti, run, dag = context.get("ti"), context.get("dag_run"), context.get("dag")
    dag_id, run_id = getattr(dag, "dag_id", None), context.get("run_id") or getattr(run, "run_id", None)
    is_retry = event == "retry"
    return {
        "dag_id": dag_id,
        "run_id": run_id,
        "logical_date": _shown(getattr(run, "logical_date", None)),
        "run_after": _shown(getattr(run, "run_after", None)),
        "start_date": _shown(getattr(run, "start_date", None)),
        "reason": context.get("reason"),
        "task_id": getattr(ti, "task_id", None),
        "map_index": getattr(ti, "map_index", None),
        "try_number": getattr(ti, "try_number", None),
        "error": _shown(context.get("exception")) if is_retry else _error_of(ti, event),
        "url": run_url(dag_id, run_id),
    }


def _error_of(ti: Any, event: str) -> str | None:
    """Return the error with which a task of a failed run ended, as a line; None if it left none."""
    if event != "failure" or ti is None:
        return None
    try:
        error = pull(ti, ti.task_id, Key.ERROR, -1 if ti.map_index is None else ti.map_index)
    except Exception as problem:  # noqa: BLE001 - the API server may be away, and the notification still goes out
        _LOG.warning("The error of %s cannot be read: %s", ti.task_id, problem)
        return None
    if not isinstance(error, Mapping):
        return None
    return f"{error.get('errorName', 'Error')}: {error.get('errorMessage', '')}"


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)
