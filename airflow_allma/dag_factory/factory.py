"""From a flow to an Airflow Dag."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.sdk import DAG, conf

from airflow_allma.dag_factory.doc_md import dag_doc_md
from airflow_allma.dag_factory.params import payload_params
from airflow_allma.dag_factory.segments import plan_flow
from airflow_allma.dag_factory.tasks import TaskBuilder
from airflow_allma.exceptions import FlowError
from airflow_allma.flow import AirflowOptions, Flow
from airflow_allma.operators.flow_ref import FlowRef
from airflow_allma.timetables import is_aws_cron, is_aws_rate, schedule_problem, start_points_of

__all__ = ["FIRST_DATE", "OWNER", "TAG", "build_dag", "timetable_for"]

FIRST_DATE: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""A fixed date: one that moved would make a new version of the Dag at every parse."""

TAG: Final = "allma"
OWNER: Final = "allma"

_LONGEST_TAG: Final = 100


def build_dag(flow: Flow) -> DAG:
    """Build the Dag of a flow. Equal flows give equal Dags.

    Args:
        flow: a flow that was validated when it was loaded.

    Returns:
        The Dag, with one task (or group) for each segment of the flow.

    Raises:
        FlowError: Airflow cannot take what the flow's ``airflow`` object says.
    """
    plan = plan_flow(flow)
    options = flow.airflow
    with DAG(
        dag_id=plan.dag_id,
        dag_display_name=flow.name or flow.id,
        description=flow.description,
        doc_md=dag_doc_md(flow),
        schedule=timetable_for(flow),
        start_date=_start_date(flow),
        catchup=bool(options.catchup),
        tags=_tags(flow),
        params=payload_params(flow),
        default_args=_default_args(options),
        max_active_runs=options.max_active_runs or _default_active_runs(options),
        dagrun_timeout=None
        if options.run_timeout_seconds is None
        else timedelta(seconds=options.run_timeout_seconds),
        # Else Airflow would take every Dag that is built, also one that its caller gave up.
        auto_register=False,
    ) as dag:
        TaskBuilder(flow, plan, FlowRef(flow)).build()
    return dag


def timetable_for(flow: Flow) -> Any:
    """When the Dag runs by itself; None: only when it is triggered.

    Returns:
        A timetable for start points and AWS's expressions; a cron expression or a preset as it is, for
        Airflow to read.

    Raises:
        FlowError: it is none of these, or there are start points and ``airflow.schedule``.
    """
    text = flow.airflow.schedule
    if flow.enabled_start_points:
        if text is not None:
            raise FlowError(
                f"Flow {flow.id}: a Dag has one schedule, and the flow has SCHEDULE_START_POINT steps and "
                "airflow.schedule; remove airflow.schedule."
            )
        return _start_points_timetable(flow)
    if text is None:
        return None
    if problem := schedule_problem(text):
        raise FlowError(f"Flow {flow.id}: airflow.schedule {text!r}: {problem}.")
    if is_aws_cron(text):
        # What comes with it is Airflow's own, and only Dags with such a schedule need that.
        from airflow_allma.timetables.aws_timetables import AwsCronTimetable

        return AwsCronTimetable(text, flow.airflow.timezone or "UTC")
    if is_aws_rate(text):
        from airflow_allma.timetables.aws_timetables import AwsRateTimetable

        return AwsRateTimetable(text, _start_date(flow))
    return text.strip()


def _start_points_timetable(flow: Flow) -> Any:
    from airflow_allma.timetables.aws_timetables import StartPointsTimetable

    for step in flow.enabled_start_points:
        if problem := schedule_problem(step.schedule_expression, flow.flow_variables):
            raise FlowError(
                f"Flow {flow.id}: scheduleExpression {step.schedule_expression!r} of step "
                f"{step.step_instance_id}: {problem}."
            )
    return StartPointsTimetable(start_points_of(flow), _start_date(flow))


def _default_active_runs(options: AirflowOptions) -> int:
    if (options.schedule or "").strip() == "@continuous":
        return 1  # Airflow takes no other number with it
    return int(conf.getint("core", "max_active_runs_per_dag", fallback=16))


def _start_date(flow: Flow) -> datetime:
    text = flow.airflow.start_date
    zone = _zone(flow)
    if text is None:
        return FIRST_DATE.astimezone(zone)
    try:
        start = datetime.fromisoformat(text)
    except ValueError as error:
        raise FlowError(
            f"Flow {flow.id}: airflow.startDate {text!r} is no ISO 8601 date, such as 2026-01-31."
        ) from error
    # The zone of the start date is the Dag's, and with it that of cron expressions.
    return start.astimezone(zone) if start.tzinfo else start.replace(tzinfo=zone)


def _zone(flow: Flow) -> Any:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    name = flow.airflow.timezone
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise FlowError(
            f"Flow {flow.id}: airflow.timezone {name!r} is no time zone, such as Europe/Berlin."
        ) from error


def _tags(flow: Flow) -> set[str]:
    return {tag[:_LONGEST_TAG] for tag in (TAG, *flow.tags, *flow.airflow.tags) if tag}


def _default_args(options: AirflowOptions) -> dict[str, Any]:
    given = {
        "owner": options.owner or OWNER,
        "pool": options.pool,
        "queue": options.queue,
        "priority_weight": options.priority_weight,
        "execution_timeout": None
        if options.execution_timeout_seconds is None
        else timedelta(seconds=options.execution_timeout_seconds),
    }
    return {name: value for name, value in given.items() if value is not None}
