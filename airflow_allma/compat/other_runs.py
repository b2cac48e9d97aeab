"""Other Dag runs, as a task sees them."""

from __future__ import annotations

from typing import Any, cast

from airflow_allma.compat.missing_names import IS_MISSING, warn_once

__all__ = ["OtherRun", "find_dag_run"]


class OtherRun:
    """The tasks of another Dag run, with the methods of a task instance that operators use.

    Args:
        ti: the task instance that runs, which makes the requests.
        dag_id: the other run's Dag.
        run_id: the other run.
    """

    def __init__(self, ti: Any, dag_id: str, run_id: str) -> None:
        self._ti = ti
        self.dag_id = dag_id
        self.run_id = run_id
        self.task_id = ti.task_id
        self.map_index = -1
        for name in ("get_task_states", "get_ti_count"):
            # They name the run themselves. One that this Airflow does not have stays missing.
            if hasattr(ti, name):
                setattr(self, name, getattr(ti, name))

    def xcom_pull(self, **arguments: Any) -> Any:
        """Return an XCom of the other run; arguments as for Airflow's ``xcom_pull``."""
        return self._ti.xcom_pull(dag_id=self.dag_id, run_id=self.run_id, **arguments)


def find_dag_run(dag_id: str, run_id: str) -> Any:
    """Return a Dag run as the context of a task has it; None if it does not exist.

    Uses ``SUPERVISOR_COMMS`` of the task runner and ``GetDagRun`` (Airflow 3.1). Without them the answer is
    None, as for a run that was deleted.
    """
    try:
        from airflow.sdk.execution_time.comms import GetDagRun
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS
    except IS_MISSING as error:
        warn_once(f"airflow.sdk.execution_time.comms.GetDagRun or SUPERVISOR_COMMS ({error})", "")
        return None
    answer = cast("Any", SUPERVISOR_COMMS.send(GetDagRun(dag_id=dag_id, run_id=run_id)))
    return answer if getattr(answer, "run_id", None) == run_id else None
