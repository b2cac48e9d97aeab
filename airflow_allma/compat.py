"""Undocumented names of Airflow; no other module of this package uses them.

Each function documents what a name is used for, since which Airflow it exists, and what happens without it:
the answer is worse, but tasks run and Dags load, and one warning is logged in each process. All imports are
inside the functions, so that importing this module costs nothing.

Documented names are imported where they are used: those in ``__all__`` of ``airflow.sdk``, its ``exceptions``
and ``lineage``, ``airflow.timetables.base``, ``airflow.plugins_manager``, and the hooks of providers.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = [
    "NOT_MAPPED",
    "IgnoreRule",
    "StoredDag",
    "check_policies",
    "count_xcoms",
    "database_is_sqlite",
    "ignore_rule",
    "instance_key",
    "is_local_task",
    "is_task_process",
    "is_unanswered",
    "note_database",
    "redact_connections",
    "stored_dag",
    "task_states",
    "wrap_supervisor",
]

_LOG: Final = logging.getLogger(__name__)

_IS_MISSING: Final = (ImportError, AttributeError)


@cache
def _warn_once(name: str, consequence: str) -> None:
    _LOG.warning("%s: this Airflow has no %s", consequence, name)


# Secrets


def redact_connections(value: Any) -> Any:
    """Return a JSON value with the secrets of Airflow's connections and variables masked.

    Uses ``redact`` of the secrets masker (in ``airflow.sdk._shared`` since Airflow 3.1).
    Without it the value is returned unchanged: callers have masked by key names before, and Airflow's own log
    processors still mask what reaches a task log.
    """
    try:
        from airflow.sdk._shared.secrets_masker import redact
    except _IS_MISSING:
        _warn_once(
            "airflow.sdk._shared.secrets_masker.redact", "Step logs mask values only by the names of keys"
        )
        return value
    return redact(value)


# .airflowignore


class IgnoreRule(Protocol):
    """A syntax of patterns in ``.airflowignore``, with the functions that Airflow's classes have."""

    @staticmethod
    def compile(pattern: str, base_dir: Path, definition_file: Path) -> Any:
        """Return a pattern as a rule; None if it cannot be read, which is logged."""

    @staticmethod
    def match(path: Path, rules: list[Any]) -> bool:
        """Return whether the rules, in order, ignore a file or folder."""


def ignore_rule(syntax: str) -> type[IgnoreRule]:
    """Return the class that reads and matches patterns of ``.airflowignore``.

    Uses ``_GlobIgnoreRule`` and ``_RegexpIgnoreRule`` (in ``airflow._shared`` since Airflow 3.2). Airflow's
    function for a whole folder cannot be used: it raises an error at the first link that leads back.
    Without them, patterns are matched by pathspec and by ``re``, which Airflow's classes use too.

    Args:
        syntax: ``[core] dag_ignore_file_syntax``: ``regexp``; anything else means ``glob``.
    """
    try:
        from airflow._shared.module_loading.file_discovery import _GlobIgnoreRule, _RegexpIgnoreRule
    except _IS_MISSING:
        _warn_once(
            "airflow._shared.module_loading.file_discovery._GlobIgnoreRule or _RegexpIgnoreRule",
            ".airflowignore is read by rules of this package, which can differ from Airflow's",
        )
        return _OwnRegexpRule if syntax == "regexp" else _OwnGlobRule
    return _RegexpIgnoreRule if syntax == "regexp" else _GlobIgnoreRule


class _OwnRegexpRule:
    @staticmethod
    def compile(pattern: str, base_dir: Path, definition_file: Path) -> Any:
        try:
            return base_dir, re.compile(pattern)
        except re.error as error:
            _LOG.warning(
                "Invalid regular expression, ignored: %s (%s) in %s", pattern, error, definition_file
            )
            return None

    @staticmethod
    def match(path: Path, rules: list[Any]) -> bool:
        return any(pattern.search(str(path.relative_to(base))) is not None for base, pattern in rules)


class _OwnGlobRule:
    @staticmethod
    def compile(pattern: str, base_dir: Path, definition_file: Path) -> Any:  # noqa: ARG004 - as Airflow's
        from pathspec import GitIgnoreSpec

        try:
            return definition_file.parent, GitIgnoreSpec.from_lines([pattern])
        except ValueError as error:
            _LOG.warning("Invalid pattern, ignored: %s (%s) in %s", pattern, error, definition_file)
            return None

    @staticmethod
    def match(path: Path, rules: list[Any]) -> bool:
        # A pattern for folders only ends with a slash, and matches a path that does.
        ending = "/" if path.is_dir() else ""
        is_ignored = False
        for base, spec in rules:
            decision = spec.check_file(f"{path.relative_to(base).as_posix()}{ending}").include
            is_ignored = is_ignored if decision is None else decision
        return is_ignored


# Cluster policies


def check_policies(dag: DAG) -> DAG:
    """Pass a copy of a Dag to the cluster policies, so that a refusal is known before Airflow asks them.

    It is a copy because Airflow passes them the Dag itself later, and they can change it.
    Uses ``airflow.settings``: ``get_policy_plugin_manager`` (3.2), ``dag_policy`` and ``task_policy`` (2.0).
    Without them nothing is checked: a policy that refuses one Dag takes all Dags of the loader's file along.

    Returns:
        The Dag as the policies leave it; the same object if there are none.

    Raises:
        Exception: whatever a policy raises, except the request to skip the Dag, which Airflow honors itself.
    """
    try:
        from airflow.exceptions import AirflowClusterPolicySkipDag
        from airflow.settings import dag_policy, get_policy_plugin_manager, task_policy

        hooks = get_policy_plugin_manager().hook
        has_policies = hooks.dag_policy.get_hookimpls() or hooks.task_policy.get_hookimpls()
    except _IS_MISSING as error:
        _warn_once(
            f"airflow.settings.get_policy_plugin_manager, dag_policy or task_policy ({error})",
            "Cluster policies are not checked early; if one refuses a flow, all flows of its loader stop",
        )
        return dag
    if not has_policies:
        return dag
    copy = deepcopy(dag)
    try:
        dag_policy(copy)  # type: ignore[no-untyped-call]
        for task in copy.tasks:
            task_policy(task)  # type: ignore[no-untyped-call]
    except AirflowClusterPolicySkipDag:
        return dag
    return copy


# Serialized Dags


class StoredDag(NamedTuple):
    """A Dag as the Dag processor passes it on.

    Attributes:
        data: the serialized Dag, a JSON object.
        schedule: the description of its schedule; empty for none.
    """

    data: dict[str, Any]
    schedule: str


def stored_dag(dag: DAG) -> StoredDag | None:
    """Serialize a Dag as the Dag processor does, and read it back as it does before it stores the Dag.

    Uses ``DagSerialization`` of ``airflow.serialization.serialized_objects`` (Airflow 3.2).
    Without it nothing is checked: a Dag that cannot be serialized takes all Dags of the loader's file along.

    Returns:
        What is stored; None if this Airflow has another way to serialize Dags.

    Raises:
        Exception: whatever Airflow raises for a Dag that it cannot serialize.
    """
    try:
        from airflow.serialization.serialized_objects import DagSerialization

        to_dict, from_dict = DagSerialization.to_dict, DagSerialization.from_dict
    except _IS_MISSING as error:
        _warn_once(
            f"airflow.serialization.serialized_objects.DagSerialization ({error})",
            "Dags are not serialized early; if one cannot be, all flows of its loader stop",
        )
        return None
    data: dict[str, Any] = to_dict(dag)
    read = from_dict(deepcopy(data))
    return StoredDag(data, str(getattr(read.timetable, "description", "") or ""))


# The process of a task

_TASK_RUNNER: Final = "airflow.sdk.execution_time.task_runner"


def is_task_process() -> bool:
    """Return whether this process runs a task; the process from which those of tasks are forked does not.

    Uses ``SUPERVISOR_COMMS`` of the task runner (Airflow 3.0): only a task's process sets it.
    Without it the answer is True: nothing is warmed up, and each task of a flow starts more slowly.
    """
    runner = sys.modules.get(_TASK_RUNNER)
    if runner is None:
        is_known = _exists(_TASK_RUNNER)
    elif hasattr(runner, "SUPERVISOR_COMMS"):
        return True
    else:
        is_known = "SUPERVISOR_COMMS" in getattr(runner, "__annotations__", {})
    if not is_known:
        _warn_once(f"{_TASK_RUNNER}.SUPERVISOR_COMMS", "Tasks of flows start slowly, without warm-up")
    return not is_known


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except _IS_MISSING:
        return False


# Requests to the API server

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
    runner = sys.modules.get(_TASK_RUNNER)
    channel = getattr(runner, "SUPERVISOR_COMMS", None)
    if runner is None or channel is None or isinstance(channel, _Channel):
        return
    if not callable(getattr(channel, "send", None)):
        _warn_once(f"{_TASK_RUNNER}.SUPERVISOR_COMMS.send", "Requests to the API server are not repeated")
        return
    vars(runner)["SUPERVISOR_COMMS"] = _Channel(channel, wrap(channel.send))


class _Channel:
    def __init__(self, channel: Any, send: Send) -> None:
        self._channel = channel
        self.send = send

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


# The deployment

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


# States of tasks

NOT_MAPPED: Final = -1
"""Airflow's map index of a task that is not mapped."""


def instance_key(task_id: str, map_index: int = NOT_MAPPED) -> str:
    """Return a task instance's key in what ``task_states`` returns: ``<task>`` or ``<task>_<map index>``.

    It is the key of Airflow's ``get_task_states`` (Airflow 3.0), which only its source documents.
    """
    return task_id if map_index == NOT_MAPPED else f"{task_id}_{map_index}"


def task_states(ti: Any, task_ids: Sequence[str], map_index: int | None = None) -> Mapping[str, str | None]:
    """Return the states of tasks of a task's own Dag run, with one call.

    Uses ``get_task_states`` of the running task instance (Airflow 3.0). Without it each state costs up to
    four calls (``get_ti_count``, Airflow 3.0). Without that too every task counts as successful: tasks then
    decide by the XComs of their upstream tasks, also by those from before a task was cleared.

    Args:
        ti: the task instance that runs.
        task_ids: full ids.
        map_index: only this index (-1 for tasks that are not mapped); None for all.

    Returns:
        ``instance_key`` -> state.
    """
    try:
        get_task_states = ti.get_task_states
    except AttributeError:
        return _CountedStates(ti, task_ids)
    by_run = get_task_states(
        dag_id=ti.dag_id, task_ids=list(task_ids), run_ids=[ti.run_id], map_index=map_index
    )
    states: Mapping[str, str | None] = by_run.get(ti.run_id, {})
    return states


_COUNTED: Final = ("success", "skipped", "failed", "upstream_failed")


class _CountedStates(Mapping[str, str | None]):
    """States that are queried one by one, by counting the instances in each state."""

    def __init__(self, ti: Any, task_ids: Sequence[str]) -> None:
        self._task_ids = frozenset(task_ids)
        self._known: dict[str, str | None] = {}
        self._ti = ti
        self._can_count = hasattr(ti, "get_ti_count")
        _warn_once(
            "get_task_states of a task instance",
            "The states of upstream tasks are queried one by one"
            if self._can_count
            else "The states of upstream tasks are unknown; their XComs count, even those before a clear",
        )

    def __getitem__(self, key: str) -> str | None:
        if not self._can_count:
            return "success"
        if key not in self._known:
            self._known[key] = next((state for state in _COUNTED if self._is_in(key, state)), None)
        return self._known[key]

    def _is_in(self, key: str, state: str) -> bool:
        task_id, map_index = key, NOT_MAPPED
        if key not in self._task_ids:
            task_id, _, index = key.rpartition("_")
            map_index = int(index)
        counted = self._ti.get_ti_count(
            dag_id=self._ti.dag_id,
            task_ids=[task_id],
            run_ids=[self._ti.run_id],
            map_index=map_index,
            states=[state],
        )
        return bool(counted)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


# XComs


def count_xcoms(ti: Any, task_id: str, key: str) -> int | None:
    """Return how many map indexes of a task have an XCom with this key, with one call.

    Uses ``SUPERVISOR_COMMS`` of the task runner and ``GetXComCount`` (Airflow 3.0), as Airflow does for the
    length of a mapped task's output. Without them the answer is None: callers ask for the XCom itself, and
    Airflow logs an error for each that does not exist.
    """
    try:
        from airflow.sdk.execution_time.comms import GetXComCount
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        question = GetXComCount(key=key, dag_id=ti.dag_id, run_id=ti.run_id, task_id=task_id)
        counted: int = cast("Any", SUPERVISOR_COMMS.send(question)).len
    except _IS_MISSING as error:
        _warn_once(
            f"airflow.sdk.execution_time.comms.GetXComCount or SUPERVISOR_COMMS ({error})",
            "XComs are looked up one by one, and Airflow logs an error for each that does not exist",
        )
        return None
    return counted
