"""A flow's Dag as a plan: all facts that the flow determines, none that needs Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from airflow_allma.dag_factory.plan.doc_md import dag_doc_md, flow_json
from airflow_allma.dag_factory.plan.flow_text import MAX_SHOWN
from airflow_allma.dag_factory.plan.payload_params import ParamPlan, plan_params
from airflow_allma.dag_factory.plan.schedule_plan import SchedulePlan, plan_schedule
from airflow_allma.dag_factory.plan.segments import TaskPlan, plan_tasks
from airflow_allma.flow import AirflowOptions, Flow
from airflow_allma.flow.airflow_limits import DESCRIPTION, NAME, PRIORITY_WEIGHT, TAG
from airflow_allma.flow.ids import FLOW_TAG
from airflow_allma.flow.mail_routes import MailRoute

__all__ = ["DagPlan", "plan_dag", "priority_weight"]

_OWNER: Final = "allma"

_MAX_CONTINUOUS_RUNS: Final = 1
"""Airflow accepts no other number of active runs with ``@continuous``."""


@dataclass(frozen=True, slots=True)
class DagPlan:
    """Everything that a flow determines about its Dag.

    Attributes:
        flow: the flow, which the tasks run.
        tasks: the tasks and groups.
        schedule: when the Dag runs.
        params: the fields of the trigger form.
        display_name: the name that the UI shows.
        description: what the UI says about the Dag; None for nothing.
        doc_md: the documentation that the UI shows.
        tags: the Dag's tags.
        catchup: whether missed intervals are run.
        max_active_runs: maximum number of active runs; None: as Airflow is configured.
        run_timeout: time limit of a run; None: no limit.
        task_defaults: arguments of all tasks, by Airflow's names.
        mail: the start points for e-mails of all flows, if this flow has one.
        whole_flow: the flow's JSON if the documentation cannot have all of it; None otherwise.
    """

    flow: Flow
    tasks: TaskPlan
    schedule: SchedulePlan
    params: tuple[ParamPlan, ...]
    display_name: str
    description: str | None
    doc_md: str
    tags: frozenset[str]
    catchup: bool
    max_active_runs: int | None
    run_timeout: timedelta | None
    task_defaults: Mapping[str, Any]
    mail: tuple[MailRoute, ...] = ()
    whole_flow: str | None = None


def plan_dag(flow: Flow, mail: tuple[MailRoute, ...] = ()) -> DagPlan:
    """Plan the Dag of a flow. Equal flows have equal plans.

    Args:
        flow: the flow.
        mail: the start points for e-mails of all flows, of which its tasks know if it has one.

    Raises:
        FlowError: the schedule, a date or the time zone in the flow's ``airflow`` object is not valid.
    """
    options = flow.airflow
    schedule = plan_schedule(flow)
    source = flow_json(flow)
    return DagPlan(
        flow=flow,
        tasks=plan_tasks(flow),
        schedule=schedule,
        params=plan_params(flow, is_scheduled=schedule.is_scheduled),
        display_name=NAME.fit(options.dag_display_name or flow.name or flow.id),
        description=None if flow.description is None else DESCRIPTION.fit(flow.description),
        doc_md=dag_doc_md(flow, source),
        tags=frozenset(TAG.fit(tag) for tag in (FLOW_TAG, *flow.tags, *options.tags) if tag),
        catchup=bool(options.catchup),
        max_active_runs=options.max_active_runs or (_MAX_CONTINUOUS_RUNS if schedule.is_continuous else None),
        run_timeout=_seconds(options.run_timeout_seconds),
        task_defaults=_task_defaults(options),
        mail=mail if flow.mail_start_points else (),
        whole_flow=source if len(source) > MAX_SHOWN else None,
    )


def _task_defaults(options: AirflowOptions) -> dict[str, Any]:
    defaults = {
        "owner": options.owner or _OWNER,
        "pool": options.pool,
        "queue": options.queue,
        "priority_weight": priority_weight(options.priority_weight),
        "execution_timeout": _seconds(options.execution_timeout_seconds),
    }
    return {name: value for name, value in defaults.items() if value is not None}


def priority_weight(written: int | None) -> int | None:
    """Return the weight that Airflow gets; None for its default."""
    return None if written is None else PRIORITY_WEIGHT.fit(written)


def _seconds(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
