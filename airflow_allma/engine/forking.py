"""Forks in one process: bounded branch runs on one event loop, or a plain loop where nothing waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from airflow_allma.engine.aggregation import Aggregator
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.failures import failed_step
from airflow_allma.engine.items import Feed, ItemError, resolve_items
from airflow_allma.engine.manifests import manifest_items
from airflow_allma.engine.mappings import merge_deep
from airflow_allma.engine.pointers import PointerNotLoaded, need_store, resolving
from airflow_allma.engine.program import CompiledBranch, CompiledFork
from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.engine.runner import NeedsWaiting, run_inline, run_segment
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, RunState

__all__ = ["branch_state", "run_branch", "run_fork", "run_items"]

_YIELD_EVERY: Final = 256
"""Inline branch runs between two looks at the event loop."""


def branch_state(
    branch: CompiledBranch,
    context: Mapping[str, Any],
    info: RunInfo,
    services: Services,
) -> RunState:
    """Where a branch run begins.

    Args:
        branch: the branch, which applies to the item.
        context: the main context with ``currentItem``; it is shared, not copied: nothing ever changes a context.
        info: the branch run.
        services: for pointers that the branch's own mappings read.
    """
    data: Mapping[str, Any] = context
    if not branch.input_plan.is_empty:
        built = branch.input_plan.build(context, info, services.pointers.load, services.log)
        data = merge_deep(context, built)
    return RunState(branch.start, dict(data) if not isinstance(data, dict) else data)


async def run_fork(
    fork: CompiledFork, context: Mapping[str, Any], info: RunInfo, services: Services
) -> dict[str, Any]:
    """Run a whole fork here.

    Returns:
        The step's output, ``{"aggregatedData": ...}``.

    Raises:
        StepError: the items cannot be read, or more branch runs failed than the fork tolerates.
    """
    items = await resolve_items(fork, context, services)
    results: list[BranchResult] = []
    if items.pointer is not None:
        source: Iterable[tuple[int, Any]] = manifest_items(need_store(services, items.pointer), items.pointer)
    else:
        source = enumerate(items.values or [])
    await run_items(fork, source, context, info, services, results.append, blocking=items.pointer is not None)
    results.sort(key=lambda result: (result.item_index, result.branch_index))
    aggregator = Aggregator(
        fork.config, custom_module_prefixes=services.settings.custom_module_prefixes, log=services.log
    )
    for result in results:
        aggregator.add(result)
    return aggregator.finish()


async def run_items(
    fork: CompiledFork,
    items: Iterable[tuple[int, Any]],
    context: Mapping[str, Any],
    info: RunInfo,
    services: Services,
    sink: Callable[[BranchResult], None],
    *,
    concurrency: int | None = None,
    blocking: bool = False,
) -> None:
    """Run every item's branches, and hand each result over as it comes.

    No more than ``concurrency`` branch runs are ever in flight, and no more than a batch of items is read ahead.

    Args:
        fork: the branches.
        items: pairs of index and item; an ``ItemError`` in an item's place fails that item alone.
        context: the main context.
        info: the run.
        services: what steps may use.
        sink: gets each result, in the order in which branch runs end.
        concurrency: most branch runs in flight; None: ``maxConcurrency``, else the settings' bound.
        blocking: whether taking from ``items`` may wait for a disk or a network.
    """
    notify = services.on_branch_result

    def deliver(result: BranchResult) -> None:
        sink(result)
        if notify is not None:
            notify(result)

    feed = Feed(_runs(items, fork), services, blocking=blocking)
    if fork.is_inline:
        await _run_in_turn(fork, feed, context, info, services, deliver)
        return
    limit = concurrency or fork.max_concurrency or services.settings.branch_concurrency
    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(_worker(fork, feed, context, info, services, deliver))


def _runs(items: Iterable[tuple[int, Any]], fork: CompiledFork) -> Iterable[tuple[int, Any]]:
    """One entry a branch run where branches are independent, one an item where the first that applies is taken."""
    if fork.first_only or len(fork.branches) <= 1:
        for index, item in items:
            yield index, (item, fork.branches)
        return
    for index, item in items:
        for branch in fork.branches:
            yield index, (item, (branch,))


async def _worker(
    fork: CompiledFork,
    feed: Feed,
    context: Mapping[str, Any],
    info: RunInfo,
    services: Services,
    deliver: Callable[[BranchResult], None],
) -> None:
    while (entry := await feed.next()) is not None:
        index, (item, branches) = entry
        for branch in branches:
            result = await run_branch(fork, branch, index, item, context, info, services)
            deliver(result)
            if fork.first_only and result.status is not BranchStatus.SKIPPED:
                break


async def _run_in_turn(
    fork: CompiledFork,
    feed: Feed,
    context: Mapping[str, Any],
    info: RunInfo,
    services: Services,
    deliver: Callable[[BranchResult], None],
) -> None:
    done = 0
    while (entry := await feed.next()) is not None:
        index, (item, branches) = entry
        for branch in branches:
            try:
                result = _run_branch_inline(fork, branch, index, item, context, info, services)
            except (NeedsWaiting, PointerNotLoaded):
                result = await run_branch(fork, branch, index, item, context, info, services)
            deliver(result)
            if fork.first_only and result.status is not BranchStatus.SKIPPED:
                break
        done += 1
        if done % _YIELD_EVERY == 0:
            await asyncio.sleep(0)


def _run_branch_inline(
    fork: CompiledFork,
    branch: CompiledBranch,
    index: int,
    item: Any,
    context: Mapping[str, Any],
    info: RunInfo,
    services: Services,
) -> BranchResult:
    if isinstance(item, ItemError):
        return _failed_to_start(fork, branch, index, item.error, info.in_branch(branch.branch_id, index))
    load = services.pointers.load
    inside = info.in_branch(branch.branch_id, index)
    item_context = {**context, "currentItem": item}
    try:
        if not branch.applies(item_context, inside, load):
            return fork.not_applicable(branch, index)
        state = branch_state(branch, item_context, inside, services)
    except Exception as error:  # noqa: BLE001 - an item's failure is the item's alone
        return _failed_to_start(fork, branch, index, error, inside)
    return fork.result(branch, index, run_inline(branch.program, state, inside, services), load)


async def run_branch(
    fork: CompiledFork,
    branch: CompiledBranch,
    index: int,
    item: Any,
    context: Mapping[str, Any],
    info: RunInfo,
    services: Services,
) -> BranchResult:
    """One branch run of one item; a failure is a result, not an exception."""
    if isinstance(item, ItemError):
        return _failed_to_start(fork, branch, index, item.error, info.in_branch(branch.branch_id, index))
    load = services.pointers.load
    inside = info.in_branch(branch.branch_id, index)
    item_context = {**context, "currentItem": item}
    try:
        if not await resolving(services, branch.applies, item_context, inside, load):
            return fork.not_applicable(branch, index)
        state = await resolving(services, branch_state, branch, item_context, inside, services)
        ended = await run_segment(branch.program, state, inside, services)
        return await resolving(services, fork.result, branch, index, ended, load)
    except Exception as error:  # noqa: BLE001 - an item's failure is the item's alone
        return _failed_to_start(fork, branch, index, error, inside)


def _failed_to_start(
    fork: CompiledFork, branch: CompiledBranch, index: int, error: Exception, info: RunInfo
) -> BranchResult:
    shown = failed_step(step_error_from(error), fork.step_id, info).as_dict()
    return BranchResult(index, branch.index, branch.branch_id, BranchStatus.FAILED, error=shown)
