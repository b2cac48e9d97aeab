"""Requests of a task to Airflow's API server, sent again while it does not answer.

Airflow's client sends a request up to five times: for 4 to 15 seconds if connections are refused, for about
30 if they time out. A server that restarts takes longer, and by then a step's work is done: without its
result the task would fail, or do the work again.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from airflow_allma.compat import Send, is_unanswered, wrap_supervisor

__all__ = ["RETRY_SECONDS", "retry_unanswered_requests", "with_retries"]

_LOG: Final = logging.getLogger("airflow_allma.task")

RETRY_SECONDS: Final = 60.0
"""From the first failure of a request to its last try; then the task fails, and is retried as a lost one.

Not longer, since a server that answers 500 may do so each time.
"""

_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 10.0


def retry_unanswered_requests() -> None:
    """Repeat all requests of this task's process that the API server does not answer, also Airflow's own."""
    wrap_supervisor(with_retries)


def with_retries(
    send: Send, *, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
) -> Send:
    """Return ``send``, repeated while the API server does not answer.

    Repeating is safe: the server replaces an XCom that it has, and accepts a state twice.

    Args:
        send: sends one message.
        sleep: waits for a number of seconds.
        clock: returns the time in seconds.
    """

    @functools.wraps(send)
    def send_again(*args: Any, **kwargs: Any) -> Any:
        deadline: float | None = None
        wait = _FIRST_WAIT
        while True:
            try:
                return send(*args, **kwargs)
            except Exception as error:
                now = clock()
                deadline = now + RETRY_SECONDS if deadline is None else deadline
                if now >= deadline or not is_unanswered(error):
                    raise
                _LOG.warning("Airflow's API server does not answer; next try in %g s: %s", wait, error)
            sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    return send_again
