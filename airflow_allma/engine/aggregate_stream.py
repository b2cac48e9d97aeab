"""How the results of a fork become its output: in the same way wherever its branches ran."""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import attrgetter
from types import TracebackType
from typing import Any, Final, Self

from airflow_allma.engine.aggregation import Aggregator
from airflow_allma.engine.fork_limits import ForkLimits
from airflow_allma.engine.program import CompiledFork
from airflow_allma.engine.reorder_buffer import AbortedError, ReorderBuffer
from airflow_allma.engine.result_files import ResultFiles
from airflow_allma.engine.results import BranchResult
from airflow_allma.engine.services import Services
from airflow_allma.engine.spilling_list import SpillingList
from airflow_allma.engine.state import RunInfo
from airflow_allma.flow import AggregationStrategy
from airflow_allma.storage import Pointer

__all__ = [
    "MAX_BUFFERED_ITEMS",
    "AggregateStream",
    "JoinedResults",
    "aggregate_target",
    "join_buffered",
    "join_results",
]

MAX_BUFFERED_ITEMS: Final = 256
"""Results of a list up to this length are buffered and joined at the end, without a thread of their own."""


@dataclass(frozen=True, slots=True)
class JoinedResults:
    """The outcome of a fork.

    Attributes:
        output: ``{"aggregatedData": ...}``.
        count: branch runs, without skipped ones.
        failed: how many of them failed.
    """

    output: dict[str, Any]
    count: int
    failed: int


def aggregate_target(
    fork: CompiledFork, info: RunInfo, services: Services, *, attempt: str | None = None
) -> Pointer | None:
    """Return where a large ``COLLECT_ARRAY`` result is written; None when it stays in the context.

    As for any step, a pointer replaces the output only if the flow does not forbid it.

    Args:
        fork: the fork.
        info: the run, or the branch run that contains the fork.
        services: for the offload location.
        attempt: identifies this run of the fork where it can run more than once in a run of the flow (in
            loops, or in branches of other forks), so that a pointer never shows another one's results.
    """
    location = services.settings.results_location
    if location is None or services.store is None or fork.model.disable_s3_offload:
        return None
    if fork.config.strategy is not AggregationStrategy.COLLECT_ARRAY:
        return None
    identifiers = [*info.key_ids, fork.step_id, "aggregated"]
    return location.pointer(*identifiers, *([attempt] if attempt else []), ending=".jsonl")


def join_results(
    fork: CompiledFork,
    results: Iterable[BranchResult],
    services: Services,
    target: Pointer | None,
    *,
    limits: ForkLimits | None = None,
    max_inline_bytes: int | None = None,
    files: ResultFiles | None = None,
) -> JoinedResults:
    """Join results as they come; only what the strategy needs of them is kept in memory.

    Blocks while it writes to the store.

    Args:
        fork: the fork.
        results: in item order, then branch order. Outputs can be encoded (``msgspec.Raw``) where the strategy
            does not read them (``COLLECT_ARRAY``, ``NONE``).
        services: for the store and the settings.
        target: what ``aggregate_target`` returned.
        limits: the fork's numbers in this run; None for a fork in which none is a JSONPath.
        max_inline_bytes: maximum bytes of JSON of a list without a target; None for no limit.
        files: what ``result_files`` returned. They are complete also if too many branch runs failed.

    Raises:
        ParallelBranchExecutionError: more branch runs failed than the fork tolerates.
        StepError: raised by a custom module.
        StorageError: the result is too large for the context and has no target, or the store refused.
    """
    settings = services.settings
    # Without an offload location outputs stay in the context as long as they fit.
    spilled_above = max_inline_bytes if settings.offload_location is None else settings.output_offload_bytes
    members = SpillingList(services.store, target, spilled_above, max_inline_bytes)
    aggregator = Aggregator(
        fork.config,
        fork.limits.fixed if limits is None else limits,
        custom_module_prefixes=settings.custom_module_prefixes,
        log=services.log,
        collect=members.add,
    )
    try:
        output = aggregator.aggregate(results if files is None else files.watch(results))
        if files is not None:
            files.finish()
        if fork.config.strategy is AggregationStrategy.COLLECT_ARRAY:
            output = {"aggregatedData": members.finish()}
    except BaseException as error:
        members.abandon(error)
        if files is not None:
            files.finish_after(error)
        raise
    return JoinedResults(output, aggregator.count, aggregator.failed)


async def join_buffered(
    fork: CompiledFork,
    results: list[BranchResult],
    info: RunInfo,
    services: Services,
    limits: ForkLimits,
    *,
    files: ResultFiles | None = None,
) -> dict[str, Any]:
    """Return the output of a fork whose results are all in memory, in any order.

    Args:
        fork: the fork.
        results: its results; they are sorted here.
        info: the run, or the branch run that contains the fork.
        services: for the store and the settings.
        limits: the fork's numbers in this run.
        files: what ``result_files`` returned.

    Raises:
        StepError: as ``join_results``.
        StorageError: as ``join_results``.
    """
    results.sort(key=attrgetter("item_index", "branch_index"))
    target = aggregate_target(fork, info, services, attempt=uuid.uuid4().hex)
    if target is None and files is None and fork.config.strategy is not AggregationStrategy.CUSTOM_MODULE:
        return join_results(fork, results, services, None, limits=limits).output
    # The store, or a flow's own function, can block.
    joined = await services.in_thread(
        join_results, fork, results, services, target, limits=limits, files=files
    )
    return joined.output


class AggregateStream:
    """Joins the results of a fork in its own thread while the branch runs end; an async context manager.

    Args:
        fork: the fork.
        info: the run, or the branch run that contains the fork.
        services: for the store and the settings.
        limits: the fork's numbers in this run.
        files: what ``result_files`` returned.

    Attributes:
        buffer: takes the results and paces the reading of items.
        output: the fork's output, once the ``async with`` block has ended without an error.
    """

    output: dict[str, Any]

    def __init__(
        self,
        fork: CompiledFork,
        info: RunInfo,
        services: Services,
        limits: ForkLimits,
        files: ResultFiles | None = None,
    ) -> None:
        self._fork = fork
        self._limits = limits
        self._services = services
        self._files = files
        self._target = aggregate_target(fork, info, services, attempt=uuid.uuid4().hex)
        self.buffer = ReorderBuffer(fork)
        # Not one of the event loop's own threads: those read the items that this one waits for.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="allma-join")

    async def __aenter__(self) -> Self:
        self._joined = asyncio.get_running_loop().run_in_executor(
            self._thread, contextvars.copy_context().run, self._join
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.buffer.close(complete=error is None)
        self._thread.shutdown(wait=False)
        await asyncio.wait([self._joined])
        if error is None or isinstance(error, AbortedError):
            self.output = self._joined.result().output
        else:
            # The thread has ended with an error that adds nothing to the first one; mark it as retrieved.
            self._joined.exception()

    def _join(self) -> JoinedResults:
        try:
            return join_results(
                self._fork,
                self.buffer,
                self._services,
                self._target,
                limits=self._limits,
                files=self._files,
            )
        except BaseException:
            self.buffer.abort()
            raise
