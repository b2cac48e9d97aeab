"""Forks in one process: bounded branch runs on one event loop, or a plain loop where nothing waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from airflow_allma.common.batching import batched
from airflow_allma.common.work_budget import own_budget
from airflow_allma.engine.aggregate_stream import MAX_BUFFERED_ITEMS, AggregateStream, join_buffered
from airflow_allma.engine.composing import Composer
from airflow_allma.engine.fork_run import ForkRun
from airflow_allma.engine.item_batches import batches_of
from airflow_allma.engine.item_facts import ListedItems, ReadItems
from airflow_allma.engine.items import ForkItems, ItemFeed, resolve_items
from airflow_allma.engine.pointer_loading import require_store
from airflow_allma.engine.program import CompiledBranch, CompiledFork
from airflow_allma.engine.readers import ItemOffsets, all_batches, offset_name
from airflow_allma.engine.result_files import ResultFiles, result_files
from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo
from airflow_allma.engine.step_runner import NeedsWaiting
from airflow_allma.engine.suspended_runs import ParkedRun, SuspendedRun, SuspendedRuns
from airflow_allma.engine.suspension import SuspendStep, is_over

__all__ = ["Omit", "ResultSink", "run_fork", "run_items"]

_DELIVERY_SECONDS: Final = 0.01
"""How long a result can wait for others that are delivered with it."""
_DELIVERY_SIZE: Final = 256
"""Results that are delivered without waiting for others."""

ResultSink = Callable[[Sequence[BranchResult]], None]
"""Receives the results of branch runs that have ended."""

Omit = Callable[[int, Sequence[CompiledBranch]], bool]
"""Returns whether branches need not run for an item, by its index."""


async def run_fork(
    fork: CompiledFork,
    context: Mapping[str, Any],
    info: RunInfo,
    services: Services,
    saved: Any = None,
) -> dict[str, Any]:
    """Run a whole fork on this event loop.

    Args:
        fork: the fork.
        context: the data that its branches see.
        info: the run.
        services: what steps can use.
        saved: what the fork passed to ``SuspendStep``, if it continues.

    Returns:
        The step's output, ``{"aggregatedData": ...}``.

    Raises:
        StepError: the items cannot be read, the fork is nested too deeply or among too many, or more branch
            runs failed than it tolerates.
        SuspendStep: branch runs wait for events.
    """
    if saved is not None:
        limits = fork.limits.restore(saved.get("limits") or {})
        return await _continue_fork(ForkRun(fork, context, info, services, limits), saved)
    items = await resolve_items(fork, context, services)
    limits = items.limits or fork.limits.fixed
    run = ForkRun(fork, context, info, services, limits)
    values = items.values or []
    services.fork_load.enter(
        fork.step_id,
        info.fork_depth,
        len(values) * len(fork.branches),
        max_depth=services.settings.max_fork_depth,
        max_runs=services.settings.max_nested_branch_runs,
    )
    results: list[BranchResult] = []
    reader = limits.reader(fork.model.item_reader)
    offsets = ItemOffsets(name=offset_name(items.pointer, reader) if items.pointer else "")
    read = ReadItems(fork, offsets, services.secrets.masks)
    files = _result_files(run, items, read)
    if items.pointer is None and len(values) <= MAX_BUFFERED_ITEMS:
        return await _buffered(run, batched(enumerate(values)), results, files=files)
    source: Iterable[list[tuple[int, Any]]] = batched(enumerate(values))
    if items.pointer is not None:
        store = require_store(services, items.pointer)
        batches = all_batches(
            store,
            items.pointer,
            reader,
            max_unpack_ratio=services.settings.max_unpack_ratio,
            offsets=offsets,
        )
        if limits.has_batches:
            one_by_one = (item for batch in batches for item in batch.items)
            source = batched(enumerate(batches_of(one_by_one, limits)), 1)
        else:
            source = offsets.track(batches)
        if files is not None:
            source = read.track(source)
    if fork.suspends:
        # An early item can wait for long: its successors must not be held back.
        return await _buffered(run, source, results, annotate=offsets.annotate, blocking=True, files=files)
    async with AggregateStream(fork, info, services, limits, files) as stream:
        submit = stream.buffer.submit
        await run_items(
            run,
            stream.buffer.throttle(source),
            lambda results: submit(offsets.annotate(results)),
            blocking=True,
        )
    return stream.output


def _result_files(run: ForkRun, items: ForkItems, read: ReadItems) -> ResultFiles | None:
    """Return what writes the files of a fork whose items are these; ``read`` knows those of an object."""
    fork, services = run.fork, run.services
    if fork.model.result_writer is None:
        return None
    listed = items.values
    facts = read if listed is None else ListedItems(fork, listed, services.secrets.masks)
    return result_files(fork, run.info, services, facts, items.pointer)


async def _continue_fork(run: ForkRun, saved: Any) -> dict[str, Any]:
    """Continue the branch runs whose events have arrived, or whose time is over."""
    services = run.services
    results = [BranchResult.from_dict(result) for result in saved["results"]]
    now = services.now()
    waiting: list[ParkedRun] = []
    continued: list[ParkedRun] = []
    for one in saved["parked"]:
        parked = ParkedRun.from_dict(one)
        (continued if is_over(parked.waits, services.answers, now) else waiting).append(parked)
    files = None
    if run.fork.model.result_writer is not None:
        items = await resolve_items(run.fork, run.context, services)
        # The names of an object's items are not saved while branch runs wait.
        files = _result_files(run, items, ReadItems(run.fork, ItemOffsets(), services.secrets.masks))
    return await _buffered(run, (), results, waiting=waiting, continued=continued, files=files)


async def _buffered(
    run: ForkRun,
    source: Iterable[Sequence[tuple[int, Any]]],
    results: list[BranchResult],
    *,
    waiting: Sequence[ParkedRun] = (),
    continued: Sequence[ParkedRun] = (),
    annotate: Callable[[Sequence[BranchResult]], Sequence[BranchResult]] = lambda results: results,
    blocking: bool = False,
    files: ResultFiles | None = None,
) -> dict[str, Any]:
    """Run a fork with all results in memory, those of before included.

    Raises:
        SuspendStep: branch runs wait for events.
    """
    parked = await run_items(
        run,
        source,
        lambda added: results.extend(annotate(added)),
        blocking=blocking,
        continued=continued,
        held_keys=[wait.key for one in waiting for wait in one.waits],
    )
    parked = [*waiting, *parked]
    limits = run.limits or run.fork.limits.fixed
    if parked:
        waits = [wait for one in parked for wait in one.waits]
        raise SuspendStep(
            waits,
            {
                "results": [result.to_dict() for result in results],
                "parked": [one.to_dict() for one in parked],
                **({"limits": dict(limits.computed)} if limits.computed else {}),
            },
        )
    return await join_buffered(run.fork, results, run.info, run.services, limits, files=files)


async def run_items(
    run: ForkRun,
    items: Iterable[Sequence[tuple[int, Any]]],
    sink: ResultSink,
    *,
    concurrency: int | None = None,
    blocking: bool = False,
    continued: Sequence[ParkedRun] = (),
    omit: Omit | None = None,
    held_keys: Iterable[str] = (),
) -> list[ParkedRun]:
    """Run every item's branches, and pass on each result when it is available.

    At most ``concurrency`` branch runs are in flight, and at most one batch of items is read ahead. A branch
    run that waits is not in flight.

    Args:
        run: the fork and what its branches see.
        items: pairs of index and item, in batches that are read together; an ``ItemError`` instead of an
            item fails that item alone.
        sink: receives the results, in the order in which branch runs end: one by one, or several at once
            where nothing waits.
        concurrency: maximum of branch runs in flight; None for that of ``run.limits`` or of the settings.
        blocking: whether reading from ``items`` can wait for a disk or a network.
        continued: branch runs that were parked before, to be continued besides the items.
        omit: returns whether branches need not run for an item: index, and the branches of which all or, with
            ``branchSelection: first``, the first that applies would run. Only for branches that wait.
        held_keys: correlation keys of branch runs that stay parked.

    Returns:
        The branch runs that wait for events; they have no result yet.
    """
    fork, services = run.fork, run.services
    if services.on_branch_result is not None:
        sink = _both(sink, services.on_branch_result)
    if not fork.branches:
        return []
    groups = (fork.branches,) if fork.first_only else tuple((branch,) for branch in fork.branches)
    if fork.runs_inline(services):
        await _run_in_order(run, groups, ItemFeed(items, services, blocking=blocking), sink)
        return []
    entries = (
        [
            (index, item, branches)
            for index, item in batch
            for branches in groups
            if omit is None or not omit(index, branches)
        ]
        for batch in items
    )
    feed = ItemFeed(entries, services, blocking=blocking)
    limits = run.limits or fork.limits.fixed
    limit = concurrency or limits.max_concurrency or services.settings.branch_concurrency
    suspended = SuspendedRuns(services, held_keys)
    outlet = _Outlet(sink, suspended)
    load = services.fork_load
    workers = load.workers(run.info.fork_depth, limit)
    load.in_flight += workers
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                # Each worker begins with its share of the parked runs.
                group.create_task(_worker(run, feed, outlet, suspended, continued[number::workers]))
    except ExceptionGroup as errors:
        # Branch runs do not raise; the items or the sink did, and the first error is the cause.
        raise errors.exceptions[0] from None
    finally:
        load.in_flight -= workers
        # Also when the branch runs are cancelled: none that has ended is lost.
        outlet.close()
    return [one.park() for one in suspended.parked]


def _both(first: ResultSink, second: Callable[[BranchResult], None]) -> ResultSink:
    def deliver(results: Sequence[BranchResult]) -> None:
        first(results)
        for result in results:
            second(result)

    return deliver


class _Outlet:
    """Passes results on, those of some milliseconds together: each delivery takes its time.

    Args:
        sink: receives them.
        suspended: receives the branch runs that have none yet.
    """

    def __init__(self, sink: ResultSink, suspended: SuspendedRuns) -> None:
        self._sink = sink
        self._suspended = suspended
        self._results: list[BranchResult] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._failure: BaseException | None = None

    def add(self, result: BranchResult | SuspendedRun) -> bool:
        """Add a result; return whether the branch applies to the item.

        Raises:
            Exception: what the sink raised for earlier results.
        """
        if isinstance(result, SuspendedRun):
            self._suspended.add(result)
            return True
        if not self._results:
            if self._failure is not None:
                raise self._failure
            self._timer = self._loop.call_later(_DELIVERY_SECONDS, self._deliver)
        self._results.append(result)
        # A failure can end the fork, so that it does not wait.
        if result.error is not None or len(self._results) >= _DELIVERY_SIZE:
            self._deliver()
        return result.status is not BranchStatus.SKIPPED

    def close(self) -> None:
        """Deliver what is left.

        Raises:
            Exception: what the sink raises, or raised for earlier results.
        """
        self._deliver()
        if self._failure is not None:
            raise self._failure

    def _deliver(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        results, self._results = self._results, []
        if not results or self._failure is not None:
            return
        try:
            self._sink(results)
        except Exception as error:  # noqa: BLE001 - raised to whoever adds the next result, or closes
            self._failure = error


async def _worker(
    run: ForkRun,
    feed: ItemFeed,
    outlet: _Outlet,
    suspended: SuspendedRuns,
    continued: Sequence[ParkedRun],
) -> None:
    # The steps of this worker must not share the budget of the fork's own step.
    with own_budget(run.services.settings.max_step_work):
        for parked in continued:
            outlet.add(await run.continue_parked(parked))
        while True:
            while (due := suspended.due()) is not None:
                outlet.add(await run.continue_run(due))
            entry = feed.next_ready() or await feed.next()
            if entry is None:
                break
            index, item, branches = entry
            for branch in branches:
                if outlet.add(await run.branch(branch, index, item)):
                    break
        while (due := await suspended.next()) is not None:
            outlet.add(await run.continue_run(due))


async def _run_in_order(
    run: ForkRun, groups: Sequence[Sequence[CompiledBranch]], feed: ItemFeed, sink: ResultSink
) -> None:
    composer = Composer.of(run)
    with own_budget(run.services.settings.max_step_work):
        while (batch := await feed.next_batch()) is not None:
            if composer is None:
                sink(await _run_batch(run, groups, batch))
            else:
                sink(await _compose_batch(run, groups, composer, batch))
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
                    # Steps of inline branches wait for pointers at most.
                    result = cast("BranchResult", await run.branch(branch, index, item, waiting.state))
                results.append(result)
                if result.status is not skipped:
                    break
    return results


async def _compose_batch(
    run: ForkRun,
    groups: Sequence[Sequence[CompiledBranch]],
    composer: Composer,
    batch: Sequence[tuple[int, Any]],
) -> list[BranchResult]:
    results: list[BranchResult] = []
    add = results.append
    for entry, result in zip(batch, composer.results(batch), strict=True):
        if result is not None:
            add(result)
        else:
            results += await _run_batch(run, groups, (entry,))
    return results
