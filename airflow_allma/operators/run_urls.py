"""The addresses of runs in Airflow's UI, and the links from tasks to the runs that they start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

__all__ = ["StartedRunLink", "run_url"]


def run_url(dag_id: str | None, run_id: str | None) -> str | None:
    """Return the address of a run in the UI; None if Airflow's configuration does not say where that is."""
    from airflow.sdk import conf

    base = conf.get("api", "base_url", fallback="") or ""
    if not base or not dag_id or not run_id:
        return None
    return f"{base.rstrip('/')}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"


class StartedRunLink(BaseOperatorLink):
    """The link from a task to the run that its step has started.

    It is stored as an XCom as soon as the run has started, and again when the task ends.
    """

    @property
    def name(self) -> str:
        """The button's text in the UI."""
        return "Started run"

    @property
    def xcom_key(self) -> str:
        """The XCom with the address."""
        return "_link_StartedRun"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's interface
        """Return the address, in the task's process; empty if it has started no run."""
        return str(getattr(operator, "started_run_url", ""))
