"""A flow definition: its own fields, its steps, and its options for Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from airflow_allma.flow.bundle import Bundle
from airflow_allma.flow.completion_actions import CompletionAction
from airflow_allma.flow.event_options import AssetSchedule, Schedule, Watch
from airflow_allma.flow.model_base import Bool, Int, JsonObject, Model, NonEmptyStr, Number
from airflow_allma.flow.normalize import normalize_flow
from airflow_allma.flow.notify_options import Deadline, Notification
from airflow_allma.flow.steps import (
    AnyStep,
    EmailStartPointStep,
    InferenceParameters,
    OnError,
    ParallelBranch,
    ParallelForkManagerStep,
    ScheduleStartPointStep,
    Step,
)

__all__ = [
    "AirflowOptions",
    "BranchGranularity",
    "DefaultStepConfig",
    "Flow",
]


class DefaultStepConfig(Model):
    """Defaults of steps; a step's own value wins, field by field."""

    default_inference_parameters: Annotated[
        InferenceParameters | None, Field(description="For LLM_INVOCATION steps.")
    ] = None
    default_custom_config: Annotated[
        JsonObject | None, Field(description="For steps that take a customConfig.")
    ] = None
    default_error_handler: Annotated[OnError | None, Field(description="For steps without onError.")] = None


class BranchGranularity(StrEnum):
    """How much of an in-memory branch one Airflow task runs."""

    STEP = "step"
    BRANCH = "branch"


class AirflowOptions(Model):
    """A flow's options for Airflow. None: Airflow's or the provider's default. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")

    dag_display_name: Annotated[
        NonEmptyStr | None, Field(description="Name of the Dag in the UI; default: the flow's name.")
    ] = None
    schedule: Annotated[
        Schedule,
        Field(description="A cron expression, a preset such as @daily, an AWS expression, or assets."),
    ] = None
    watch: Annotated[Watch | None, Field(description="An SQS queue whose messages start runs.")] = None
    start_date: Annotated[str | None, Field(description="ISO 8601 date or date and time.")] = None
    timezone: Annotated[
        str | None, Field(description="IANA name of the time zone of schedule and dates.")
    ] = None
    catchup: Annotated[Bool | None, Field(description="Whether to run the intervals that were missed.")] = (
        None
    )
    tags: Annotated[tuple[str, ...], Field(description="Additional tags of the Dag.")] = ()
    owner: Annotated[NonEmptyStr | None, Field(description="Owner of the tasks.")] = None
    pool: Annotated[NonEmptyStr | None, Field(description="Pool of the tasks.")] = None
    queue: Annotated[NonEmptyStr | None, Field(description="Queue of the tasks.")] = None
    priority_weight: Annotated[Int | None, Field(description="Priority of the tasks.")] = None
    max_active_runs: Annotated[
        Int | None, Field(ge=1, description="Maximum number of active runs of the Dag.")
    ] = None
    execution_timeout_seconds: Annotated[
        Number | None, Field(gt=0, description="Time limit of a task, in seconds.")
    ] = None
    run_timeout_seconds: Annotated[
        Number | None, Field(gt=0, description="Time limit of a run, in seconds.")
    ] = None
    branch_granularity: Annotated[
        BranchGranularity | None,
        Field(description="One task for each step of a branch, or one for the branch."),
    ] = None
    notify: Annotated[
        tuple[Notification, ...], Field(description="Notifiers that are called after a run or a failed try.")
    ] = ()
    deadline: Annotated[
        Deadline | None, Field(description="A notifier that is called if a run has not ended in time.")
    ] = None
    input_schema: Annotated[JsonObject | None, Field(description="JSON Schema of the run's payload.")] = None
    max_in_memory_items: Annotated[
        Int | None, Field(ge=0, description="Longer lists run in chunks instead of as mapped tasks.")
    ] = None
    max_in_memory_bytes: Annotated[
        Int | None, Field(ge=0, description="Lists with more bytes of JSON run in chunks.")
    ] = None
    max_waiting_tasks: Annotated[
        Int | None, Field(ge=0, description="Longer lists whose items wait for events run in chunks.")
    ] = None
    chunk_bytes: Annotated[
        Int | None, Field(ge=1, description="Target size of a chunk of a manifest, in bytes.")
    ] = None
    max_chunks: Annotated[Int | None, Field(ge=1, description="Maximum number of chunks of one fork.")] = None
    chunk_concurrency: Annotated[
        Int | None,
        Field(ge=1, description="Items in flight in a chunk when the fork sets no maxConcurrency."),
    ] = None
    lost_task_retries: Annotated[
        Int | None,
        Field(ge=0, description="Retries of a task that was lost."),
    ] = None
    retry_lost_steps: Annotated[
        Bool | None,
        Field(description="Whether steps with side effects run again after they were lost."),
    ] = None
    offload_location: Annotated[
        NonEmptyStr | None,
        Field(description="s3://bucket/prefix or file:///folder for large values and results."),
    ] = None
    aws_conn_id: Annotated[
        NonEmptyStr | None, Field(description="Airflow connection for all AWS access.")
    ] = None

    @property
    def time_schedule(self) -> str | None:
        """The schedule, unless it consists of assets."""
        return self.schedule if isinstance(self.schedule, str) else None

    @property
    def asset_schedule(self) -> AssetSchedule | None:
        """The assets whose updates start runs."""
        return self.schedule if isinstance(self.schedule, AssetSchedule) else None


_STARTED_BY_ASSETS: Final = "asset_triggered__"
"""How Airflow begins the ids of the runs that assets start."""


class Flow(Model):
    """One version of a flow."""

    id: Annotated[NonEmptyStr, Field(description="Identifies the flow; the Dag's id.")]
    version: Annotated[Int, Field(gt=0, description="The highest published version runs.")] = 1
    name: Annotated[str | None, Field(description="Name shown instead of the id.")] = None
    description: Annotated[str | None, Field(description="What the flow does.")] = None
    tags: Annotated[tuple[str, ...], Field(description="Keywords for searching; tags of the Dag.")] = ()
    is_published: Annotated[Bool, Field(description="Only published versions run.")] = True
    start_step_instance_id: Annotated[NonEmptyStr, Field(description="The step at which a run begins.")]
    steps: Annotated[dict[str, AnyStep], Field(description="Step id -> step.")]
    enable_execution_logs: Annotated[Bool, Field(description="Keep a record of every step.")] = False
    flow_variables: Annotated[
        JsonObject, Field(default_factory=dict, description="Values that steps read as $.flow_variables.")
    ]
    default_step_config: Annotated[DefaultStepConfig | None, Field(description="Defaults of steps.")] = None
    on_completion_actions: Annotated[
        tuple[CompletionAction, ...], Field(description="Actions after a run has ended.")
    ] = ()
    airflow: Annotated[
        AirflowOptions, Field(default_factory=AirflowOptions, description="The flow's options for Airflow.")
    ]
    created_at: Annotated[str | None, Field(description="ISO 8601.")] = None
    updated_at: Annotated[str | None, Field(description="ISO 8601.")] = None
    published_at: Annotated[str | None, Field(description="ISO 8601.")] = None
    authoring_source: Annotated[str | None, Field(description="Which tool wrote the flow.")] = None

    # Of its own: what other files define is not part of the flow's JSON.
    _bundle: Bundle = PrivateAttr(default_factory=Bundle)

    @model_validator(mode="before")
    @classmethod
    def _normalize(cls, value: Any) -> Any:
        return normalize_flow(value) if isinstance(value, dict) else value

    @property
    def bundle(self) -> Bundle:
        """What it uses of what any file of its folder defines: prompts and MCP connections."""
        return self._bundle

    def with_bundle(self, bundle: Bundle) -> Flow:
        """Return the same flow with what it uses of what other files define."""
        flow = self.model_copy()
        flow._bundle = bundle  # noqa: SLF001 - its own
        return flow

    @property
    def schedule_start_points(self) -> tuple[ScheduleStartPointStep, ...]:
        """The flow's own schedule start points, also those not enabled; those of branches never fire."""
        return tuple(step for step in self.steps.values() if isinstance(step, ScheduleStartPointStep))

    @property
    def enabled_start_points(self) -> tuple[ScheduleStartPointStep, ...]:
        """The flow's own schedule start points that are enabled."""
        return tuple(step for step in self.schedule_start_points if step.enabled)

    @property
    def mail_start_points(self) -> tuple[EmailStartPointStep, ...]:
        """The flow's own start points for e-mails; those of branches never fire."""
        return tuple(step for step in self.steps.values() if isinstance(step, EmailStartPointStep))

    @property
    def starts_one_each(self) -> bool:
        """Whether each message, or e-mail, of the queue starts a run of its own."""
        watch = self.airflow.watch
        return watch is not None and (watch.is_one_each or bool(self.mail_start_points))

    def only_starts_others(self, run_id: str) -> bool:
        """Return whether a run of the flow does nothing but start a run for each message."""
        return self.starts_one_each and run_id.startswith(_STARTED_BY_ASSETS)

    def steps_of(self, branch: ParallelBranch) -> Mapping[str, Step]:
        """Return the steps that a branch can go to: its own if it has any, or those around it.

        The steps around a branch are the flow's, or, for a fork among the own steps of another branch, those
        own steps if the branch starts at one of them.

        Args:
            branch: one of this flow's branches (the same object, not an equal one).
        """
        if branch.own_steps is not None:
            return branch.own_steps
        around = _own_steps_around(branch, self.steps)
        return self.steps if around is None or branch.start not in around else around


def _own_steps_around(branch: ParallelBranch, steps: Mapping[str, Step]) -> Mapping[str, Step] | None:
    for step in steps.values():
        if not isinstance(step, ParallelForkManagerStep):
            continue
        for candidate in step.parallel_branches:
            if candidate.steps is None:
                continue
            if _contains_branch(candidate.steps, branch):
                return candidate.steps
            deeper = _own_steps_around(branch, candidate.steps)
            if deeper is not None:
                return deeper
    return None


def _contains_branch(steps: Mapping[str, Step], branch: ParallelBranch) -> bool:
    return any(
        isinstance(step, ParallelForkManagerStep)
        and any(candidate is branch for candidate in step.parallel_branches)
        for step in steps.values()
    )
