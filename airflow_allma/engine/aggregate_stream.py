"""How the results of a fork become its output: the same way, wherever its branches ran."""

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
from airflow_allma.engine.program import CompiledFork
from airflow_allma.engine.reorder_buffer import AbandonedError, ReorderBuffer
from airflow_allma.engine.results import BranchResult
from airflow_allma.engine.services import Services
from airflow_allma.engine.spilling_list import SpillingList
from airflow_allma.engine.state import RunInfo
from airflow_allma.flow import AggregationStrategy
from airflow_allma.storage import Pointer

__all__ = [
    "MAX_HELD_ITEMS",
    "AggregateStream",
    "JoinedResults",
    "collected_target",
    "join_held",
    "join_results",
]

MAX_HELD_ITEMS: Final = 256
"""Results of a list that is no longer are held and joined at the end, without a thread of their own."""


@dataclass(frozen=True, slots=True)
class JoinedResults:
    """What a fork came to.

    Attributes:
        output: ``{"aggregatedData": ...}``.
        count: branch runs, without skipped ones.
        failed: how many of them failed.
    """

    output: dict[str, Any]
    count: int
    failed: int


def collected_target(
    fork: CompiledFork, info: RunInfo, services: Services, *, attempt: str | None = None
) -> Pointer | None:
    """Where a large ``COLLECT_ARRAY`` result goes; None when it stays in the context.

    As of any step, a pointer takes the output's place only if the flow does not forbid it.

    Args:
        fork: the fork.
        info: the run, or the branch run in which the fork stands.
        services: for the offload location.
        attempt: names this run of the fork where it may run more than once in a run of the flow (in loops,
            or in the branches of other forks), so that a pointer never shows another one's results.
    """
    location = services.settings.offload_location
    if location is None or services.store is None or fork.model.disable_s3_offload:
        return None
    if fork.config.strategy is not AggregationStrategy.COLLECT_ARRAY:
        return None
    parts = [*info.key_ids, fork.step_id, "aggregated"]
    return location.pointer(*parts, *([attempt] if attempt else []), ending=".jsonl")


def join_results(
    fork: CompiledFork,
    results: Iterable[BranchResult],
    services: Services,
    target: Pointer | None,
    *,
    max_inline_bytes: int | None = None,
) -> JoinedResults:
    """Join results as they come; memory holds none of them but those that the strategy needs.

    Blocks while it writes to the store.

    Args:
        fork: the fork.
        results: in item order, then branch order. Outputs may be encoded (``msgspec.Raw``) where the strategy
            looks into none (``COLLECT_ARRAY``, ``NONE``).
        services: for the store, and the settings.
        target: what ``collected_target`` gave.
        max_inline_bytes: bytes of JSON that a list may have when there is no target; None: any.

    Raises:
        ParallelBranchExecutionError: more branch runs failed than the fork tolerates.
        StepError: what a custom module raised.
        StorageError: the result is too large for the context and has nowhere to go, or the store refused.
    """
    settings = services.settings
    collected = SpillingList(services.store, target, settings.output_offload_bytes, max_inline_bytes)
    aggregator = Aggregator(
        fork.config,
        custom_module_prefixes=settings.custom_module_prefixes,
        log=services.log,
        collect=collected.add,
    )
    try:
        output = aggregator.aggregate(results)
    except BaseException as error:
        collected.abandon(error)
        raise
    if fork.config.strategy is AggregationStrategy.COLLECT_ARRAY:
        output = {"aggregatedData": collected.finish()}
    return JoinedResults(output, aggregator.count, aggregator.failed)


async def join_held(
    fork: CompiledFork, results: list[BranchResult], info: RunInfo, services: Services
) -> dict[str, Any]:
    """The output of a fork whose results are all here, in any order.

    Raises:
        StepError: as ``join_results``.
        StorageError: as ``join_results``.
    """
    results.sort(key=attrgetter("item_index", "branch_index"))
    target = collected_target(fork, info, services, attempt=uuid.uuid4().hex)
    if target is None and fork.config.strategy is not AggregationStrategy.CUSTOM_MODULE:
        return join_results(fork, results, services, None).output
    # The store, or a flow's own function, may keep others waiting.
    return (await services.in_thread(join_results, fork, results, services, target)).output


class AggregateStream:
    """Joins the results of a fork in a thread of its own while its branch runs end; an async context manager.

    Args:
        fork: the fork.
        info: the run, or the branch run in which the fork stands.
        services: for the store, and the settings.

    Attributes:
        handover: takes the results, and says how fast items may be read.
        output: what the fork came to; once the ``async with`` block has ended well.
    """

    output: dict[str, Any]

    def __init__(self, fork: CompiledFork, info: RunInfo, services: Services) -> None:
        self._fork = fork
        self._services = services
        self._target = collected_target(fork, info, services, attempt=uuid.uuid4().hex)
        self.handover = ReorderBuffer(fork)
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
        self.handover.close(well=error is None)
        self._thread.shutdown(wait=False)
        await asyncio.wait([self._joined])
        if error is None or isinstance(error, AbandonedError):
            self.output = self._joined.result().output
        else:
            # It has ended in an error that says no more than the first one.
            self._joined.exception()

    def _join(self) -> JoinedResults:
        try:
            return join_results(self._fork, self.handover, self._services, self._target)
        except BaseException:
            self.handover.give_up()
            raise
