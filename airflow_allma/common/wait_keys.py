"""How waits and events are named and written in Airflow: what tasks and the API server agree on.

A task that waits for an event pushes an XCom for its key, which the API server finds by its indexed name. The
event itself goes to the task's state store, which retries and a killed worker leave intact.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import msgspec

__all__ = [
    "HAND_OVER_PREFIX",
    "WAKE_KEY",
    "WaitRow",
    "event_key",
    "hand_over_key",
    "wait_key",
    "wait_token",
]

WAKE_KEY: Final = "allma_wake"
"""XCom of a waiting task that must be woken: the reasons, which only the API server reads and writes."""

HAND_OVER_PREFIX: Final = "allma_resume:"
"""What the keys of ``hand_over_key`` begin with."""

_WAIT_PREFIX: Final = "allma_wait:"
_EVENT_PREFIX: Final = "allma_event:"


def wait_token(key: str) -> str:
    """Return the name of a correlation key, which can be any string, in keys of XComs and of state stores."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def wait_key(token: str) -> str:
    """Return the key of the XCom that says that a task waits."""
    return _WAIT_PREFIX + token


def event_key(token: str) -> str:
    """Return the key of an event in the state store of the task that waits for it.

    Its value is ``{"payload", "by", "at"}``: an object, the user, the time in ISO 8601.
    """
    return _EVENT_PREFIX + token


def hand_over_key(token: str) -> str:
    """Return the key of the XCom of a run's last task with an event that the API server is to deliver.

    Its value is ``{"key", "payload"}``.
    """
    return HAND_OVER_PREFIX + token


Moment = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]
"""A time in seconds since the epoch, until the year 9999."""


class WaitRow(msgspec.Struct, rename="camel", omit_defaults=True):
    """The value of the XCom that says that a task waits for an event; pushed as a JSON string.

    Attributes:
        key: the correlation key.
        step: the step that waits.
        since: when the wait began, in seconds since the epoch.
        until: its deadline, in seconds since the epoch.
        branch: the branch, inside one.
        item: the item's index, inside a branch.
        message: the rendered message to the person whose answer is awaited.
        delivered: when the event was delivered, in seconds since the epoch.
        by: who delivered it.
    """

    key: str
    step: str
    since: Moment
    until: Moment
    branch: str | None = None
    item: int | None = None
    message: str | None = None
    delivered: Moment | None = None
    by: str | None = None

    def to_json(self) -> str:
        """Return the row as the XCom's value."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, value: str) -> WaitRow:
        """Restore what ``to_json`` returned.

        Raises:
            ValueError: the value is something else.
        """
        try:
            return msgspec.json.decode(value, type=cls)
        except (msgspec.DecodeError, TypeError) as error:
            raise ValueError(f"The XCom of a wait is not valid: {error}") from error
