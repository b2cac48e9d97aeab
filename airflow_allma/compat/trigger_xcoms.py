"""XComs of the task instance that a trigger works for."""

from __future__ import annotations

from typing import Any

from airflow_allma.compat.missing_names import IS_MISSING, warn_once

__all__ = ["pull_of_trigger", "push_of_trigger"]

_NAME = "airflow.sdk.execution_time.xcom.XCom"


def pull_of_trigger(ti: Any, key: str) -> Any:
    """Return an XCom of the trigger's task instance; None if there is none. Blocks: call it in a thread.

    Uses ``XCom.get_one`` (Airflow 3.0), which triggers reach the API server with. Without it the answer is
    None: a trigger that is started again begins where its task was deferred.
    """
    try:
        from airflow.sdk.execution_time.xcom import XCom
    except IS_MISSING:
        warn_once(_NAME, "Triggers that are started again repeat what they have done")
        return None
    return XCom.get_one(key=key, **_identity(ti))


def push_of_trigger(ti: Any, key: str, value: Any) -> None:
    """Store an XCom of the trigger's task instance, a JSON value. Blocks: call it in a thread.

    Uses ``XCom.set`` (Airflow 3.0); without it nothing is stored.
    """
    try:
        from airflow.sdk.execution_time.xcom import XCom
    except IS_MISSING:
        warn_once(_NAME, "Triggers that are started again repeat what they have done")
        return
    XCom.set(key=key, value=value, **_identity(ti))


def _identity(ti: Any) -> dict[str, Any]:
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
