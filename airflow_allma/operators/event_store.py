"""The events that the API server has put into the state store of a task."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.common.wait_keys import event_key, wait_token

if TYPE_CHECKING:
    from airflow_allma.engine.suspension import SuspendReason

__all__ = ["EventStore"]

_LOG: Final = logging.getLogger("airflow_allma.task")


@dataclass(slots=True)
class EventStore:
    """The events in the state store of a task.

    Args:
        context: Airflow's context of the try.
        consumed: tokens of events that the run has taken before it was last suspended -> when they arrived.
            They stay in the store until the task has ended, for a try that begins from scratch.

    Attributes:
        is_enabled: whether events can be there at all: not on the first try, before anything waited.
    """

    context: Mapping[str, Any]
    consumed: dict[str, str] = field(default_factory=dict)
    is_enabled: bool = False

    def find(self, reason: SuspendReason, key: str) -> Any:
        """Return the event with a key, as an answer; NOTHING if there is none. It waits for Airflow."""
        from airflow_allma.engine.suspension import SuspendReason
        from airflow_allma.expressions import NOTHING

        store = self.context.get("task_state_store")
        if reason is not SuspendReason.EVENT or store is None or not self.is_enabled:
            return NOTHING
        token = wait_token(key)
        event = store.get(event_key(token))
        if not isinstance(event, dict) or self.consumed.get(token) == event.get("at"):
            return NOTHING
        self.consumed[token] = str(event.get("at"))
        _LOG.info("The event for the key %r arrived at %s, from %s", key, event.get("at"), event.get("by"))
        return {"payload": event.get("payload")}

    def forget(self) -> None:
        """Delete the events that were taken, so that a task that runs again waits anew."""
        store = self.context.get("task_state_store")
        if store is not None:
            for token in self.consumed:
                store.delete(event_key(token))
        self.consumed.clear()
