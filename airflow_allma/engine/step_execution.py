"""One run of one step: what belongs to it, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import msgspec

from airflow_allma.engine.pointers import PointerNotLoaded
from airflow_allma.engine.program import CompiledStep, CompiledTransition
from airflow_allma.engine.records import StepRecord
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, RunState, state_view
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions import NOTHING

__all__ = ["StepExecution", "commit_output", "is_unseen"]


class StepExecution(msgspec.Struct, gc=False):
    """One run of one step.

    Attributes:
        step: the step.
        state: the run's state; ``commit_output`` moves it on.
        info: the run.
        services: what the step may use.
        step_input: its input, once it is made.
        tries: how often its handler was called.
        started: by the clock of ``perf_counter``; only looked at when there is a recorder.
    """

    step: CompiledStep
    state: RunState
    info: RunInfo
    services: Services
    step_input: dict[str, Any] | None = None
    tries: int = 1
    started: float = 0.0

    def record(self, error: dict[str, Any] | None = None) -> None:
        """Tell the recorder, if there is one, that this run has ended, and how."""
        recorder = self.services.recorder
        if recorder is None or (error is None and self.services.records_failures_only):
            return
        ended_well = error is None and not self.step.ends_path
        recorder(
            StepRecord(
                step_id=self.step.id,
                step_type=self.step.model.step_type.value,
                input=self.step_input,
                output=self.state.last_output if ended_well else None,
                meta=(self.state.last_meta or {}) if ended_well else {},
                error=error,
                next_step=self.state.next_step
                if self.state.next_step != self.step.id or ended_well
                else None,
                seconds=perf_counter() - self.started,
                tries=self.tries,
                branch_id=self.info.branch_id,
                item_index=self.info.item_index,
            )
        )


def is_unseen(step: CompiledStep, state: RunState) -> bool:
    """Whether nobody will see the context again: the step's output is all that is left of the run."""
    return step.is_plain_end and not state.context_is_read


def commit_output(run: StepExecution, output: Any, whole: Any) -> None:
    """After a step's work: map its output, count its transition, and set where the run goes on.

    Args:
        run: the step's run; its state is moved on.
        output: what the handler gave, ``_meta`` included.
        whole: what ``$`` stands for in output mappings: the output, or the pointer that took its place.

    Raises:
        PermanentStepError: a transition was taken too often; the output has been mapped all the same.
        PointerNotLoaded: a pointer is needed; nothing has changed.
    """
    step, state = run.step, run.state
    meta: Any = NOTHING
    if output.__class__ is dict and "_meta" in output:
        meta = output["_meta"]
        same = whole is output
        output = {key: value for key, value in output.items() if key != "_meta"}
        whole = output if same else whole
    chosen = None if is_unseen(step, state) else _write_and_choose(run, output, whole, meta)
    state.last_output = output
    if run.services.recorder is not None:
        state.last_meta = meta if isinstance(meta, dict) else {}
    if chosen is None:
        state.next_step = None
        return
    taken = state.transition_counts.get(chosen.counter, 0) + 1
    if chosen.most and taken > chosen.most:
        raise PermanentStepError(
            f"Step {step.id}: the way to {chosen.target} was taken more than {chosen.most} times. "
            "If the loop is meant to go on that long, raise maxTransitions (for the default transition: "
            "defaultNextMaxTransitions; 0 is no limit).",
            details={"transition": chosen.counter, "maxTransitions": chosen.most},
        )
    state.transition_counts[chosen.counter] = taken
    state.next_step = chosen.target


def _write_and_choose(run: StepExecution, output: Any, whole: Any, meta: Any) -> CompiledTransition | None:
    state, services = run.state, run.services
    context = state.context
    writes = len(state.journal) if state.journal is not None else 0
    try:
        run.step.output_plan.apply(
            state,
            output,
            step_input=run.step_input or {},
            meta=meta,
            whole=whole,
            load=services.pointers.load,
            log=services.log,
        )
        return _choose(run)
    except PointerNotLoaded:
        # The caller loads it and comes again: take the writes back.
        state.context = context
        if state.journal is not None:
            del state.journal[writes:]
        raise


def _choose(run: StepExecution) -> CompiledTransition | None:
    """The first transition that holds; the default holds always."""
    for transition in run.step.transitions:
        if transition.holds is None:
            return transition
        root: Mapping[str, Any] = run.state.context
        if transition.needs_state:
            root = {**state_view(run.info, root), **root}
        if transition.holds(root, run.services.pointers.load):
            return transition
    return None
