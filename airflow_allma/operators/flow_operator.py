"""What all operators of a flow have in common."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_allma.compat import without_traceback
from airflow_allma.operators.airflow_runs import AirflowRuns
from airflow_allma.operators.flow_ref import FlowRef
from airflow_allma.operators.retry_policy import StepRetryError
from airflow_allma.operators.run_urls import StartedRunLink
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.xcoms import Key, push

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["LABEL_TEMPLATE", "FlowOperator"]

LABEL_TEMPLATE: Final = "{{ task.item_label }}"
"""``map_index_template`` of mapped tasks, which Airflow renders before and after they run."""


class FlowOperator(BaseOperator):
    """A task of a flow.

    Args:
        flow: the flow.
        step: the step that the task runs, or the first of them, or the fork that it belongs to.
        kwargs: as for any operator.
    """

    ui_color = "#e8f0fe"

    whole_flow: str | None = None
    """The flow's JSON, for the API server, in the first task of a long flow; else None."""

    @classmethod
    @cache
    def get_serialized_fields(cls) -> frozenset[str]:
        """Return what of a task the Dag processor writes into the database."""
        fields: frozenset[str] = super().get_serialized_fields()  # type: ignore[no-untyped-call]
        return fields | {"whole_flow"}

    def __init__(self, *, flow: FlowRef, step: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.flow = flow
        self.step = step
        self.started_run_url = ""
        """Address of the run that the step has started; set in the task's process."""

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render the fields; for a mapped task, that selects its item from the list of its upstream task.

        Raises:
            AirflowFailException: this run lacks the list.
        """
        try:
            super().render_template_fields(context, jinja_env)
        except KeyError as error:
            # Airflow 3.3: `airflow tasks test DAG TASK DATE --map-index 0` ends with KeyError: 'chunk'.
            if error.args[:1] not in {(field,) for field in self.template_fields}:
                raise
            raise AirflowFailException(
                self.no_item("the task before it has returned no list in this run")
            ) from error

    def no_item(self, reason: str) -> str:
        """Return the message for a mapped task for which this run has no item."""
        return (
            f"Step {self.step}: this mapped task has no item, because {reason}. Clear that task and its "
            "downstream tasks. `airflow tasks test` needs a run in which it has succeeded: pass its run id, "
            f"as in `airflow tasks test {self.dag_id} {self.task_id} RUN_ID --map-index 0`."
        )

    def begin(self, context: Mapping[str, Any], *, many: bool = False) -> TaskContext:
        """Return the context of this try, and log which flow it runs; ``many`` is as for ``TaskContext``."""
        current = TaskContext(self.flow, context, many=many, open_runs=self._open_runs)
        LOG.info(
            "Flow %s, version %d. flowExecutionId: %s",
            self.flow.flow.id,
            self.flow.flow.version,
            current.flow_execution_id,
        )
        return current

    def _open_runs(self, current: TaskContext) -> AirflowRuns:
        return AirflowRuns(current, self.own_runs_at, self._note_started)

    def _note_started(self, current: TaskContext, url: str, *, is_new: bool) -> None:
        """Keep the address of the run that the task's step has started, for the link in the UI."""
        self.started_run_url = url
        if is_new:
            for link in self.operator_extra_links:
                if isinstance(link, StartedRunLink):
                    current.ti.xcom_push(key=link.xcom_key, value=url)

    @property
    def own_runs_at(self) -> int | None:
        """How many forks are around steps that can wait for runs of their own; None if no step can."""
        return None

    def fail(self, ti: Any, error: dict[str, Any], *, retry: bool = False, failures: int = 0) -> NoReturn:
        """Push the error, for the tasks downstream, and fail this try.

        Args:
            ti: this try's task instance.
            error: the four fields of a step's error.
            retry: whether Airflow should retry the task.
            failures: how often the step had failed by itself before.

        Raises:
            StepRetryError: if Airflow should retry.
            AirflowFailException: if it should not.
        """
        push(ti, Key.ERROR, error)
        message = f"{error.get('errorName', 'Error')}: {error.get('errorMessage', '')}"
        if retry:
            raise without_traceback(StepRetryError(message, failures=failures)) from None
        raise without_traceback(AirflowFailException(message)) from None
