"""Steps that do nothing but pass on: NO_OP and the start points; END_FLOW has no handler's work at all."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow_allma.engine.steps.base import StepCall
from airflow_allma.flow import Step

__all__ = ["EndFlow", "NoOp"]


class NoOp:
    """Gives its input back, with a ``message``."""

    inline: ClassVar[bool] = True

    def __init__(self, step: Step) -> None:
        # Recorded flows show "undefined" for a step without a display name, and compare the text.
        self._message = f"NO_OP step '{step.display_name or 'undefined'}' executed successfully."

    def __call__(self, call: StepCall) -> Any:
        """The input and the message; the message wins over an input of that name."""
        return {**call.input, "message": self._message}


class EndFlow:
    """Ends the path. The runner never calls it for output: the step has no input and yields nothing."""

    inline: ClassVar[bool] = True

    def __init__(self, step: Step) -> None:
        self._step_id = step.step_instance_id

    def __call__(self, call: StepCall) -> Any:
        """The input, untouched."""
        return call.input
