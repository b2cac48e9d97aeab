"""The assets that start runs of a Dag, and the watcher of a queue."""

from __future__ import annotations

from typing import Any, Final

from airflow.sdk import Asset, AssetAll, AssetAny, AssetOrTimeSchedule, AssetWatcher

from airflow_allma.configuration import string_setting
from airflow_allma.dag_factory.plan import EventPlan

__all__ = ["event_schedule"]

_WATCHER: Final = "airflow-allma"


def event_schedule(plan: EventPlan, times: Any) -> Any:
    """Return the schedule of a Dag that events start.

    Args:
        plan: the events.
        times: a timetable that starts runs too, or None.
    """
    assets = [_asset(plan, uri) for uri in plan.assets]
    condition: Any = AssetAll(*assets) if plan.requires_all else AssetAny(*assets)
    return condition if times is None else AssetOrTimeSchedule(assets=condition, timetable=times)


def _asset(plan: EventPlan, uri: str) -> Asset:
    if plan.queue_url is None:
        return Asset(uri)
    # Airflow's triggers import modules that only Dags with a queue need.
    from airflow_allma.operators.queue_trigger import QueueTrigger

    conn_id = string_setting("aws_conn_id") if plan.conn_id is None else plan.conn_id
    # Equal for all flows that watch the queue: Airflow runs equal triggers once.
    return Asset(uri, watchers=[AssetWatcher(_WATCHER, QueueTrigger(plan.queue_url, conn_id))])
