"""One task of a flow at run time: what Airflow knows of it, in the engine's terms."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import NAMESPACE_URL, uuid5

import msgspec

from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.operators.flow_ref import FlowRef
from airflow_allma.operators.services import build_services
from airflow_allma.operators.settings import AllmaSettings
from airflow_allma.operators.step_log import StepLog
from airflow_allma.operators.xcoms import NOT_MAPPED, Key, pull, push, shown
from airflow_allma.timetables import fired_start_point

if TYPE_CHECKING:
    from airflow_allma.engine import FlowProgram, RunInfo, RunState, Services
    from airflow_allma.flow import ScheduleStartPointStep
    from airflow_allma.storage import Pointer

__all__ = ["LOG", "TaskContext", "flow_execution_id"]

_T = TypeVar("_T")

LOG: Final = logging.getLogger("airflow_allma.task")
"""In a task's process Airflow shows it as the task's log."""


def flow_execution_id(dag_id: str, run_id: str) -> str:
    """The id of a flow's run: the same for all tasks and tries of a Dag run."""
    return str(uuid5(NAMESPACE_URL, f"airflow-allma:{dag_id}/{run_id}"))


class TaskContext:
    """One try of one task of a flow.

    Args:
        handle: the flow.
        context: Airflow's context of the task.
        many: whether it runs many items, of which only failures are worth a block in the log.
    """

    def __init__(self, handle: FlowRef, context: Mapping[str, Any], *, many: bool = False) -> None:
        self.handle = handle
        self.ti = context["ti"]
        self.log = LOG
        self._dag_run = context["dag_run"]
        self._many = many
        self._stopped = False
        self._cancel: Callable[[], object] | None = None
        LOG.info(
            "Flow %s, version %d. flowExecutionId: %s",
            handle.flow.id,
            handle.flow.version,
            flow_execution_id(self.ti.dag_id, self.ti.run_id),
        )

    @property
    def program(self) -> FlowProgram:
        """The compiled flow."""
        return self.handle.program

    @cached_property
    def settings(self) -> AllmaSettings:
        """``[allma]`` and what the flow says."""
        return AllmaSettings.load(self.handle.flow.airflow)

    @cached_property
    def services(self) -> Services:
        """The engine's seams."""
        recorder = StepLog(self.log, self.settings.log_bytes, only_failures=self._many)
        return build_services(self.settings, self.log, recorder)

    @property
    def map_index(self) -> int:
        """The task's map index, or ``NOT_MAPPED``."""
        return NOT_MAPPED if self.ti.map_index is None else int(self.ti.map_index)

    @property
    def is_last_try(self) -> bool:
        """Whether Airflow will not run the task again by itself."""
        return bool(self.ti.try_number > self.ti.max_tries)

    @cached_property
    def info(self) -> RunInfo:
        """The run."""
        from airflow_allma.engine import RunInfo

        started = self._dag_run.start_date or self._dag_run.run_after
        return RunInfo(
            flow_id=self.handle.flow.id,
            flow_version=self.handle.flow.version,
            flow_execution_id=flow_execution_id(self.ti.dag_id, self.ti.run_id),
            start_time=started.strftime("%Y-%m-%dT%H:%M:%S.") + f"{started.microsecond // 1000:03d}Z",
            stored_under=(self.ti.dag_id, self.ti.run_id),
        )

    @property
    def run_after(self) -> str:
        """When the run was due; clearing leaves it as it is, a new run under an old id has another one."""
        return str(self._dag_run.run_after.isoformat())

    def start_state(self) -> RunState:
        """Where the flow begins.

        Raises:
            PermanentStepError: the payload is not an object, or the start point that fired is gone.
            ExpressionEvaluationError: the start point's ``payloadTemplate`` cannot be rendered.
        """
        payload = self._dag_run.conf
        if payload is None:
            payload = {}
        if not isinstance(payload, dict):
            raise PermanentStepError(
                f"The payload (conf) of a run must be a JSON object, not {type(payload).__name__}."
            )
        return self.program.start_state(payload, self.info.flow_execution_id, self.start_point)

    @cached_property
    def start_point(self) -> ScheduleStartPointStep | None:
        """The SCHEDULE_START_POINT that fired the run, if one did.

        Raises:
            PermanentStepError: it is not in the flow any more.
        """
        return fired_start_point(
            self.handle.flow,
            run_id=self.ti.run_id,
            run_type=self._dag_run.run_type,
            logical_date=self._dag_run.logical_date,
        )

    @property
    def entry(self) -> str:
        """The step at which the flow begins."""
        return self.program.entry(self.start_point)

    def run(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Run something of the engine to its end on an event loop of its own.

        Raises:
            CancelledError: somebody called ``stop``.
        """

        async def whole() -> _T:
            task = asyncio.current_task()
            if task is not None:
                loop = asyncio.get_running_loop()
                self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
            try:
                if self._stopped:
                    raise asyncio.CancelledError
                return await work()
            finally:
                self._cancel = None
                await self.services.close()

        return asyncio.run(whole())

    def stop(self) -> None:
        """End ``run``, now or as soon as it begins; for signal handlers."""
        self._stopped = True
        if self._cancel is not None:
            self._cancel()

    def save_state(self, state: RunState) -> None:
        """Push where the run stands; a large context is stored, and a pointer goes in its place."""
        saved = state.to_dict()
        if state.journal is None:
            # On the main path nobody asks for the last output again.
            saved.pop("lastOutput", None)
        push(self.ti, Key.STATE, self._offloaded(saved))

    def _offloaded(self, saved: dict[str, Any]) -> dict[str, Any]:
        pointer = self._stored(saved, "state")
        return saved if pointer is None else {"nextStep": saved["nextStep"], "stored": pointer.wrap()}

    def _stored(self, value: Any, kind: str) -> Pointer | None:
        """A value that is too large to travel, where it is now; None when it stays."""
        location, store = self.services.settings.offload_location, self.services.store
        if location is None or store is None:
            return None
        if len(msgspec.json.encode(value)) <= self.settings.context_offload_bytes:
            return None
        from airflow_allma.storage.content import store_value

        return store_value(
            store, location, value, *self.info.key_ids, kind, self.ti.task_id, str(self.map_index)
        )

    def saved_state(
        self, task_id: str, map_index: int = NOT_MAPPED, *, only_if: Collection[str] | None = None
    ) -> dict[str, Any] | None:
        """The state that a task pushed, loaded from where it is.

        Args:
            task_id: the task.
            map_index: which of its instances.
            only_if: give it only if the run goes on with one of these steps.

        Returns:
            What ``RunState.to_dict`` gave; None when the task pushed none or the run goes on elsewhere.

        Raises:
            StorageError: the stored state is gone or cannot be read.
        """
        saved: dict[str, Any] | None = pull(self.ti, task_id, Key.STATE, map_index)
        if saved is None or (only_if is not None and saved["nextStep"] not in only_if):
            return None
        if "stored" not in saved:
            return saved
        from airflow_allma.storage import Pointer
        from airflow_allma.storage.content import load_content

        pointer = Pointer.parse(saved["stored"])
        if pointer is None or self.services.store is None:
            raise StorageError(f"The state of the run is not where it was put: {saved['stored']}.")
        whole: dict[str, Any] = load_content(self.services.store, pointer)
        return whole

    def as_return_value(self, output: Any) -> Any:
        """A step's output as the task's return value, which the UI shows; a large one as a pointer."""
        pointer = self._stored(output, "output")
        return shown(output) if pointer is None else pointer.wrap()

    def task_states(self, tasks: Sequence[str], map_index: int | None = None) -> Mapping[str, str | None]:
        """States of tasks of this Dag run in one call.

        Args:
            tasks: full ids.
            map_index: of this index only (``NOT_MAPPED``: of tasks that are not mapped); None: of all.

        Returns:
            As Airflow keys them: ``<task id>``, and ``<task id>_<map index>`` for a mapped instance.
        """
        found = self.ti.get_task_states(
            dag_id=self.ti.dag_id, task_ids=list(tasks), run_ids=[self.ti.run_id], map_index=map_index
        )
        states: Mapping[str, str | None] = found.get(self.ti.run_id, {})
        return states

    def fork_values(self, items_task: str, fork: str) -> list[Any]:
        """A fork's list, from the context with which the run came to it.

        Args:
            items_task: full id of the fork's ``items`` task.
            fork: the fork's step id.

        Raises:
            PermanentStepError: the list is not there any more.
        """
        from airflow_allma.engine import resolve_items

        base = self.saved_state(items_task)
        if base is None:
            raise PermanentStepError(f"Fork {fork}: task {items_task} left no state.")
        found = self.run(lambda: resolve_items(self.handle.fork(fork), base["context"], self.services))
        return found.values or []
