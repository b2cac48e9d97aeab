"""Where ``airflow-allma run`` starts: at the flow's start or at another step; or one step alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.cli.event_option import EventOption
from airflow_allma.cli.json_options import UsageError, read_object
from airflow_allma.common.nearest import nearest
from airflow_allma.engine import RunInfo, SegmentResult, Services, run_segment
from airflow_allma.engine.flow_program import FlowProgram
from airflow_allma.engine.program import Program
from airflow_allma.engine.state import RunState
from airflow_allma.engine.step_runner import run_one_step

__all__ = ["StartOption"]

_ANSWER: Final = frozenset({"status", "error", "path", "context"})


@dataclass(frozen=True, slots=True)
class StartOption:
    """The options ``--payload``, ``--context``, ``--step`` and ``--from``.

    Attributes:
        payload: the run's payload, as the flow's callers pass it; None without the option.
        context: the run's data at the first step; None without the option.
        step: the only step to run; None for a run to the end.
        first: the step at which the run starts; None for the flow's start.
    """

    payload: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None
    step: str | None = None
    first: str | None = None

    @classmethod
    def read(
        cls, *, payload: str | None, context: str | None, step: str | None, first: str | None
    ) -> StartOption:
        """Return the options, whose files are read.

        Raises:
            UsageError: they exclude each other, or one of them is not a JSON object.
        """
        if step is not None and first is not None:
            raise UsageError("--step runs one step, --from all that follow; use one of them")
        if context is not None and payload is not None:
            raise UsageError("--context replaces the payload; use one of --context and --payload")
        if context is not None and step is None and first is None:
            raise UsageError("--context is the data at a step; name it with --step or --from")
        found = None if context is None else read_object(context, "--context")
        if found is not None and found.keys() >= _ANSWER and isinstance(found["context"], dict):
            found = found["context"]  # what an earlier run printed
        return cls(None if payload is None else read_object(payload, "--payload"), found, step, first)

    def program(self, program: FlowProgram) -> tuple[Program, str]:
        """Return the steps to run, those of the flow or of one branch, and the id of the first.

        Raises:
            UsageError: no step has this id, or steps of several branches do.
        """
        step_id = self.step if self.step is not None else self.first
        if step_id is None:
            return program, program.start
        if step_id in program.steps:
            return program, step_id
        option = "--step" if self.step is not None else "--from"
        programs = {id(one): one for one in _programs(program)}
        found = [one for one in programs.values() if step_id in one.steps]
        if len(found) == 1:
            return found[0], step_id
        if found:
            raise UsageError(f"{option}: {len(found)} branches have a step {step_id!r}; give it another id")
        known = [name for one in programs.values() for name in one.steps]
        similar = nearest(step_id, known)
        advice = f"did you mean {similar!r}?" if similar else f"steps: {', '.join(sorted(set(known))[:20])}"
        raise UsageError(f"{option}: the flow has no step {step_id!r}; {advice}")

    async def run(
        self, flow: FlowProgram, info: RunInfo, services: Services, events: EventOption
    ) -> SegmentResult:
        """Run the steps, with the events for which they wait.

        Returns:
            With ``step``, LEFT means that the flow would continue at the state's next step.

        Raises:
            AllmaError: the options name no step, or the payload does not match the flow's schema.
        """
        program, first = self.program(flow)
        state = self._state(flow, first, info.flow_execution_id)
        if self.step is not None:
            return await events.drive(lambda: run_one_step(program, state, info, services), services)
        return await events.drive(lambda: run_segment(program, state, info, services, stays=True), services)

    def _state(self, flow: FlowProgram, first: str, flow_execution_id: str) -> RunState:
        if self.context is None:
            state = flow.start_state(self.payload or {}, flow_execution_id)
            state.next_step = first
            return state
        variables = self.context.get("flow_variables")
        return RunState(
            first,
            {
                "initialContextData": {},
                "steps_output": {},
                **self.context,
                "flow_variables": {
                    **flow.flow.flow_variables,
                    "flowExecutionId": flow_execution_id,
                    **(variables if isinstance(variables, Mapping) else {}),
                },
            },
        )


def _programs(program: Program) -> Iterator[Program]:
    """Yield the steps of a flow and of each branch that has steps of its own."""
    yield program
    for step in program.steps.values():
        for branch in step.fork.branches if step.fork else ():
            if branch.model.own_steps is not None:
                yield from _programs(branch.program)
