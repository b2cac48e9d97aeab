"""The addresses of runs in Airflow's UI, and the links from tasks to the runs that they start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from airflow_allma.common.fork_notes import items_url

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

__all__ = ["ItemsLink", "StartedRunLink", "run_url"]


def run_url(dag_id: str | None, run_id: str | None) -> str | None:
    """Return the address of a run in the UI; None if Airflow's configuration does not say where that is."""
    base = _base_url()
    if not base or not dag_id or not run_id:
        return None
    return f"{base.rstrip('/')}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"


def _base_url() -> str:
    from airflow.sdk import conf

    return conf.get("api", "base_url", fallback="") or ""


class ItemsLink(BaseOperatorLink):
    """The link from the last task of a fork to the page with the fork's items; stored when that task ends.

    Not from its other tasks: each instance would need a request for it.
    """

    @property
    def name(self) -> str:
        """The button's text in the UI."""
        return "Allma items"

    @property
    def xcom_key(self) -> str:
        """The XCom with the address."""
        return "_link_AllmaItems"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the address, in the task's process."""
        return items_url(_base_url(), ti_key.dag_id, ti_key.run_id, str(getattr(operator, "step", "")))


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
