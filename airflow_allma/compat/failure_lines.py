"""Failures that Airflow logs as one line: their message says all, and a traceback would hide it."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any, Final, TypeVar

from airflow_allma.compat.missing_names import warn_once

__all__ = ["without_traceback"]

_MARK: Final = "_allma_is_one_line"

_Error = TypeVar("_Error", bound=BaseException)


def without_traceback(error: _Error) -> _Error:
    """Return the error; Airflow's log shows its message, and no traceback, if it ends this task.

    Airflow logs whatever ends a task by ``log.exception`` of structlog (3.0), whose list of processors gets
    one more. Without that list the traceback is logged as well.
    """
    import structlog

    setattr(error, _MARK, True)
    processors = structlog.get_config().get("processors")
    if not isinstance(processors, list):
        warn_once("list of structlog processors", "Failures are logged with a traceback")
    elif _log_one_line not in processors:
        processors.insert(0, _log_one_line)
    return error


def _log_one_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = sys.exc_info()[1]
    if event.get("exc_info") and getattr(error, _MARK, False):
        del event["exc_info"]
        event["event"] = str(error)
    return event
