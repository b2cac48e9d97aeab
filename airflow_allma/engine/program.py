"""A compiled flow: every expression parsed, every step with its handler, every fork with its branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from airflow_allma.engine.checkpoints import milestones_of
from airflow_allma.engine.fork_limits import LimitFields
from airflow_allma.engine.mappings import InputPlan, OutputPlan, mentions_state
from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, SegmentResult, SegmentStatus, state_view
from airflow_allma.engine.step_handler import AsyncHandler, Handler, InlineHandler, StepCall
from airflow_allma.engine.transitions import compile_transitions
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
    Bundle,
    ParallelBranch,
    ParallelForkManagerStep,
    Step,
    StepType,
)

__all__ = [
    "CompiledBranch",
    "CompiledFork",
    "CompiledStep",
    "Forking",
    "HandlerFactory",
    "Program",
]

# Looking up an enum member takes longer than creating a result.
_OK, _FAILED = BranchStatus.OK, SegmentStatus.FAILED
_MODEL_CALLERS = frozenset({StepType.LLM_INVOCATION, StepType.START_SUB_FLOW, StepType.START_FLOW_EXECUTION})
_WHOLE_RESULT = frozenset({"$", "$.", "$.output"})


@runtime_checkable
class Forking(Protocol):
    """A handler whose work can be spread over processes: it runs branches for items."""

    fork: CompiledFork


class HandlerFactory(Protocol):
    """Makes the handler of one step."""

    def __call__(self, step: Any, scope: Program, /) -> Handler:
        """Return the handler of ``step``, which is one of the steps of ``scope``."""


class CompiledStep:
    """A step that is ready to run. It never changes: threads and branch runs share it.

    Attributes:
        id: the step's id.
        model: the step as written in the flow.
        type_name: its type, as written.
        handler: does the step's work.
        fork: the branches that its handler runs for items; None if it does not fork.
        successors: the steps that can come next, each once: by transition, default and fallback.
        is_inline: whether it runs without waiting for anything; see ``runs_inline`` too.
        call_inline: calls its handler where nothing waits.
        is_plain_end: whether the path ends here and the output goes to its default target.
        is_bounded: whether the setting ``step_timeout_seconds`` limits its attempts.
        max_seconds: how long an attempt waits at most, if that is known.
        notes_data: whether an attempt reports how much data it received.
        blocks_thread: whether an attempt occupies a thread.
        stores_output: whether its handler decides where a large output is stored.
        keeps_input: whether its handler leaves its input as it is.
        suspends: whether it can wait for something that a process need not stay for.
        milestone: the checkpoint that a run passes when it enters the step; None if there is none.
    """

    def __init__(self, step: Step, scope: Program) -> None:
        self.id = step.step_instance_id
        self.model = step
        self.type_name = step.step_type.value
        self.milestone = scope.milestones.get(self.id)
        self.handler = handler = scope.handlers[step.step_type](step, scope)
        self.call_inline: Callable[[StepCall], Any] = (
            handler if isinstance(handler, InlineHandler) else handler.call_inline
        )
        self.fork = handler.fork if isinstance(handler, Forking) else None
        self.ends_path = handler.ends_path
        waiting = handler if isinstance(handler, AsyncHandler) else None
        reads_mappings = waiting is None or waiting.reads_mappings
        self.is_bounded = waiting is not None and not waiting.bounds_itself
        self.max_seconds = waiting.max_seconds if waiting is not None else None
        self.notes_data = waiting is not None and waiting.notes_data
        self.blocks_thread = waiting is not None and waiting.blocks_thread
        self.stores_output = waiting is not None and waiting.stores_output
        self.suspends = waiting is not None and waiting.suspends
        self.keeps_input = waiting is not None and waiting.keeps_input
        self.input_plan = (
            InputPlan(step.input_mappings, step.literals, shares=self.keeps_input)
            if reads_mappings
            else InputPlan({}, {})
        )
        self.output_plan = OutputPlan(
            self.id,
            {} if self.ends_path else step.output_mappings,
            falls_back_to_input=waiting is None or (reads_mappings and waiting.falls_back_to_input),
        )
        required = step.output_validation.required_fields if step.output_validation else ()
        self.required: tuple[Path, ...] = tuple(compile_path(path) for path in required)
        self.transitions = () if self.ends_path else tuple(compile_transitions(step))
        self.is_plain_end = not self.transitions and self.output_plan.is_default and not step.force_s3_offload
        on_error = step.on_error
        fallback = on_error.fallback_step_instance_id if on_error else None
        targets = [transition.target for transition in self.transitions] + ([fallback] if fallback else [])
        self.successors = tuple(dict.fromkeys(targets))
        self._only_calls = (
            step.delay is None
            and not step.force_s3_offload
            and (on_error is None or (on_error.retries is None and on_error.retry_on_content_error is None))
        )
        self.is_inline = self.ends_path or (handler.inline and self._only_calls)

    def runs_inline(self, services: Services) -> bool:
        """Return whether it waits for nothing, also in the sub-flow that it runs."""
        return self.is_inline or (
            self._only_calls and isinstance(self.handler, AsyncHandler) and self.handler.runs_inline(services)
        )


class CompiledBranch:
    """One branch of a fork.

    Attributes:
        branch_id: its id.
        index: its index in the fork.
        model: the branch as written in the flow.
        program: the steps that it can use.
        start: its first step.
        is_sub_flow: whether it is a sub-flow; its program is then one step.
        is_conditional: whether it applies only to some items.
        evaluates: whether it has expressions of its own: a condition, mappings or literals.
    """

    def __init__(self, branch: ParallelBranch, index: int, scope: Program) -> None:
        if branch.start is None:
            raise PermanentStepError(f"Branch {branch.branch_id!r} has no first step.")
        self.branch_id = branch.branch_id
        self.index = index
        self.model = branch
        self.is_sub_flow = branch.sub_flow is not None
        self.program = (
            scope.program_with(branch.start)
            if branch.own_steps is None
            else Program(branch.own_steps, branch.start, scope.handlers, scope.root, scope.bundle)
        )
        self.start = branch.start
        # Without mappings of its own, the step of a sub-flow has those of the branch.
        is_payload = branch.sub_flow is not None and not branch.input_mappings_to_sub_flow
        self.input_plan = (
            InputPlan({}, {}) if is_payload else InputPlan(branch.input_mappings, branch.literals)
        )
        self._condition = compile_condition(branch.condition).matches if branch.condition else None
        self.is_conditional = self._condition is not None
        self.evaluates = self.is_conditional or not self.input_plan.is_empty
        self._condition_needs_state = bool(branch.condition and mentions_state(branch.condition))

    @cached_property
    def reachable(self) -> frozenset[str]:
        """The steps that the branch can reach."""
        return self.program.reachable_from(self.start)

    def runs_inline(self, services: Services) -> bool:
        """Return whether no step of the branch waits for anything."""
        return all(self.program.steps[step_id].runs_inline(services) for step_id in self.reachable)

    @cached_property
    def suspends(self) -> bool:
        """Whether a step of the branch, or of a fork in it, can suspend the branch run."""
        return any(step.suspends for step in self._all_steps())

    @cached_property
    def waits_for_events(self) -> bool:
        """Whether one of these steps is a WAIT_FOR_EXTERNAL_EVENT; those of sub-flows do not count."""
        return any(step.model.step_type is StepType.WAIT_FOR_EXTERNAL_EVENT for step in self._all_steps())

    @cached_property
    def may_call_models(self) -> bool:
        """Whether a step of the branch, or of a fork in it, calls a model, or a flow that may."""
        return any(step.model.step_type in _MODEL_CALLERS for step in self._all_steps())

    def _all_steps(self) -> Iterator[CompiledStep]:
        """Yield the steps that the branch can reach, and those of forks in it."""
        seen: set[int] = set()
        branches = [self]
        while branches:
            branch = branches.pop()
            # A branch can fork into itself.
            if id(branch) in seen:
                continue
            seen.add(id(branch))
            for step in map(branch.program.steps.__getitem__, branch.reachable):
                yield step
                branches.extend(step.fork.branches if step.fork is not None else ())

    def applies(self, context: Mapping[str, Any], info: RunInfo, load: LoadPointer) -> bool:
        """Evaluate the branch's condition; ``context`` includes ``currentItem``."""
        if self._condition is None:
            return True
        root = {**state_view(info, context), **context} if self._condition_needs_state else context
        return self._condition(root, load)


class CompiledFork:
    """A fork's branches, how a branch run begins, and its result.

    Attributes:
        step_id: the fork step.
        model: the step as written in the flow.
        config: its aggregation.
        branches: in the order of the flow.
        items_path: the path to the items; None if the fork has none.
        first_only: whether only the first branch that applies to an item runs.
        batcher: how items are put into batches; None if each is alone.
        batch_input: returns what all batches get, from the data in which the fork's items are.
        limits: its numbers of items, of branch runs in flight and of failures.
        reads_context: whether results are looked up in a branch's final context.
        label_path: the path to an item's name within the item; None for the default names.
    """

    def __init__(self, step: ParallelForkManagerStep, scope: Program) -> None:
        self.step_id = step.step_instance_id
        self.model = step
        self.config: AggregationConfig = step.aggregation_config
        self.branches = tuple(
            CompiledBranch(branch, index, scope) for index, branch in enumerate(step.parallel_branches)
        )
        self.items_path = compile_path(step.items_path) if step.items_path else None
        self.first_only = step.branch_selection is BranchSelection.FIRST
        self.limits = LimitFields(step)
        self.batcher = step.item_batcher
        self.batch_input = compile_config((step.item_batcher and step.item_batcher.batch_input) or {}).render
        data_path = (self.config.data_path or "$").strip()
        self._data_path = None if data_path in _WHOLE_RESULT else compile_path(data_path)
        self._reads_output = data_path == "$.output"
        self.reads_context = self._data_path is not None
        label_path = step.item_label_path
        self.label_path = compile_path(label_path) if label_path else None

    def runs_inline(self, services: Services) -> bool:
        """Return whether no branch waits for anything."""
        return all(branch.runs_inline(services) for branch in self.branches)

    @cached_property
    def suspends(self) -> bool:
        """Whether a branch run can be suspended."""
        return any(branch.suspends for branch in self.branches)

    @cached_property
    def waits_for_events(self) -> bool:
        """Whether a branch can wait for an outside event."""
        return any(branch.waits_for_events for branch in self.branches)

    @cached_property
    def may_call_models(self) -> bool:
        """Whether a step of a branch calls a model, or a flow that may."""
        return any(branch.may_call_models for branch in self.branches)

    def eligible(
        self, context: Mapping[str, Any], info: RunInfo, load: LoadPointer
    ) -> tuple[CompiledBranch, ...]:
        """Return the branches that run for an item.

        Args:
            context: the main context with ``currentItem``.
            info: the run.
            load: loads the pointers that conditions refer to.
        """
        chosen = tuple(branch for branch in self.branches if branch.applies(context, info, load))
        return chosen[:1] if self.first_only else chosen

    def result(
        self,
        branch: CompiledBranch,
        item_index: int,
        segment: SegmentResult,
        load: LoadPointer,
    ) -> BranchResult:
        """Return the result of a branch run: its output or its error.

        ``dataPath`` is looked up in the branch's final context, then in its whole result. The whole result is
        the context's ``output`` if a step of the branch maps something to it, or the last step's output. In
        a branch that is a sub-flow, both are the sub-flow's final context.
        """
        if segment.status is _FAILED:
            return BranchResult(
                item_index, branch.index, branch.branch_id, BranchStatus.FAILED, error=segment.error
            )
        state = segment.state
        if state.output_mapped:
            whole = state.context.get("output", {})
        else:
            whole = {} if state.last_output is NOTHING else state.last_output
        if self._data_path is None:
            output = whole
            if self._reads_output and branch.is_sub_flow:
                output = whole.get("output", whole)
        else:
            output = self._data_path.find(whole if branch.is_sub_flow else state.context, load)
            if output is NOTHING:
                output = self._data_path.find(whole, load)
            if output is NOTHING:
                output = None
        return BranchResult(item_index, branch.index, branch.branch_id, _OK, output)

    def not_applicable(self, branch: CompiledBranch, item_index: int) -> BranchResult:
        """Return the result of a branch whose condition does not match the item."""
        return BranchResult(item_index, branch.index, branch.branch_id, BranchStatus.SKIPPED)


class Program:
    """Steps that can transition to one another.

    Args:
        steps: step id -> step.
        start: the first step.
        handlers: step type -> factory of its handler.
        root: the flow's own steps, for the steps of a branch; None for the flow's own steps.
        bundle: the prompts and connections that steps use; None for none.

    Attributes:
        bundle: the prompts and connections that steps use.
        steps: step id -> compiled step.
        root: the flow's own steps; this program unless it is a branch's.
    """

    def __init__(
        self,
        steps: Mapping[str, Step],
        start: str,
        handlers: Mapping[StepType, HandlerFactory],
        root: Program | None = None,
        bundle: Bundle | None = None,
    ) -> None:
        self.start = start
        self.handlers = handlers
        self.bundle = bundle or Bundle()
        self.root = root or self
        self._ids = frozenset(steps)
        self.milestones = milestones_of(steps)
        self.steps: dict[str, CompiledStep] = {}
        for step_id, step in steps.items():
            self.steps[step_id] = CompiledStep(step, self)
        self._runs_inline: bool | None = None

    def runs_inline(self, services: Services) -> bool:
        """Return whether no step that a run can reach waits for anything; a flow that can run itself does."""
        if self._runs_inline is None:
            self._runs_inline = False
            steps = (self.steps[step_id] for step_id in self.reachable_from(self.start))
            self._runs_inline = all(step.runs_inline(services) for step in steps)
        return self._runs_inline

    def program_with(self, start: str) -> Program:
        """Return the program in which a branch without steps of its own starts: this one or the flow's."""
        return self if start in self._ids else self.root

    def reachable_from(self, start: str) -> frozenset[str]:
        """Return the steps reachable from ``start``, inclusive, without entering branches."""
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            step_id = waiting.pop()
            if step_id not in seen:
                seen.add(step_id)
                waiting.extend(self.steps[step_id].successors)
        return frozenset(seen)

    def fork(self, step_id: str) -> CompiledFork:
        """Return the fork that a step runs.

        Raises:
            LookupError: the step does not exist, or it does not fork.
        """
        fork = self.steps[step_id].fork
        if fork is None:
            raise LookupError(f"Step {step_id} is not a PARALLEL_FORK_MANAGER.")
        return fork
