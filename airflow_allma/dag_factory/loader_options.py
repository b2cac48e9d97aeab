"""The options of a loader for its flows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from airflow_allma.configuration import allowed_notifiers, allowed_secrets
from airflow_allma.exceptions import FlowError
from airflow_allma.flow import AirflowOptions, Flow
from airflow_allma.flow.airflow_limits import check_airflow_limits
from airflow_allma.flow.diagnostics import Severity, json_path
from airflow_allma.flow.event_rules import check_events
from airflow_allma.flow.flow_rules import check_flow_fields
from airflow_allma.flow.notification_rules import check_notifications
from airflow_allma.flow.pydantic_errors import diagnostics_of
from airflow_allma.loading import flow_checks
from airflow_allma.timetables import schedule_problem

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["FlowFilter", "LoaderOptions", "OnDag"]

FlowFilter = Callable[[Flow], bool]
"""Returns whether a flow becomes a Dag."""

OnDag = Callable[["DAG", Flow], None]
"""Changes a Dag that was just built. Runs in the Dag processor and in every task's process."""


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """The options of a loader.

    Attributes:
        keep: which flows become Dags; None: all.
        defaults: values of a flow's ``airflow`` object for keys that the flow does not set.
        on_dag: changes each Dag.
    """

    keep: FlowFilter | None = None
    defaults: Mapping[str, Any] | None = None
    on_dag: OnDag | None = None

    def checked(self) -> Self:
        """Return these options.

        Raises:
            FlowError: the defaults are not valid in an ``airflow`` object.
        """
        from pydantic import ValidationError

        try:
            options = AirflowOptions.model_validate(dict(self.defaults or {}), by_alias=True, by_name=False)
        except ValidationError as error:
            reasons = "; ".join(
                f"{json_path(diagnostic.path)}: {diagnostic.message}"
                for diagnostic in diagnostics_of(error, dict(self.defaults or {}))
            )
            raise FlowError(f"The loader's defaults: {reasons}.") from error
        schedule = options.time_schedule
        if schedule is not None and (problem := schedule_problem(schedule)):
            raise FlowError(f"The loader's defaults: $.schedule: {problem}.")
        as_flow = {"airflow": dict(self.defaults or {})}
        found = (
            *check_flow_fields(as_flow),
            *check_events(as_flow),
            *check_airflow_limits(as_flow),
            *check_notifications(as_flow, flow_checks(allowed_secrets(), allowed_notifiers())),
        )
        for diagnostic in found:
            if diagnostic.severity is Severity.ERROR:
                path = json_path(diagnostic.path[1:])
                raise FlowError(f"The loader's defaults: {path}: {diagnostic.message}.")
        return self

    def apply(self, flow: Flow) -> Flow | None:
        """Return a flow with the defaults filled in; None if the flow is not kept.

        Raises:
            Exception: whatever ``keep`` raises.
        """
        if self.keep is not None and not self.keep(flow):
            return None
        if not self.defaults:
            return flow
        own = flow.airflow.model_dump(by_alias=True, exclude_unset=True)
        defaults = dict(self.defaults)
        if flow.enabled_start_points or flow.airflow.watch is not None:
            defaults.pop("schedule", None)  # the flow's own start points or queue start its runs
        options = AirflowOptions.model_validate({**defaults, **own}, by_alias=True, by_name=False)
        return flow.model_copy(update={"airflow": options})
