"""Forks in one process: bounded branch runs on one event loop, or a plain loop where nothing waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_allma.common.batching import batched
from airflow_allma.common.merging import merge_deep
from airflow_allma.common.work_budget import begin_step, own_budget
from airflow_allma.engine.aggregate_stream import MAX_BUFFERED_ITEMS, AggregateStream, join_buffered
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.failures import add_location
from airflow_allma.engine.items import ItemError, ItemFeed, resolve_items
from airflow_allma.engine.manifest_items import ByteOffsets, manifest_batches
from airflow_allma.engine.pointer_cache import PointerNotLoaded
from airflow_allma.engine.pointer_loading import evaluate, require_store
from airflow_allma.engine.program import CompiledBranch, CompiledFork
from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.engine.runner import run_inline, run_segment
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, RunState
from airflow_allma.engine.step_runner import NeedsWaiting

__all__ = ["ForkRun", "ResultSink", "branch_state", "run_fork", "run_items"]

ResultSink = Callable[[Sequence[BranchResult]], None]
"""Receives the results of branch runs that have ended."""


def branch_state(
    branch: CompiledBranch,
    context: Mapping[str, Any],
    info: RunInfo,
    services: Services,
) -> RunState:
    """Return the state in which a branch run begins.

    Args:
        branch: the branch, which applies to the item.
        context: the main context with ``currentItem``; shared, not copied, since a context never changes.
        info: the branch run.
        services: for pointers that the branch's mappings read.
    """
    data: Any = context
    if not branch.input_plan.is_empty:
        built = branch.input_plan.build(context, info, services.pointers.load, services.log)
        data = merge_deep(context, built)
    return RunState(branch.start, data)


async def run_fork(
    fork: CompiledFork, context: Mapping[str, Any], info: RunInfo, services: Services
) -> dict[str, Any]:
    """Run a whole fork on this event loop.

    Returns:
        The step's output, ``{"aggregatedData": ...}``.

    Raises:
        StepError: the items cannot be read, the fork is nested too deeply or among too many, or more branch
            runs failed than it tolerates.
    """
    items = await resolve_items(fork, context, services)
    run = ForkRun(fork, context, info, services)
    values = items.values or []
    services.fork_load.enter(
        fork.step_id,
        info.fork_depth,
        len(values) * len(fork.branches),
        max_depth=services.settings.max_fork_depth,
        max_runs=services.settings.max_nested_branch_runs,
    )
    if items.pointer is None and len(values) <= MAX_BUFFERED_ITEMS:
        results: list[BranchResult] = []
        await run_items(run, batched(enumerate(values)), results.extend)
        return await join_buffered(fork, results, info, services)
    offsets = ByteOffsets()
    source: Iterable[list[tuple[int, Any]]] = batched(enumerate(values))
    if items.pointer is not None:
        store = require_store(services, items.pointer)
        source = offsets.track(
            manifest_batches(store, items.pointer, max_unpack_ratio=services.settings.max_unpack_ratio)
        )
    async with AggregateStream(fork, info, services) as stream:
        submit = stream.buffer.submit
        await run_items(
            run,
            stream.buffer.throttle(source),
            lambda results: submit(offsets.annotate(results)),
            blocking=True,
        )
    return stream.output


async def run_items(
    run: ForkRun,
    items: Iterable[Sequence[tuple[int, Any]]],
    sink: ResultSink,
    *,
    concurrency: int | None = None,
    blocking: bool = False,
) -> None:
    """Run every item's branches, and pass on each result when it is available.

    At most ``concurrency`` branch runs are in flight, and at most one batch of items is read ahead.

    Args:
        run: the fork and what its branches see.
        items: pairs of index and item, in batches that are read together; an ``ItemError`` instead of an
            item fails that item alone.
        sink: receives the results, in the order in which branch runs end: one by one, or several at once
            where nothing waits.
        concurrency: maximum of branch runs in flight; None for ``maxConcurrency`` or the settings' limit.
        blocking: whether reading from ``items`` can wait for a disk or a network.
    """
    fork, services = run.fork, run.services
    if services.on_branch_result is not None:
        sink = _both(sink, services.on_branch_result)
    if not fork.branches:
        return
    groups = (fork.branches,) if fork.first_only else tuple((branch,) for branch in fork.branches)
    if fork.is_inline:
        await _run_in_order(run, groups, ItemFeed(items, services, blocking=blocking), sink)
        return
    entries = ([(index, item, branches) for index, item in batch for branches in groups] for batch in items)
    feed = ItemFeed(entries, services, blocking=blocking)
    limit = concurrency or fork.max_concurrency or services.settings.branch_concurrency
    load = services.fork_load
    workers = load.workers(run.info.fork_depth, limit)
    load.in_flight += workers
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(_worker(run, feed, sink))
    except ExceptionGroup as errors:
        # Branch runs do not raise; the items or the sink did, and the first error is the cause.
        raise errors.exceptions[0] from None
    finally:
        load.in_flight -= workers


def _both(first: ResultSink, second: Callable[[BranchResult], None]) -> ResultSink:
    def deliver(results: Sequence[BranchResult]) -> None:
        first(results)
        for result in results:
            second(result)

    return deliver


async def _worker(run: ForkRun, feed: ItemFeed, sink: ResultSink) -> None:
    # The steps of this worker must not share the budget of the fork's own step.
    with own_budget(run.services.settings.max_step_work):
        while (entry := feed.next_ready() or await feed.next()) is not None:
            index, item, branches = entry
            for branch in branches:
                result = await run.branch(branch, index, item)
                sink((result,))
                if result.status is not BranchStatus.SKIPPED:
                    break


async def _run_in_order(
    run: ForkRun, groups: Sequence[Sequence[CompiledBranch]], feed: ItemFeed, sink: ResultSink
) -> None:
    with own_budget(run.services.settings.max_step_work):
        while (batch := await feed.next_batch()) is not None:
            sink(await _run_batch(run, groups, batch))
            # Let heartbeats and signals run.
            await asyncio.sleep(0)


async def _run_batch(
    run: ForkRun, groups: Sequence[Sequence[CompiledBranch]], batch: Sequence[tuple[int, Any]]
) -> list[BranchResult]:
    skipped = BranchStatus.SKIPPED
    results: list[BranchResult] = []
    for index, item in batch:
        for branches in groups:
            for branch in branches:
                try:
                    result = run.branch_inline(branch, index, item)
                except NeedsWaiting as waiting:
                    result = await run.branch(branch, index, item, waiting.state)
                results.append(result)
                if result.status is not skipped:
                    break
    return results


@dataclass(frozen=True, slots=True)
class ForkRun:
    """One run of a fork: its branches and the data they see.

    Attributes:
        fork: the branches.
        context: the main context.
        info: the run.
        services: what steps can use.
    """

    fork: CompiledFork
    context: Mapping[str, Any]
    info: RunInfo
    services: Services

    def branch_inline(self, branch: CompiledBranch, index: int, item: Any) -> BranchResult:
        """Run one branch for one item, with steps that wait for nothing; a failure is a result.

        Raises:
            NeedsWaiting: a step has to wait after all; ``branch`` continues from its state.
        """
        info = self.info.in_branch(branch.branch_id, index)
        if item.__class__ is ItemError:
            return self._not_started(branch, info, item.error)
        fork, services = self.fork, self.services
        load = services.pointers.load
        context = {**self.context, "currentItem": item}
        state: RunState | None = None
        if branch.evaluates:
            begin_step(services.settings.max_step_work, fork.step_id)
        try:
            if branch.is_conditional and not branch.applies(context, info, load):
                return fork.not_applicable(branch, index)
            state = branch_state(branch, context, info, services)
            state.context_is_read = fork.reads_context
            return fork.result(branch, index, run_inline(branch.program, state, info, services), load)
        except PointerNotLoaded as waiting:
            raise NeedsWaiting(state) from waiting
        except NeedsWaiting:
            raise
        except Exception as error:  # noqa: BLE001 - an item's failure is the item's alone
            return self._not_started(branch, info, error)

    async def branch(
        self, branch: CompiledBranch, index: int, item: Any, state: RunState | None = None
    ) -> BranchResult:
        """Run one branch for one item; a failure is a result, not an exception.

        Args:
            branch: the branch.
            index: the item's index.
            item: the item, or an ``ItemError`` instead of it.
            state: the state that ``branch_inline`` reached, if it ran the beginning.
        """
        info = self.info.in_branch(branch.branch_id, index)
        if item.__class__ is ItemError:
            return self._not_started(branch, info, item.error)
        fork, services = self.fork, self.services
        load = services.pointers.load
        context = {**self.context, "currentItem": item}
        begin_step(services.settings.max_step_work, fork.step_id)
        if not self.info.fork_depth:
            services.fork_load.outer_runs += 1
        try:
            if state is None:
                if branch.is_conditional and not await evaluate(
                    services, branch.applies, context, info, load
                ):
                    return fork.not_applicable(branch, index)
                if branch.input_plan.is_empty:
                    state = RunState(branch.start, context)
                else:
                    state = await evaluate(services, branch_state, branch, context, info, services)
                state.context_is_read = fork.reads_context
            segment = await run_segment(branch.program, state, info, services)
            try:
                return fork.result(branch, index, segment, load)
            except PointerNotLoaded:
                return await evaluate(services, fork.result, branch, index, segment, load)
        except Exception as error:  # noqa: BLE001 - an item's failure is the item's alone
            return self._not_started(branch, info, error)

    def _not_started(self, branch: CompiledBranch, info: RunInfo, error: Exception) -> BranchResult:
        """Return the failure of an item that cannot be read, or whose condition or mappings are invalid."""
        shown = add_location(step_error_from(error), self.fork.step_id, info).as_dict()
        return BranchResult(
            info.item_index or 0, branch.index, branch.branch_id, BranchStatus.FAILED, error=shown
        )
