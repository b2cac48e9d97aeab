"""One Dag of one flow, for a loader: with its defaults, its callback, and everything that can go wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from airflow_allma.compat import check_policies
from airflow_allma.exceptions import FlowError
from airflow_allma.flow import AirflowOptions, Flow, FlowSource
from airflow_allma.flow.diagnostics import json_path
from airflow_allma.flow.pydantic_errors import diagnostics_of

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["FlowFilter", "LoaderOptions", "OnDag"]

FlowFilter = Callable[[Flow], bool]
"""Whether a flow becomes a Dag."""

OnDag = Callable[["DAG", Flow], None]
"""Changes a Dag that was just made. Runs in the Dag processor and in every task's process."""


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """What a loader wants of its flows.

    Attributes:
        keep: which flows become Dags; None: all.
        defaults: what a flow's ``airflow`` object says where the flow itself says nothing.
        on_dag: changes each Dag.
    """

    keep: FlowFilter | None = None
    defaults: Mapping[str, Any] | None = None
    on_dag: OnDag | None = None

    def checked(self) -> Self:
        """The same.

        Raises:
            FlowError: the defaults are not what an ``airflow`` object may hold.
        """
        from pydantic import ValidationError

        from airflow_allma.timetables import schedule_problem

        try:
            options = AirflowOptions.model_validate(dict(self.defaults or {}), by_alias=True, by_name=False)
        except ValidationError as error:
            sentences = "; ".join(
                f"{json_path(finding.path)}: {finding.message}"
                for finding in diagnostics_of(error, dict(self.defaults or {}))
            )
            raise FlowError(f"The loader's defaults: {sentences}.") from error
        if options.schedule is not None and (problem := schedule_problem(options.schedule)):
            raise FlowError(f"The loader's defaults: $.schedule: {problem}.")
        return self

    def build(self, source: FlowSource, *, strictly: bool) -> DAG | None:
        """The Dag; None if the flow is not wanted.

        Args:
            source: the flow.
            strictly: find out now what Airflow would say about the Dag later, when that would count against
                all Dags of the loader's file.

        Raises:
            Exception: whatever Airflow, a cluster policy or the loader's own functions raise.
        """
        from airflow_allma.dag_factory.factory import build_dag

        flow = source.flow
        if self.keep is not None and not self.keep(flow):
            return None
        dag = build_dag(self._with_defaults(flow))
        if self.on_dag is not None:
            self.on_dag(dag, flow)
        if strictly:
            dag.validate()  # type: ignore[no-untyped-call]
            check_policies(dag)
        return dag

    def _with_defaults(self, flow: Flow) -> Flow:
        if not self.defaults:
            return flow
        own = flow.airflow.model_dump(by_alias=True, exclude_unset=True)
        defaults = dict(self.defaults)
        if flow.enabled_start_points:
            defaults.pop("schedule", None)  # the flow says itself when it runs
        options = AirflowOptions.model_validate({**defaults, **own}, by_alias=True, by_name=False)
        return flow.model_copy(update={"airflow": options})
