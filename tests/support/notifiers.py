"""Notifiers for tests: they keep the messages that they get."""

from __future__ import annotations

import sys
from typing import Any

from airflow.sdk import BaseNotifier


class Noted(BaseNotifier):
    """Appends its message to ``notes``."""

    template_fields = ("message", "data")
    template_ext = (".txt",)
    notes: list[tuple[str, Any]] = []  # noqa: RUF012 - of the class, so that tests can read it

    def __init__(self, *, message: str, data: Any = None, **kwargs: Any) -> None:
        self.message, self.data = message, data
        super().__init__(**kwargs)

    def notify(self, context: Any) -> None:
        self.notes.append((self.message, self.data))


class NotedLater(BaseNotifier):
    """Can only be awaited."""

    def __init__(self, message: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.message = message

    async def async_notify(self, context: Any) -> None:
        Noted.notes.append((self.message, None))


class Failing(BaseNotifier):
    """Refuses to be made."""

    def __init__(self) -> None:
        raise ValueError("not today")


class Exiting(BaseNotifier):
    """Ends its process instead of being made."""

    def __init__(self) -> None:
        sys.exit("not today")


NOT_A_CLASS = 1
