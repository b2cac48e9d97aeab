"""Starts runs of other flows from a task, and reads how they ended."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_allma.compat import (
    ENDED_STATES,
    NOT_MAPPED,
    EndedTask,
    RunRefusedError,
    dag_is_paused,
    ended_tasks,
    find_dag_run,
    other_run_state,
    start_dag_run,
)
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.flow.ids import safe_dag_id, safe_id
from airflow_allma.operators.run_link import CONTEXT_POINTER_KEY, RESUME_KEY, RunLink, flow_execution_id
from airflow_allma.operators.run_states import loaded_state
from airflow_allma.operators.run_urls import run_url
from airflow_allma.operators.task_context import TaskContext
from airflow_allma.operators.transport import from_json, json_bytes, xcom_safe
from airflow_allma.operators.xcoms import Key

if TYPE_CHECKING:
    from airflow_allma.engine import RunInfo
    from airflow_allma.engine.flow_runs import RunOutcome, StartedRun, StartRequest

__all__ = ["AirflowRuns", "NoteStarted", "child_run_id"]


class NoteStarted(Protocol):
    """Keeps the address of a run that was started."""

    def __call__(self, current: TaskContext, url: str, /, *, is_new: bool) -> None:
        """Keep it; ``is_new`` in the process that has started the run."""


_SMALL_MEMBER_BYTES: Final = 200
_SMALL_MEMBERS: Final = 20

_FORK_TASKS: Final = frozenset({"items", "chunks", "aggregate"})
_WHAT_TO_DO: Final[Mapping[str, str]] = {
    "not_found": "Check the flow's id, and that its Dag is loaded and has no errors.",
    "import_errors": "Fix the errors of its file.",
    "denied_run_type": "Let its Dag have operator-triggered runs (`allowed_run_types`).",
    "value_error": "Change the payload, or the flow's airflow.inputSchema.",
}


def child_run_id(parent: tuple[str, str, str], step_id: str, key: str) -> str:
    """Return the run id of a run that a step starts.

    Args:
        parent: Dag id, run id and due time of the Dag run whose task starts it. A run that was deleted and
            made again has another due time, and starts runs of its own.
        step_id: the step, for people.
        key: identifies the start; see ``execution_key``.
    """
    digest = hashlib.sha256("\0".join((*parent, key)).encode()).hexdigest()
    return f"allma__{safe_id(step_id)[:60]}__{digest[:24]}"


class AirflowRuns:
    """Starts Dag runs of other flows; the methods' calls of the API server run in threads.

    Args:
        current: the task's try.
        waits: the fork depth at which steps can wait for runs of their own: that of the task's own step, if
            the task runs one step and can be deferred; None: no step can.
        note_started: called with the try and the address of each run; ``is_new`` in the process that starts
            it.
    """

    def __init__(
        self, current: TaskContext, waits: int | None = None, note_started: NoteStarted | None = None
    ) -> None:
        self._current = current
        self._waits = waits
        self._note_started = note_started
        self._checked: set[str] = set()

    def can_wait(self, info: RunInfo) -> bool:
        """Return whether a step of this run, or branch run, can wait for a run of its own."""
        return self._waits is not None and info.fork_depth == self._waits

    async def start(self, request: StartRequest) -> StartedRun:
        """Start a run, unless the same request has started it before; see ``RunStarter``.

        Raises:
            PermanentStepError: the flow cannot be started.
        """
        started: StartedRun = await self._current.services.in_thread(self._start, request)
        return started

    async def outcome(self, started: StartedRun) -> RunOutcome | None:
        """Return how a run ended; None while it is running.

        Raises:
            PermanentStepError: the run does not exist any more, or its data cannot be read.
        """
        outcome: RunOutcome | None = await self._current.services.in_thread(self._outcome, started)
        return outcome

    def _start(self, request: StartRequest) -> StartedRun:
        from airflow_allma.engine.flow_runs import ExecutionKind, StartedRun, check_flow_depth

        current = self._current
        dag_id = safe_dag_id(request.flow_id)
        check_flow_depth(request.step_id, request.flow_id, request.parent)
        waits = request.kind is ExecutionKind.SYNC_SUBFLOW
        parent = (current.ti.dag_id, current.ti.run_id, current.run_after)
        run_id = child_run_id(parent, request.step_id, request.flow_execution_id or request.key)
        if request.flow_execution_id is not None:
            run_id = f"allma__{request.flow_execution_id}"
        try:
            self._check_paused(request, dag_id, waits=waits)
            is_new = self._send(request, dag_id, run_id)
            if not is_new and waits and request.flow_execution_id is not None:
                self._check_origin(request, dag_id, run_id)
            if not is_new and waits and other_run_state(dag_id, run_id) == "failed":
                current.services.log.info("Run %s of Dag %s had failed; it runs again", run_id, dag_id)
                start_dag_run(dag_id, run_id, {}, again=True)
        except RunRefusedError as error:
            raise self._refused(request, dag_id, error) from error
        child_id = request.flow_execution_id or flow_execution_id(dag_id, run_id)
        current.services.log.info(
            "%s run %s of Dag %s, flowExecutionId %s",
            "Started" if is_new else "There is already",
            run_id,
            dag_id,
            child_id,
        )
        started = StartedRun(child_id, dag_id, run_id)
        self._note(started, is_new=True)
        return started

    def _note(self, started: StartedRun, *, is_new: bool) -> None:
        url = run_url(started.dag_id, started.run_id)
        if url is not None and self._note_started is not None:
            self._note_started(self._current, url, is_new=is_new)

    def _check_paused(self, request: StartRequest, dag_id: str, *, waits: bool) -> None:
        # Many items can start the same flow: to know of a pause that begins in the meantime is not worth a
        # request for each.
        if dag_id in self._checked and not waits:
            return
        self._checked.add(dag_id)
        if not dag_is_paused(dag_id):
            return
        if waits:
            raise PermanentStepError(
                f"Step {request.step_id}: Dag {dag_id} of flow {request.flow_id!r} is paused, so its run "
                "would never end. Unpause the Dag.",
                details={"dagId": dag_id},
            )
        self._current.services.log.warning(
            "Step %s: Dag %s of flow %s is paused; its runs are queued until it is unpaused",
            request.step_id,
            dag_id,
            request.flow_id,
        )

    def _check_origin(self, request: StartRequest, dag_id: str, run_id: str) -> None:
        """Let nobody take, or run again, the run of somebody else by its id, which data can name."""
        run = find_dag_run(dag_id, run_id)
        link = RunLink.of(run) if run is not None else None
        ti = self._current.ti
        if link is None or (link.dag_id, link.run_id, link.parent_step) != (
            ti.dag_id,
            ti.run_id,
            request.step_id,
        ):
            raise PermanentStepError(
                f"Step {request.step_id}: there is already a run with the flowExecutionId "
                f"{request.flow_execution_id}, which another step or run has started. Use a "
                "new one, or none.",
                details={"dagId": dag_id, "runId": run_id},
            )

    def _send(self, request: StartRequest, dag_id: str, run_id: str) -> bool:
        def send(payload: dict[str, Any]) -> bool:
            return start_dag_run(dag_id, run_id, self._conf(request, payload), note=self._origin(request))

        stored = self._stored_payload(request)
        if stored is None:
            return send(request.payload)
        try:
            return send(stored)
        except RunRefusedError as error:
            if error.reason != "value_error":
                raise
            # Airflow checks required params itself, and some of them are in the stored object.
            return send(request.payload)

    def _origin(self, request: StartRequest) -> str:
        """Return the run's note, which links the task that has started it."""
        ti = self._current.ti
        named = f"run {ti.run_id} of Dag {ti.dag_id}"
        url = run_url(ti.dag_id, ti.run_id)
        # Only parts that cannot contain Markdown.
        return f"Started by step {safe_id(request.step_id)} of {f'[{named}]({url})' if url else named}"

    def _conf(self, request: StartRequest, payload: dict[str, Any]) -> dict[str, Any]:
        ti, parent = self._current.ti, request.parent
        safe = xcom_safe(payload)
        resume_key = request.payload.get(RESUME_KEY)
        link = RunLink(
            root_id=parent.root_id,
            parent_id=parent.flow_execution_id,
            parent_step=request.step_id,
            depth=parent.depth + 1,
            kind=request.kind.value,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=self._current.map_index,
            flow_version=request.version,
            flow_execution_id=request.flow_execution_id,
            enable_execution_logs=request.enable_execution_logs,
            trigger_source=request.trigger_source,
            resume_key=resume_key if isinstance(resume_key, str) and resume_key else None,
            payload=None if safe is payload else safe,
        )
        return link.in_conf(payload if safe is payload else {})

    def _stored_payload(self, request: StartRequest) -> dict[str, Any] | None:
        """Store a large payload; return what travels instead: a pointer, and the first small members."""
        current = self._current
        location, store = current.services.settings.offload_location, current.services.store
        payload = request.payload
        if location is None or store is None:
            return None
        if len(json_bytes(payload)) <= current.settings.context_offload_bytes:
            return None
        from airflow_allma.storage import store_value

        try:
            pointer = store_value(store, location, payload, *current.info.key_ids, "start", request.key)
        except StorageError as error:
            raise PermanentStepError(
                f"Step {request.step_id}: the payload of the run cannot be stored. {error}"
            ) from error
        small = (key for key, member in payload.items() if len(json_bytes(member)) <= _SMALL_MEMBER_BYTES)
        shown = {key: payload[key] for key, _ in zip(small, range(_SMALL_MEMBERS), strict=False)}
        return {**shown, CONTEXT_POINTER_KEY: pointer.wrap()}

    def _refused(self, request: StartRequest, dag_id: str, error: RunRefusedError) -> PermanentStepError:
        todo = _WHAT_TO_DO.get(error.reason, "")
        return PermanentStepError(
            f"Step {request.step_id} cannot start flow {request.flow_id!r}: {error.message.rstrip('.')}. "
            f"{todo}".rstrip(),
            details={"dagId": dag_id, "reason": error.reason},
            error_name=_error_name(error.reason),
        )

    def _outcome(self, started: StartedRun) -> RunOutcome | None:
        from airflow_allma.engine.flow_runs import RunOutcome

        dag_id, run_id = started.dag_id, started.run_id
        self._note(started, is_new=False)
        try:
            state = other_run_state(dag_id, run_id)
        except RunRefusedError as error:
            raise PermanentStepError(
                f"Run {run_id} of Dag {dag_id}, for which the step waits, does not exist any more: "
                f"{error.message}",
                details={"dagId": dag_id, "runId": run_id},
            ) from error
        if state not in ENDED_STATES:
            return None
        tasks = _on_main_path(ended_tasks(dag_id, run_id))
        if state == "failed":
            return RunOutcome(error=self._error(started, tasks))
        return RunOutcome(context=self._context(started, tasks))

    def _context(self, started: StartedRun, tasks: list[EndedTask]) -> dict[str, Any]:
        for saved in self._pushed(started, tasks, "success", Key.STATE):
            if saved.get("nextStep") is None:
                context: dict[str, Any] = self._load(started, saved)
                return context
        self._current.services.log.warning(
            "Run %s of Dag %s counts as one with an empty result: it is marked as success, and no task has "
            "ended its flow. Clear it to run it",
            started.run_id,
            started.dag_id,
        )
        return {}

    def _load(self, started: StartedRun, saved: dict[str, Any]) -> dict[str, Any]:
        try:
            context: dict[str, Any] = loaded_state(self._current, saved)["context"]
        except StorageError as error:
            raise PermanentStepError(
                f"The result of run {started.run_id} of Dag {started.dag_id} cannot be read. {error}"
            ) from error
        return context

    def _error(self, started: StartedRun, tasks: list[EndedTask]) -> dict[str, Any]:
        for error in self._pushed(started, tasks, "failed", Key.ERROR):
            found: dict[str, Any] = error
            return found
        failed = [task.task_id for task in tasks if task.state == "failed"]
        why = (
            f"Task {failed[0]} failed without an error of a step: its process was lost, or it was marked."
            if failed
            else "None of its tasks has failed: the run was marked as failed, or it ran too long."
        )
        return PermanentStepError(
            f"Run {started.run_id} of Dag {started.dag_id} failed. {why}",
            details={"dagId": started.dag_id, "runId": started.run_id},
            error_name="RunFailed",
        ).as_dict()

    def _pushed(self, started: StartedRun, tasks: list[EndedTask], state: str, key: Key) -> Any:
        """Yield what the run's tasks in a state have pushed."""
        for task in [task for task in tasks if task.state == state]:
            encoded = self._current.ti.xcom_pull(
                dag_id=started.dag_id,
                run_id=started.run_id,
                task_ids=task.task_id,
                key=key.value,
                map_indexes=NOT_MAPPED,
            )
            if encoded is not None:
                yield from_json(encoded)


def _error_name(reason: str) -> str | None:
    """Return the name of the error that the same flow would have in the step's process."""
    from airflow_allma.engine.flow_library import UNKNOWN_FLOW

    return {"not_found": UNKNOWN_FLOW, "value_error": "PayloadError"}.get(reason)


def _on_main_path(tasks: Any) -> list[EndedTask]:
    """Return the tasks that can have ended a flow: those that are not part of a branch."""
    return [
        task
        for task in tasks
        if task.map_index == NOT_MAPPED
        and ("." not in task.task_id or task.task_id.rpartition(".")[2] in _FORK_TASKS)
    ]
