"""What all tasks of a flow have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_allma.operators.flow_ref import FlowRef
from airflow_allma.operators.retry_policy import StepRetryError
from airflow_allma.operators.xcoms import Key, push

if TYPE_CHECKING:
    from airflow_allma.operators.task_context import TaskContext

__all__ = ["LABEL_TEMPLATE", "FlowOperator"]

LABEL_TEMPLATE = "{{ allma_label | default(task.item_label) }}"
"""``map_index_template`` of mapped tasks: what the task itself says of its work, else what it was given."""


class FlowOperator(BaseOperator):
    """A task of a flow.

    Args:
        flow: the flow.
        step: the step that the task runs, or the first of them, or the fork that it serves.
    """

    ui_color = "#e8f0fe"

    def __init__(self, *, flow: FlowRef, step: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.flow = flow
        self.step = step

    def fail(self, run: TaskContext, error: dict[str, Any], *, retry: bool = False) -> NoReturn:
        """Push the error, so that whoever comes after can tell what happened, and fail this try.

        Args:
            run: this try.
            error: the four fields of a step's error.
            retry: whether Airflow shall run the task again.
        """
        push(run.ti, Key.ERROR, error)
        text = f"{error.get('errorName', 'Error')}: {error.get('errorMessage', '')}"
        if retry:
            raise StepRetryError(text)
        raise AirflowFailException(text)
