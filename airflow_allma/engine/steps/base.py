"""What a step handler gets and gives."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import msgspec

from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, state_view
from airflow_allma.expressions import LoadPointer

__all__ = ["AsyncHandler", "Handler", "InlineHandler", "StepCall"]


class StepCall(msgspec.Struct, gc=False):
    """One call of a handler.

    Attributes:
        step_id: the step.
        input: the step's input, this call's own: the handler may change it and may return it.
        context: the run's data; not to be changed.
        info: the run.
        services: what the handler may use.
        load: gives the content of a pointer.
    """

    step_id: str
    input: dict[str, Any]
    context: Mapping[str, Any]
    info: RunInfo
    services: Services
    load: LoadPointer

    @property
    def log(self) -> logging.Logger:
        """Where the handler's own remarks go."""
        return self.services.log

    def root(self) -> dict[str, Any]:
        """What templates of custom configs and calls see: the context, the run's state, the input on top."""
        return {**self.context, **state_view(self.info, self.context), **self.input}


class InlineHandler(Protocol):
    """A handler that needs no waiting: it is called on the event loop, and without one in plain branches."""

    inline: ClassVar[bool]

    def __call__(self, call: StepCall) -> Any:
        """The step's output (its ``_meta`` included)."""


class AsyncHandler(Protocol):
    """A handler that waits for something.

    Attributes:
        says_how_long: whether the step's own configuration bounds how long it waits, so that the setting
            ``step_timeout_seconds`` does not.
        blocks: whether a call holds a thread.
    """

    inline: ClassVar[bool]
    says_how_long: bool
    blocks: ClassVar[bool]

    async def __call__(self, call: StepCall) -> Any:
        """The step's output (its ``_meta`` included)."""


Handler = InlineHandler | AsyncHandler
