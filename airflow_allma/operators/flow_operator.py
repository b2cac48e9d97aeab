"""What all operators of a flow have in common."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_allma.operators.flow_ref import FlowRef
from airflow_allma.operators.retry_policy import StepRetryError
from airflow_allma.operators.xcoms import Key, push

__all__ = ["LABEL_TEMPLATE", "FlowOperator"]

LABEL_TEMPLATE: Final = "{{ allma_label | default(task.item_label) }}"
"""``map_index_template`` of mapped tasks: the task's label, set at its end, or that of its item."""


class FlowOperator(BaseOperator):
    """A task of a flow.

    Args:
        flow: the flow.
        step: the step that the task runs, or the first of them, or the fork that it belongs to.
        kwargs: as for any operator.
    """

    ui_color = "#e8f0fe"

    def __init__(self, *, flow: FlowRef, step: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.flow = flow
        self.step = step

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
            raise StepRetryError(message, failures=failures)
        raise AirflowFailException(message)
