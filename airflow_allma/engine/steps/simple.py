"""Step types without work of their own: NO_OP, the start points and END_FLOW."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow_allma.engine.step_handler import InlineHandler, StepCall
from airflow_allma.flow import Step

__all__ = ["EndFlow", "NoOp"]


class NoOp(InlineHandler):
    """Returns its input with a ``message`` added."""

    def __init__(self, step: Step) -> None:
        self._message = f"NO_OP step '{step.label}' executed successfully."

    def __call__(self, call: StepCall) -> Any:
        """Return the input and the message, which replaces an input of that name."""
        return {**call.input, "message": self._message}


class EndFlow(InlineHandler):
    """Ends the path: the step has no input and no output."""

    ends_path: ClassVar[bool] = True

    def __init__(self, step: Step) -> None:
        del step
