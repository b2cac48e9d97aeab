"""One execution of one step: its data, its record, and how its output enters the run."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

import msgspec

from airflow_allma.engine.context_size import check_context_size
from airflow_allma.engine.outside_calls import NO_CALLS, OutsideCalls
from airflow_allma.engine.pointer_cache import PointerNotLoaded
from airflow_allma.engine.program import CompiledStep
from airflow_allma.engine.records import StepRecord
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, RunState, state_view
from airflow_allma.engine.suspension import SuspendedStep
from airflow_allma.engine.tracing import StepNote, Trace
from airflow_allma.engine.transitions import CompiledTransition
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions import NOTHING

__all__ = ["StepExecution", "commit_output", "discards_context", "without_meta"]


class StepExecution(msgspec.Struct, gc=False):
    """One execution of one step.

    Attributes:
        step: the step.
        state: the run's state; ``commit_output`` advances it.
        info: the run.
        services: what the step can use.
        step_input: its input, once it is built.
        tries: how often its handler was called.
        calls: what it did outside of the flow, in all tries.
        started: value of ``perf_counter`` at the start; 0 without a recorder and traces.
        resumes: the step as it was when it suspended, until its handler is called again.
        began_before: when it began, in seconds since the epoch, if it has been suspended since; otherwise 0.
        refused_output: the output of the last try, if ``outputValidation`` refused it.
    """

    step: CompiledStep
    state: RunState
    info: RunInfo
    services: Services
    step_input: dict[str, Any] | None = None
    tries: int = 1
    started: float = 0.0
    calls: OutsideCalls = NO_CALLS
    resumes: SuspendedStep | None = None
    began_before: float = 0.0
    refused_output: Any = None

    @property
    def began(self) -> float:
        """When the step began, in seconds since the epoch, in whatever process; 0 if that is not known."""
        if self.began_before or not self.started:
            return self.began_before
        return self.services.now() - (perf_counter() - self.started)

    def record(self, error: dict[str, Any] | None = None) -> None:
        """Add the finished execution to the run's trace, and pass it to the recorder, if there are any."""
        services, state = self.services, self.state
        is_untraced_end = error is None and state.ends_untraced and state.next_step is None
        if services.tracer is not None and not is_untraced_end:
            step, info, next_step = self.step, self.info, state.next_step
            trace: Trace = state.trace or services.tracer.trace_of(state, info)
            trace.add(
                StepNote(
                    step,
                    self.step_input,
                    state.last_output if error is None and not step.ends_path else self.refused_output,
                    error,
                    None if error is not None and next_step == step.id else next_step,
                    self.started,
                    perf_counter(),
                    self.began_before,
                    self.tries,
                    self.calls,
                    None if info.parent is None else info.flow_id,
                    trace.within,
                )
            )
        if services.recorder is None or (error is None and services.records_failures_only):
            return
        succeeded = error is None and not self.step.ends_path
        masks = services.secrets.masks
        services.recorder(
            StepRecord(
                step_id=self.step.id,
                step_type=self.step.type_name,
                input=masks.json(self.step_input),
                output=masks.json(state.last_output if succeeded else self.refused_output),
                meta=masks.json(state.last_meta or {}) if succeeded else {},
                error=error,
                next_step=state.next_step if state.next_step != self.step.id or succeeded else None,
                seconds=perf_counter() - self.started,
                tries=self.tries,
                calls=self.calls,
                branch_id=self.info.branch_id,
                item_index=self.info.item_index,
                flow_id=self.info.flow_id if self.info.parent is not None else None,
                checkpoint=state.checkpoint if self.step.milestone is not None else None,
                at=self.began,
            )
        )


_PATH_CHECK: Final = 1_000
_MAX_PATH: Final = 20_000
_KEPT_AT_EACH_END: Final = 5_000


def without_meta(output: Any) -> Any:
    """Return what a handler has returned without ``_meta``."""
    if not isinstance(output, dict):
        return output
    return {key: member for key, member in output.items() if key != "_meta"}


def _shorten(path: list[str]) -> None:
    """Keep the beginning and the end of the path of a long loop, so that it takes bounded memory."""
    if len(path) > _MAX_PATH:
        path[_KEPT_AT_EACH_END:-_KEPT_AT_EACH_END] = ["..."]


def discards_context(step: CompiledStep, state: RunState) -> bool:
    """Return whether nothing reads the context after this step, so that only its output remains."""
    return step.is_plain_end and not state.context_is_read


def commit_output(execution: StepExecution, output: Any, whole: Any) -> None:
    """Map a step's output into the context, count its transition, and set the next step.

    Args:
        execution: the step's execution; its state is advanced.
        output: what the handler returned, ``_meta`` included.
        whole: the value of ``$`` in output mappings: the output, or the pointer that replaced it.

    Raises:
        PermanentStepError: a transition was taken too often; the output has been mapped nevertheless.
        PointerNotLoaded: a pointer is needed; nothing has changed.
    """
    step, state = execution.step, execution.state
    meta: Any = NOTHING
    if output.__class__ is dict and "_meta" in output:
        meta = output["_meta"]
        same = whole is output
        output = output.copy()
        del output["_meta"]
        whole = output if same else whole
    transition = None if discards_context(step, state) else _write_and_choose(execution, output, whole, meta)
    state.last_output = output
    if execution.services.recorder is not None:
        state.last_meta = meta if isinstance(meta, dict) else {}
    if transition is None:
        state.next_step = None
        return
    taken = state.transition_counts.get(transition.counter, 0) + 1
    if not taken % _PATH_CHECK:
        _shorten(state.path)
    if transition.max_taken and taken > transition.max_taken:
        raise PermanentStepError(
            f"Step {step.id}: the transition to {transition.target} was taken more than "
            f"{transition.max_taken} times. If the loop is meant to run that long, raise maxTransitions (for "
            "the default transition: defaultNextMaxTransitions; 0 means no limit).",
            details={"transition": transition.counter, "maxTransitions": transition.max_taken},
        )
    state.transition_counts[transition.counter] = taken
    state.next_step = transition.target


def _write_and_choose(
    execution: StepExecution, output: Any, whole: Any, meta: Any
) -> CompiledTransition | None:
    state, services = execution.state, execution.services
    context = state.context
    writes = len(state.journal) if state.journal is not None else 0
    try:
        execution.step.output_plan.apply(
            state,
            output,
            step_input=execution.step_input or {},
            meta=meta,
            whole=whole,
            load=services.pointers.load,
            log=services.log,
        )
        check_context_size(execution.step.id, state.context, services.settings.max_context_bytes)
        return _choose(execution)
    except (PointerNotLoaded, PermanentStepError):
        # The caller loads it and calls again, or the data is too large to be kept: undo the writes.
        state.context = context
        if state.journal is not None:
            del state.journal[writes:]
        raise


def _choose(execution: StepExecution) -> CompiledTransition | None:
    """Return the first transition whose condition matches; the default always does."""
    for transition in execution.step.transitions:
        if transition.matches is None:
            return transition
        root: Mapping[str, Any] = execution.state.context
        if transition.needs_state:
            view = state_view(execution.info, root, execution.step.id, execution.state, execution.tries)
            root = {**view, **root}
        if transition.matches(root, execution.services.pointers.load):
            return transition
    return None
