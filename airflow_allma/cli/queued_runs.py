"""The runs that the steps of a flow start on the command line: one after another, after the run itself."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from msgspec.structs import replace

from airflow_allma.cli.event_option import EventOption
from airflow_allma.engine import RunInfo, SegmentStatus, Services
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.flow_program import FlowProgram
from airflow_allma.engine.flow_runs import (
    RunOutcome,
    StartedRun,
    StartRequest,
    check_flow_depth,
    parent_of_child,
)
from airflow_allma.engine.runner import run_segment
from airflow_allma.exceptions import AllmaError, PermanentStepError
from airflow_allma.flow.ids import safe_dag_id
from airflow_allma.storage import encode_value

__all__ = ["MAX_STARTED_RUNS", "QueuedRuns"]

MAX_STARTED_RUNS: Final = 1_000
"""How many runs one run can start on the command line."""


@dataclass(frozen=True, slots=True)
class _Queued:
    request: StartRequest
    started: StartedRun
    program: FlowProgram


class QueuedRuns:
    """Keeps the runs that steps start until the run itself has ended.

    Steps that wait for a flow run it in their own process.

    Args:
        events: the events for which runs can wait.

    Attributes:
        services: those of the run, with its library of flows.
    """

    def __init__(self, events: EventOption) -> None:
        self._events = events
        self.services: Services | None = None
        self._known: dict[str, StartedRun] = {}
        self._queue: deque[_Queued] = deque()

    def can_wait(self, info: RunInfo) -> bool:  # noqa: ARG002 - as the protocol asks
        """Return False: nothing else would run the flow in the meantime."""
        return False

    async def start(self, request: StartRequest) -> StartedRun:
        """Keep a run for later, unless the same request has been made before.

        Raises:
            PermanentStepError: the flow does not exist, or too many runs were started.
        """
        if (known := self._known.get(request.key)) is not None:
            return known
        check_flow_depth(request.step_id, request.flow_id, request.parent)
        if len(self._known) >= MAX_STARTED_RUNS:
            raise PermanentStepError(
                f"Step {request.step_id} starts more than {MAX_STARTED_RUNS} runs. The command line runs "
                "them one after another: run the flow with less data, or in Airflow."
            )
        flows = self.services.flows if self.services is not None else None
        if flows is None:
            raise PermanentStepError(
                f"Flow {request.flow_id!r} cannot be started: this flow was loaded without a folder of flows."
            )
        program: FlowProgram = flows.program(request.flow_id, request.version)
        execution_id = request.flow_execution_id or str(uuid5(NAMESPACE_URL, f"airflow-allma:{request.key}"))
        started = StartedRun(execution_id, safe_dag_id(request.flow_id), f"allma__{request.key[:24]}")
        self._known[request.key] = started
        self._queue.append(_Queued(request, started, program))
        return started

    async def outcome(self, started: StartedRun) -> RunOutcome | None:
        """Return None: no step waits for these runs."""
        del started
        return None

    async def run_all(self) -> None:
        """Run what was started, also by these runs, and write a line about each to standard error."""
        services = self.services
        while self._queue and services is not None:
            queued = self._queue.popleft()
            answer = await self._run(queued, services)
            try:
                line = encode_value(answer).decode()
            except (AllmaError, RecursionError):
                line = encode_value({**answer, "error": None}).decode()
            sys.stderr.write(line + "\n")

    async def _run(self, queued: _Queued, services: Services) -> dict[str, Any]:
        request, started, program = queued.request, queued.started, queued.program
        flow = program.flow
        logs = request.enable_execution_logs
        root = RunInfo.now(
            flow.id,
            flow.version,
            started.flow_execution_id,
            enable_execution_logs=flow.enable_execution_logs if logs is None else logs,
        )
        info = replace(root, parent=parent_of_child(request.parent, request.step_id, request.kind))
        answer: dict[str, Any] = {"startedRun": started.run_id, "flow": flow.id, "version": flow.version}
        source = {} if request.trigger_source is None else {"triggerSource": request.trigger_source}
        try:
            state = program.start_state({**source, **request.payload}, info.flow_execution_id)
            result = await self._events.drive(
                lambda: run_segment(program, state, info, services, stays=True), services
            )
        except AllmaError as error:
            return {**answer, "status": "FAILED", "error": step_error_from(error).as_dict()}
        answer |= {"status": result.status.value, "error": result.error}
        if result.status is SegmentStatus.SUSPENDED:
            answer["waitsFor"] = [wait.key for wait in result.waits]
        return answer
