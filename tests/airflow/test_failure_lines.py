"""Failures that say all by their message are logged as one line, all others with their traceback."""

from __future__ import annotations

import io

import pytest
import structlog

from airflow_allma.compat import without_traceback
from airflow_allma.compat.missing_names import warn_once

pytestmark = pytest.mark.airflow


def logged(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what the log has of an error that ends a task, as Airflow's task runner logs it."""
    output = io.StringIO()
    processors = [structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
    monkeypatch.setattr(structlog, "get_config", lambda: {"processors": processors})
    marked = without_traceback(error) if isinstance(error, ValueError) else error
    without_traceback(ValueError())
    assert len(processors) == 3
    log = structlog.wrap_logger(structlog.PrintLogger(output), processors=processors)

    def fail() -> None:
        raise marked

    try:
        fail()
    except Exception:
        log.exception("Task failed with exception")
    return output.getvalue()


def test_the_message_of_a_marked_error_is_the_line(monkeypatch):
    assert logged(ValueError("52 of 5,000 items failed"), monkeypatch) == "event='52 of 5,000 items failed'\n"


def test_other_errors_keep_their_traceback(monkeypatch):
    text = logged(KeyError("a bug"), monkeypatch)
    assert "event='Task failed with exception'" in text
    assert "Traceback" in text


def test_without_the_list_of_processors_the_error_is_raised_all_the_same(monkeypatch, caplog):
    monkeypatch.setattr(structlog, "get_config", dict)
    warn_once.cache_clear()
    error = ValueError("x")
    assert without_traceback(error) is error
    assert (
        "Failures are logged with a traceback: this Airflow has no list of structlog processors"
        in caplog.text
    )
    warn_once.cache_clear()
