"""Whether a request of this thread to the API server was not answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["UnansweredRequests", "note_unanswered", "unanswered_requests"]

_LOCAL: Final = threading.local()


class UnansweredRequests:
    """The requests of a thread during ``unanswered_requests``.

    Attributes:
        count: how many were not answered.
    """

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def unanswered_requests() -> Iterator[UnansweredRequests]:
    """Count the requests of this thread that the API server does not answer.

    Airflow's lookup of connections and Variables treats such a request as if they did not exist. Requests are
    counted after ``wrap_supervisor``; without it the count is 0.
    """
    noted = UnansweredRequests()
    before = getattr(_LOCAL, "noted", None)
    _LOCAL.noted = noted
    try:
        yield noted
    finally:
        _LOCAL.noted = before


def note_unanswered() -> None:
    """Count a request of this thread."""
    noted = getattr(_LOCAL, "noted", None)
    if noted is not None:
        noted.count += 1
