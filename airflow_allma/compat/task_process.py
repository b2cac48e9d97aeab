"""The process of a task: its supervisor, the API server, the deployment, and its masked secrets."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

from airflow_allma.compat.missing_names import IS_MISSING, warn_once
from airflow_allma.compat.unanswered import note_unanswered

__all__ = [
    "TASK_RUNNER",
    "Send",
    "database_is_sqlite",
    "is_local_task",
    "is_task_process",
    "is_unanswered",
    "mask_values",
    "note_database",
    "redact_connections",
    "wrap_supervisor",
]

TASK_RUNNER: Final = "airflow.sdk.execution_time.task_runner"


def is_task_process() -> bool:
    """Return whether this process runs a task; the process from which those of tasks are forked does not.

    Uses ``SUPERVISOR_COMMS`` of the task runner (Airflow 3.0): only a task's process sets it.
    Without it the answer is True: nothing is warmed up, and each task of a flow starts more slowly.
    """
    runner = sys.modules.get(TASK_RUNNER)
    if runner is None:
        is_known = _exists(TASK_RUNNER)
    elif hasattr(runner, "SUPERVISOR_COMMS"):
        return True
    else:
        is_known = "SUPERVISOR_COMMS" in getattr(runner, "__annotations__", {})
    if not is_known:
        warn_once(f"{TASK_RUNNER}.SUPERVISOR_COMMS", "Tasks of flows start slowly, without warm-up")
    return not is_known


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except IS_MISSING:
        return False


_TRANSPORT_ERRORS: Final = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "ReadError",
        "ReadTimeout",
        "RemoteProtocolError",
        "WriteError",
        "WriteTimeout",
    }
)
"""Names of httpx's errors that say nothing about the request itself."""

Send = Callable[..., Any]
"""Sends one message to the supervisor, which passes it on to the API server, and returns the answer."""


def is_unanswered(error: BaseException) -> bool:
    """Return whether an error means that the API server did not answer, or answered with 5xx.

    Uses the ``detail`` of ``AirflowRuntimeError`` (3.0), which the supervisor fills in. Without it the answer
    is False: nothing is sent again.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType

    if not isinstance(error, AirflowRuntimeError) or error.error.error is not ErrorType.API_SERVER_ERROR:
        return False
    detail = error.error.detail or {}
    status = detail.get("status_code")
    return detail.get("exception_type") in _TRANSPORT_ERRORS or (isinstance(status, int) and status >= 500)


def wrap_supervisor(wrap: Callable[[Send], Send]) -> None:
    """Replace, once, how this task's process sends messages to its supervisor.

    Uses ``SUPERVISOR_COMMS`` of the task runner (3.0), from which Airflow's own code sends too. Without it
    messages are sent as Airflow sends them.
    """
    runner = sys.modules.get(TASK_RUNNER)
    channel = getattr(runner, "SUPERVISOR_COMMS", None)
    if runner is None or channel is None or isinstance(channel, _Channel):
        return
    if not callable(getattr(channel, "send", None)):
        warn_once(f"{TASK_RUNNER}.SUPERVISOR_COMMS.send", "Requests to the API server are not repeated")
        return
    vars(runner)["SUPERVISOR_COMMS"] = _Channel(channel, _noting(wrap(channel.send)))


def _noting(send: Send) -> Send:
    @functools.wraps(send)
    def send_and_note(*args: Any, **kwargs: Any) -> Any:
        try:
            return send(*args, **kwargs)
        except Exception as error:
            if is_unanswered(error):
                note_unanswered()
            raise

    return send_and_note


class _Channel:
    def __init__(self, channel: Any, send: Send) -> None:
        self._channel = channel
        self.send = send

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


_HIDDEN_DATABASE: Final = "airflow-db-not-allowed"
_noted_database: list[str] = []


def note_database() -> None:
    """Remember the kind of the metadata database, for the processes that are forked from this one.

    Airflow hides the database's address from processes that parse Dags or run tasks. Their parents (Dag
    processor, scheduler) ask all providers for their metadata when they start, which is when this is called.
    Uses ``SQL_ALCHEMY_CONN`` of ``airflow.settings`` (2.0). Without it, SQLite is treated like any database.
    """
    url = getattr(sys.modules.get("airflow.settings"), "SQL_ALCHEMY_CONN", None)
    if isinstance(url, str) and not url.startswith(_HIDDEN_DATABASE) and not _noted_database:
        _noted_database.append(url.partition(":")[0].partition("+")[0])


def database_is_sqlite() -> bool:
    """Return whether the database that this machine configures is SQLite; False if this process cannot know.

    Workers on other machines do not configure a database, and Airflow's default is SQLite: in a task, the
    answer only counts if ``is_local_task`` is True.
    """
    return _noted_database == ["sqlite"]


def is_local_task() -> bool:
    """Return whether this is a task's process on the scheduler's machine, under the LocalExecutor.

    Such a process is forked from one that has imported ``airflow.executors.local_executor`` (2.0). The
    setting ``[core] executor`` alone does not say so: pods have LocalExecutor there too. Without the module,
    and on systems that do not fork (macOS), the answer is False: results of chunks stay in XComs.
    """
    return "airflow.executors.local_executor" in sys.modules and is_task_process()


def mask_values(values: Iterable[str]) -> None:
    """Mask values in the logs of this task, also in those that its supervisor writes.

    Uses ``mask_secret`` of ``airflow.sdk.log`` (Airflow 3.0), which is documented in Airflow's guide to
    masking. Without it the engine's own masks cover errors and records, but not other lines of the log.
    """
    try:
        from airflow.sdk.log import mask_secret
    except IS_MISSING:
        warn_once("airflow.sdk.log.mask_secret", "Task logs mask only secrets in step records and errors")
        return
    listed: list[Any] = list(values)
    if listed:
        mask_secret(listed)


def redact_connections(value: Any) -> Any:
    """Return a JSON value with the secrets of Airflow's connections and variables masked.

    Uses ``redact`` of the secrets masker (in ``airflow.sdk._shared`` since Airflow 3.1).
    Without it the value is returned unchanged: callers have masked by key names before, and Airflow's own log
    processors still mask what reaches a task log.
    """
    try:
        from airflow.sdk._shared.secrets_masker import redact
    except IS_MISSING:
        warn_once(
            "airflow.sdk._shared.secrets_masker.redact", "Step logs mask values only by the names of keys"
        )
        return value
    return redact(value)
