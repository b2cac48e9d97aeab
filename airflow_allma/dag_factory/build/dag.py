"""A planned Dag as Airflow's Dag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk import DAG, Param

from airflow_allma.configuration import dag_limit
from airflow_allma.dag_factory.build.callbacks import dag_callbacks
from airflow_allma.dag_factory.build.tasks import TaskBuilder
from airflow_allma.dag_factory.plan import DagPlan, ParamPlan, ScheduleKind, SchedulePlan, plan_dag
from airflow_allma.flow import Flow
from airflow_allma.operators.flow_ref import FindFlow

__all__ = ["build_dag", "dag_from_plan"]


def build_dag(flow: Flow) -> DAG:
    """Plan and build the Dag of a flow. Equal flows have equal Dags.

    Args:
        flow: a flow that was validated when it was loaded.

    Returns:
        The Dag, with one task (or group) for each segment of the flow.

    Raises:
        FlowError: Airflow does not accept a value of the flow's ``airflow`` object.
    """
    return dag_from_plan(plan_dag(flow))


def dag_from_plan(
    plan: DagPlan, limit: Callable[[str], int] = dag_limit, find: FindFlow | None = None
) -> DAG:
    """Build a planned Dag. Equal plans have equal Dags.

    Args:
        plan: the plan.
        limit: returns a limit of ``[core]``; ``dag_limit`` reads Airflow's configuration at each call.
        find: finds the flows that steps run; None if there are no others.
    """
    with DAG(
        dag_id=plan.tasks.dag_id,
        dag_display_name=plan.display_name,
        description=plan.description,
        doc_md=plan.doc_md,
        schedule=_schedule(plan.schedule),
        start_date=plan.schedule.start,
        catchup=plan.catchup,
        tags=set(plan.tags),
        default_args=dict(plan.task_defaults),
        max_active_runs=plan.max_active_runs or limit("max_active_runs_per_dag"),
        max_active_tasks=limit("max_active_tasks_per_dag"),
        dagrun_timeout=plan.run_timeout,
        # Otherwise Airflow would register every Dag that is built, even if its caller drops it.
        auto_register=False,
        **dag_callbacks(plan.flow),
    ) as dag:
        TaskBuilder(plan, find).build()
    # Not before: each task would get a copy, at every level of its class, and read the Dag's all the same.
    params: Any = {param.name: _param(param) for param in plan.params}
    dag.params = params
    return dag


def _schedule(plan: SchedulePlan) -> Any:
    times = _times(plan)
    if plan.events is None:
        return times
    from airflow_allma.dag_factory.build.events import event_schedule

    return event_schedule(plan.events, times)


def _times(plan: SchedulePlan) -> Any:
    if plan.kind not in _TIMETABLES:
        # An expression that Airflow reads; None if the Dag does not run by time.
        return plan.expression
    # The timetables import modules of Airflow's that only Dags with such a schedule need.
    from airflow_allma.timetables import aws_timetables

    match plan.kind:
        case ScheduleKind.AWS_CRON:
            return aws_timetables.AwsCronTimetable(str(plan.expression), plan.timezone)
        case ScheduleKind.AWS_RATE:
            return aws_timetables.AwsRateTimetable(str(plan.expression), plan.start)
    return aws_timetables.StartPointsTimetable(plan.points, plan.start)


_TIMETABLES = frozenset({ScheduleKind.AWS_CRON, ScheduleKind.AWS_RATE, ScheduleKind.START_POINTS})


def _param(plan: ParamPlan) -> Param:
    default = {} if plan.is_required else {"default": plan.default}
    return Param(description=plan.description, schema=dict(plan.schema), **default)
