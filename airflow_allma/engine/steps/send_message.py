"""Handlers of SQS_SEND and SNS_PUBLISH: modules whose settings can also be fields of the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_allma.common.merging import merge_deep
from airflow_allma.engine.step_handler import Handler, StepCall
from airflow_allma.engine.steps.module import BlockingModule
from airflow_allma.flow import SnsPublishStep, SqsSendStep

__all__ = ["SendMessage", "send_message"]


class SendMessage(BlockingModule):
    """Sends the message that the step's own fields, its custom config and its input make.

    Later ones win. Values that are mapped below an object (``payload.id``) are merged into it.
    """

    def __init__(self, step: SqsSendStep | SnsPublishStep, identifier: str) -> None:
        super().__init__(step, identifier)
        fields = step.message_fields
        self._own = {name: value for name, value in fields.items() if value is not None}
        targets = [*step.input_mappings, *step.literals]
        self._extended = frozenset(name for name in fields if name not in targets)

    def effective_input(self, call: StepCall) -> dict[str, Any]:
        """Return the values of the message."""
        values = {**self._own, **self.rendered_config(call)}
        for name, value in call.input.items():
            below = values.get(name) if name in self._extended else None
            if isinstance(below, Mapping) and isinstance(value, Mapping):
                values[name] = merge_deep(below, value)
            else:
                values[name] = value
        return values


def send_message(identifier: str) -> Callable[[Any], Handler]:
    """Return what makes the handlers of steps that send with a module."""
    return lambda step: SendMessage(step, identifier)
