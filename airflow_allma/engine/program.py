"""A flow, compiled: every expression read, every step with its handler, every fork with its branches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from airflow_allma.engine.mappings import InputPlan, OutputPlan, mentions_state
from airflow_allma.engine.payloads import validate_payload
from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.engine.state import RunInfo, RunState, SegmentResult, SegmentStatus, state_view
from airflow_allma.engine.steps import HANDLERS, AsyncHandler, Handler
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions import (
    NOTHING,
    LoadPointer,
    Path,
    compile_condition,
    compile_config,
    compile_path,
)
from airflow_allma.flow import (
    AggregationConfig,
    BranchSelection,
    Flow,
    ParallelBranch,
    ParallelForkManagerStep,
    ScheduleStartPointStep,
    Step,
    StepType,
)

__all__ = ["CompiledBranch", "CompiledFork", "CompiledStep", "CompiledTransition", "Program", "compile_flow"]

# Looking up a member takes longer than making a result.
_OK, _FAILED = BranchStatus.OK, SegmentStatus.FAILED
_WHOLE_RESULT = frozenset({"$", "$.", "$.output"})


@dataclass(frozen=True, slots=True)
class CompiledTransition:
    """One way out of a step.

    Attributes:
        holds: the condition over the context; None for the default.
        needs_state: whether the condition can name the run's state.
        target: the next step.
        most: how often it may be taken in a run; 0: no limit.
        counter: its key in ``RunState.transition_counts``.
    """

    holds: Callable[..., bool] | None
    needs_state: bool
    target: str
    most: int
    counter: str


class CompiledStep:
    """A step that is ready to run. It never changes: threads and branch runs share it.

    Attributes:
        id: the step's id.
        model: the step as it was written.
        successors: the steps that can come next, each once: by transition, default and fallback.
        fork: for a PARALLEL_FORK_MANAGER, its branches; None for others.
        is_inline: whether it runs without waiting for anything.
        is_plain_end: whether the path ends here, and the output goes to its default place.
        is_bounded: whether the setting ``step_timeout_seconds`` bounds its tries.
        blocks: whether a try of it holds a thread.
    """

    def __init__(self, step: Step, around: Program) -> None:
        self.id = step.step_instance_id
        self.model = step
        self.ends_path = step.step_type is StepType.END_FLOW
        self.fork = CompiledFork(step, around) if isinstance(step, ParallelForkManagerStep) else None
        self.input_plan = InputPlan(step.input_mappings, step.literals)
        self.output_plan = OutputPlan(
            self.id,
            {} if self.ends_path else step.output_mappings,
            falls_back_to_input=self.fork is None,
        )
        self.handler: Handler | None = None if self.fork else HANDLERS[step.step_type](step)
        waiting = None if self.handler is None or self.handler.inline else cast("AsyncHandler", self.handler)
        self.is_bounded = waiting is not None and not waiting.says_how_long
        self.blocks = waiting is not None and waiting.blocks
        required = step.output_validation.required_fields if step.output_validation else ()
        self.required: tuple[Path, ...] = tuple(compile_path(path) for path in required)
        self.transitions = () if self.ends_path else tuple(_transitions(step))
        self.is_plain_end = not self.transitions and self.output_plan.is_default and not step.force_s3_offload
        on_error = step.on_error
        fallback = on_error.fallback_step_instance_id if on_error else None
        targets = [transition.target for transition in self.transitions] + ([fallback] if fallback else [])
        self.successors = tuple(dict.fromkeys(targets))
        self.is_inline = self.ends_path or (
            self.handler is not None
            and self.handler.inline
            and step.delay is None
            and not step.force_s3_offload
            and (on_error is None or (on_error.retries is None and on_error.retry_on_content_error is None))
        )


def _transitions(step: Step) -> Iterable[CompiledTransition]:
    for position, transition in enumerate(step.transitions):
        yield CompiledTransition(
            compile_condition(transition.condition).holds,
            mentions_state(transition.condition),
            transition.next_step_instance_id,
            transition.max_transitions,
            f"{step.step_instance_id}:{position}",
        )
    if step.default_next_step_instance_id is not None:
        yield CompiledTransition(
            None,
            False,
            step.default_next_step_instance_id,
            step.default_next_max_transitions,
            f"{step.step_instance_id}:default",
        )


class CompiledBranch:
    """One branch of a fork.

    Attributes:
        branch_id: its id.
        index: its place in the fork.
        model: the branch as it was written.
        program: the steps that it sees.
        start: its first step.
        is_conditional: whether it does not apply to every item.
    """

    def __init__(self, branch: ParallelBranch, index: int, around: Program) -> None:
        if branch.start is None:
            raise PermanentStepError(f"Branch {branch.branch_id!r} has no first step.")
        self.branch_id = branch.branch_id
        self.index = index
        self.model = branch
        self.program = (
            around.home_of(branch.start)
            if branch.steps is None
            else Program(branch.steps, branch.start, around.root)
        )
        self.start = branch.start
        self.input_plan = InputPlan(branch.input_mappings, branch.literals)
        self._condition = compile_condition(branch.condition).holds if branch.condition else None
        self.is_conditional = self._condition is not None
        self._condition_needs_state = bool(branch.condition and mentions_state(branch.condition))

    @cached_property
    def reachable(self) -> frozenset[str]:
        """The steps that the branch can come to."""
        return self.program.reachable_from(self.start)

    @cached_property
    def is_inline(self) -> bool:
        """Whether nothing in the branch waits for anything."""
        return all(self.program.steps[step_id].is_inline for step_id in self.reachable)

    def applies(self, context: Mapping[str, Any], info: RunInfo, load: LoadPointer) -> bool:
        """Whether the branch's condition holds; ``context`` has ``currentItem``."""
        if self._condition is None:
            return True
        root = {**state_view(info, context), **context} if self._condition_needs_state else context
        return self._condition(root, load)


class CompiledFork:
    """A fork's branches, and how a branch run begins and what it yields.

    Attributes:
        step_id: the fork step.
        model: the step as it was written.
        config: its aggregation.
        branches: in the order in which they were written.
        items_path: where the items are; None: there are none.
        first_only: whether only the first branch that applies to an item runs.
        max_concurrency: most branch runs in flight over the whole step; None: no limit of its own.
        reads_context: whether results are looked up in a branch's final context.
        label_path: where an item's name is, in the item; None: the usual places.
    """

    def __init__(self, step: ParallelForkManagerStep, around: Program) -> None:
        self.step_id = step.step_instance_id
        self.model = step
        self.config: AggregationConfig = step.aggregation_config
        self.branches = tuple(
            CompiledBranch(branch, index, around) for index, branch in enumerate(step.parallel_branches)
        )
        self.items_path = compile_path(step.items_path) if step.items_path else None
        self.first_only = step.branch_selection is BranchSelection.FIRST
        self.max_concurrency: int | None = self.config.max_concurrency or None
        data_path = (self.config.data_path or "$").strip()
        self._data_path = None if data_path in _WHOLE_RESULT else compile_path(data_path)
        self.reads_context = self._data_path is not None
        label_path = step.item_label_path
        self.label_path = compile_path(label_path) if label_path else None

    @cached_property
    def is_inline(self) -> bool:
        """Whether no branch waits for anything."""
        return all(branch.is_inline for branch in self.branches)

    def eligible(
        self, context: Mapping[str, Any], info: RunInfo, load: LoadPointer
    ) -> tuple[CompiledBranch, ...]:
        """The branches that run for an item.

        Args:
            context: the main context with ``currentItem``.
            info: the run.
            load: loads pointers that conditions name.
        """
        chosen = tuple(branch for branch in self.branches if branch.applies(context, info, load))
        return chosen[:1] if self.first_only else chosen

    def result(
        self,
        branch: CompiledBranch,
        item_index: int,
        ended: SegmentResult,
        load: LoadPointer,
    ) -> BranchResult:
        """What a branch run yields (or how it failed).

        ``dataPath`` is looked up in the branch's final context, then in its whole result; the whole result is
        the context's ``output`` if a step of the branch maps something to it, else the last step's output.
        """
        if ended.status is _FAILED:
            return BranchResult(
                item_index, branch.index, branch.branch_id, BranchStatus.FAILED, error=ended.error
            )
        state = ended.state
        if state.output_mapped:
            whole = state.context.get("output", {})
        else:
            whole = {} if state.last_output is NOTHING else state.last_output
        if self._data_path is None:
            output = whole
        else:
            output = self._data_path.find(state.context, load)
            if output is NOTHING:
                output = self._data_path.find(whole, load)
            if output is NOTHING:
                output = None
        return BranchResult(item_index, branch.index, branch.branch_id, _OK, output)

    def not_applicable(self, branch: CompiledBranch, item_index: int) -> BranchResult:
        """The result of a branch whose condition did not hold for the item."""
        return BranchResult(item_index, branch.index, branch.branch_id, BranchStatus.SKIPPED)


class Program:
    """Steps that can go to one another.

    Attributes:
        steps: step id -> compiled step.
        start: the first step.
        root: the flow's own steps; this very program unless it is a branch's.
    """

    def __init__(self, steps: Mapping[str, Step], start: str, root: Program | None = None) -> None:
        self.start = start
        self.root = root or self
        self._ids = frozenset(steps)
        self.steps: dict[str, CompiledStep] = {}
        for step_id, step in steps.items():
            self.steps[step_id] = CompiledStep(step, self)

    def home_of(self, start: str) -> Program:
        """Where a branch without own steps goes whose fork stands here: here, else the flow's steps."""
        return self if start in self._ids else self.root

    def reachable_from(self, start: str) -> frozenset[str]:
        """The steps that can be come to from a step, itself included, without entering branches."""
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            step_id = waiting.pop()
            if step_id not in seen:
                seen.add(step_id)
                waiting.extend(self.steps[step_id].successors)
        return frozenset(seen)


class FlowProgram(Program):
    """A whole flow, compiled.

    Attributes:
        flow: the flow as it was written.
    """

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow.steps, flow.start_step_instance_id)
        self.flow = flow

    def start_state(
        self,
        payload: Mapping[str, Any],
        flow_execution_id: str,
        start_point: ScheduleStartPointStep | None = None,
    ) -> RunState:
        """The state of a run that begins.

        Args:
            payload: the run's payload, an object.
            flow_execution_id: this run's id.
            start_point: the step of the flow that fired the run. Its ``payloadTemplate`` then makes the
                payload, in which ``payload`` wins, and ``triggerSource`` tells the step.

        Raises:
            PermanentStepError: the payload does not fit the flow's ``airflow.inputSchema``.
            ExpressionEvaluationError: the ``payloadTemplate`` cannot be rendered.
        """
        variables = self.flow.flow_variables
        if start_point is None:
            payload = validate_payload(self.flow, payload)
        else:
            seen = {"flow_variables": {**variables, "flowExecutionId": flow_execution_id}}
            rendered = compile_config(start_point.payload_template).render(seen)
            source = {"triggerSource": f"ScheduleTrigger:{start_point.step_instance_id}"}
            payload = {**source, **validate_payload(self.flow, {**rendered, **payload})}
        return RunState.start(self.entry(start_point), payload, variables, flow_execution_id)

    def entry(self, start_point: ScheduleStartPointStep | None = None) -> str:
        """The step at which a run begins that ``start_point`` fired; None: that was started otherwise."""
        if start_point is None or not start_point.is_entry:
            return self.start
        return start_point.step_instance_id


def compile_flow(flow: Flow) -> FlowProgram:
    """Compile a flow that was validated when it was loaded.

    Raises:
        ExpressionSyntaxError: an expression cannot be read.
        KeyError: a step type does not run here (``unsupported_reason`` tells at load time).
    """
    return FlowProgram(flow)
