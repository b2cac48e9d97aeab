"""One try of one task of a flow: what Airflow knows about it, in the engine's terms."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_allma.common.timestamps import iso_milliseconds
from airflow_allma.compat import NOT_MAPPED
from airflow_allma.configuration import load_settings
from airflow_allma.operators.airflow_services import build_services
from airflow_allma.operators.api_retries import retry_unanswered_requests
from airflow_allma.operators.event_loop import InterruptibleLoop
from airflow_allma.operators.event_store import EventStore
from airflow_allma.operators.flow_ref import FlowRef
from airflow_allma.operators.run_link import RunLink, flow_execution_id
from airflow_allma.operators.step_log import StepLog
from airflow_allma.operators.xcoms import Key, push_or_warn
from airflow_allma.settings import AllmaSettings

if TYPE_CHECKING:
    from airflow_allma.engine import CompiledFork, FlowProgram, RunInfo, Services
    from airflow_allma.engine.flow_runs import RunStarter

__all__ = ["LOG", "TaskContext"]

_T = TypeVar("_T")

LOG: Final = logging.getLogger("airflow_allma.task")
"""The logger of a task's process, which Airflow shows as the task's log."""


class TaskContext:
    """One try of one task of a flow.

    Args:
        flow_ref: the flow.
        context: Airflow's context of the task.
        many: whether it runs many items, so that only failures are logged as blocks.
        open_runs: returns what starts runs of other flows from this try; None if it starts none.

    Attributes:
        flow_ref: the flow, with its program.
        flow: the flow as written.
        context: Airflow's context of the task.
        ti: Airflow's task instance.
        dag_run: Airflow's Dag run.
        events: the events that have arrived for this task.
    """

    def __init__(
        self,
        flow_ref: FlowRef,
        context: Mapping[str, Any],
        *,
        many: bool = False,
        open_runs: Callable[[TaskContext], RunStarter] | None = None,
    ) -> None:
        self.flow_ref = flow_ref
        self.flow = flow_ref.flow
        self.context = context
        self.ti = context["ti"]
        self.dag_run = context["dag_run"]
        # A first try that has not waited yet can have none.
        self.events = EventStore(context, is_enabled=int(getattr(self.ti, "try_number", 1) or 1) > 1)
        self.open_runs = open_runs
        self._many = many
        self._loop = InterruptibleLoop(self._close)
        retry_unanswered_requests()

    @property
    def flow_execution_id(self) -> str:
        """The id of the flow's run: the one that its start gave it, or that of the Dag run."""
        given = self.link.flow_execution_id if self.link is not None else None
        return given or flow_execution_id(self.ti.dag_id, self.ti.run_id)

    @cached_property
    def link(self) -> RunLink | None:
        """The step that has started the run; None if no step has."""
        return RunLink.of(self.dag_run)

    @property
    def program(self) -> FlowProgram:
        """The compiled flow."""
        return self.flow_ref.program

    def fork(self, step_id: str) -> CompiledFork:
        """Return a fork of the main path; see ``FlowRef.fork``."""
        return self.flow_ref.fork(step_id)

    @cached_property
    def settings(self) -> AllmaSettings:
        """``[allma]``, overridden by the flow."""
        return load_settings(self.flow.airflow)

    @cached_property
    def services(self) -> Services:
        """The engine's seams."""
        recorder = StepLog(LOG, self.settings.log_bytes, only_failures=self._many)
        from airflow_allma.engine.suspension import Answers

        services = build_services(self.settings, LOG, recorder)
        services.flows = self.flow_ref.flows
        services.answers = Answers(self.events.find)
        services.on_checkpoint = self._tell_checkpoint
        if self.open_runs is not None:
            services.runs = self.open_runs(self)
        return services

    def _tell_checkpoint(self, reached: dict[str, Any], info: RunInfo) -> None:
        """Pass a checkpoint to the API server, for the note of the run; those of branches are only theirs."""
        if info.branch_id is None and info.flow_execution_id == self.flow_execution_id:
            message = "The note of the run does not show checkpoint %r: %s"
            push_or_warn(self.ti, Key.CHECKPOINT, reached, LOG, message, reached["label"])

    @property
    def map_index(self) -> int:
        """The task's map index, or ``NOT_MAPPED``."""
        return NOT_MAPPED if self.ti.map_index is None else int(self.ti.map_index)

    @cached_property
    def info(self) -> RunInfo:
        """The run."""
        from airflow_allma.engine import RunInfo
        from airflow_allma.engine.state import RunParent

        link = self.link
        started = self.dag_run.start_date or self.dag_run.run_after
        return RunInfo(
            flow_id=self.flow.id,
            flow_version=self.flow.version,
            flow_execution_id=self.flow_execution_id,
            start_time=iso_milliseconds(started),
            stored_under=(self.ti.dag_id, self.ti.run_id),
            enable_execution_logs=self._keeps_records,
            parent=None if link is None else RunParent(*link.parent),
        )

    @property
    def _keeps_records(self) -> bool:
        given = self.link.enable_execution_logs if self.link is not None else None
        return self.flow.enable_execution_logs if given is None else given

    @property
    def run_after(self) -> str:
        """When the run was due; clearing keeps it, and a new run with the id of a deleted one has another."""
        return str(self.dag_run.run_after.isoformat())

    def run(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Run a coroutine of the engine to its end.

        Raises:
            CancelledError: ``stop`` was called.
        """
        return self._loop.run(work)

    async def _close(self) -> None:
        self._push_tokens()
        await self.services.close()

    def _push_tokens(self) -> None:
        """Pass on what model calls took, for the accounts of the fork and of the run."""
        account = self.services.models.account
        if account:
            message = "%s (the tokens of this task are not in the account of its run)"
            push_or_warn(self.ti, Key.TOKENS, account.to_dict(), LOG, message)

    def stop(self) -> None:
        """End ``run``, now or as soon as it begins; for signal handlers."""
        self._loop.stop()
