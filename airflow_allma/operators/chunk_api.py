"""Chunks in Dags of your own: reading a chunk's items, writing its results, and joining them.

A chunk is one entry of what ``S3ManifestOperator`` returned. Results are stored below ``[allma]
offload_location`` as those of a flow's forks are: written while the task runs, so that a task that is retried
or cleared runs only the items without a success.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from airflow_allma.configuration import load_settings
from airflow_allma.exceptions import ParallelBranchExecutionError, StorageConfigurationError
from airflow_allma.operators.airflow_services import build_services
from airflow_allma.operators.run_link import flow_execution_id
from airflow_allma.operators.task_context import LOG

if TYPE_CHECKING:
    from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec
    from airflow_allma.engine import BranchResult, CompiledFork, RunInfo, Services
    from airflow_allma.settings import AllmaSettings
    from airflow_allma.storage import ManifestRange, ObjectStore, OffloadLocation

__all__ = ["ChunkWriter", "chunk_items", "join_chunks"]

_BRANCH: Final = "item"
"""The branch id in the stored results: an item of a hand-written Dag has one result."""
_MAX_ERRORS: Final = 10
"""Failures in the details of an error."""


def chunk_items(
    chunk: Mapping[str, Any], *, aws_conn_id: str | None = None, offload_location: str | None = None
) -> Iterator[Any]:
    """Yield the items of a chunk, streamed, in order.

    Args:
        chunk: one entry of what ``S3ManifestOperator`` returned.
        aws_conn_id: the Airflow connection; None for ``[allma] aws_conn_id``.
        offload_location: where it differs from ``[allma] offload_location``.

    Raises:
        ObjectChangedError: the object has changed since it was planned.
        PermanentStepError: a line is not JSON; the message has its number and byte offset.
        ValueError: the chunk is a part of a fork's list, which only the fork itself can read.
    """
    from airflow_allma.engine import ItemError
    from airflow_allma.engine.readers import range_items

    _, lines = _spec_of(chunk)
    _, services = _open(aws_conn_id, offload_location)
    for _, _, item in range_items(_store_of(services), lines):
        if isinstance(item, ItemError):
            raise item.error
        yield item


class ChunkWriter:
    """Writes the results of one chunk, in a task of your own.

    A context manager::

        with ChunkWriter(chunk) as results:
            for index, item in results.items():
                try:
                    results.add(index, enrich(item))
                except ValueError as error:
                    results.fail(index, error)

    Results are written in parts while the task runs, and at the end, also when the block raises. Use it in
    one thread.

    Args:
        chunk: one entry of what ``S3ManifestOperator`` returned.
        name: identifies these results in the Dag run, if several tasks write results for the same chunks.
        aws_conn_id: the Airflow connection; None for ``[allma] aws_conn_id``.
        offload_location: where it differs from ``[allma] offload_location``.

    Attributes:
        read: items that ``items`` has read so far, including those with a result of an earlier try.
        failed: items of this try that failed.

    Raises:
        StorageConfigurationError: no offload location is configured.
        StorageError: the results of earlier tries cannot be read.
        ValueError: the chunk is a part of a fork's list.
    """

    def __init__(
        self,
        chunk: Mapping[str, Any],
        *,
        name: str = "results",
        aws_conn_id: str | None = None,
        offload_location: str | None = None,
    ) -> None:
        from airflow_allma.distributed.result_writer import ResultWriter

        spec, self._manifest = _spec_of(chunk)
        settings, services = _open(aws_conn_id, offload_location)
        self._store = _store_of(services)
        info, run_after = _current_run()
        folder = _folder(services, info, name, run_after, spec)
        self._writer = ResultWriter(self._store, folder, flush_bytes=settings.result_part_bytes)
        self._offsets: dict[int, int] = {}
        self._exhausted = False
        self.read = 0
        self.failed = 0

    def items(self) -> Iterator[tuple[int, Any]]:
        """Yield index in the chunk and item, without those that have a success of an earlier try.

        A line that is not JSON becomes a failed result of its own, and is not yielded.

        Raises:
            ObjectChangedError: the object has changed since it was planned.
            StorageError: the object cannot be read.
        """
        from airflow_allma.engine import ItemError
        from airflow_allma.engine.readers import range_items

        self.read, self._exhausted = 0, False
        for index, offset, item in range_items(self._store, self._manifest):
            self.read += 1
            if self._writer.has_succeeded(index, _BRANCH):
                continue
            self._offsets = {index: offset}
            if isinstance(item, ItemError):
                LOG.warning("%s (item %d of this chunk)", item.error, index)
                self._fail(index, item.error.as_dict())
                continue
            yield index, item
        self._exhausted = True

    def add(self, index: int, output: Any) -> None:
        """Add the output of an item.

        Args:
            index: the item's index in the chunk, as ``items`` yields it.
            output: a JSON value.

        Raises:
            ObjectDecodeError: it is not a JSON value.
            StorageError: a part cannot be written.
            ValueError: ``items`` has not yielded the index.
        """
        self._check(index)
        if self._writer.add_output(index, self._offsets.get(index, 0), _BRANCH, output):
            self._writer.flush()

    def fail(self, index: int, error: BaseException) -> None:
        """Add the failure of an item.

        Args:
            index: the item's index in the chunk, as ``items`` yields it.
            error: what was raised.

        Raises:
            StorageError: a part cannot be written.
            ValueError: ``items`` has not yielded the index.
        """
        from airflow_allma.engine.errors import step_error_from

        self._check(index)
        self._fail(index, step_error_from(error).as_dict())

    def _check(self, index: int) -> None:
        # A result of another index would be ignored, or count as an item that does not exist.
        if not 0 <= index < self.read:
            raise ValueError(
                f"Item {index} of this chunk has not been read: use the indexes that items() yields."
            )

    def _fail(self, index: int, error: dict[str, Any]) -> None:
        self.failed += 1
        if self._writer.add_error(index, self._offsets.get(index, 0), _BRANCH, error):
            self._writer.flush()

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)
        if error is None and self._exhausted:
            self._writer.finish(self.read)


def join_chunks(
    chunks: Iterable[Mapping[str, Any]],
    *,
    name: str = "results",
    fail_on_error: bool = True,
    aws_conn_id: str | None = None,
    offload_location: str | None = None,
) -> Any:
    """Join the results of all chunks in item order, in a task downstream of those that wrote them.

    Give that task the trigger rule ``all_done``, so that it also runs, and reports the missing items, when
    a chunk's task failed.

    Args:
        chunks: what ``S3ManifestOperator`` returned.
        name: as passed to ``ChunkWriter``.
        fail_on_error: whether failed and missing items raise an error; if not, each is ``{"error": {...}}``
            in its place, with ``errorName``, ``errorMessage``, ``errorDetails`` and ``isRetryable``.
        aws_conn_id: the Airflow connection; None for ``[allma] aws_conn_id``.
        offload_location: where it differs from ``[allma] offload_location``.

    Returns:
        A list of outputs or, if it is larger than ``[allma] output_offload_bytes``, a pointer
        ``{"_s3_output_pointer": {"bucket", "key"}}`` to a JSON Lines object.

    Raises:
        ParallelBranchExecutionError: items failed or have no result; the message has their number and the
            first error.
        StorageError: the results cannot be read or written.
        StorageConfigurationError: no offload location is configured.
    """
    from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec
    from airflow_allma.distributed.chunk_results import ChunkResults
    from airflow_allma.engine import aggregate_target, join_results

    settings, services = _open(aws_conn_id, offload_location)
    info, run_after = _current_run()
    folder_of = partial(_folder, services, info, name, run_after)
    plan = ChunkPlan(tuple(map(ChunkSpec.from_dict, chunks)), None, "", 1)
    outcomes = _StoredOutcomes.read(plan, folder_of, _store_of(services))
    fork = _results_fork(name)
    joined = join_results(
        fork,
        _with_failures(
            ChunkResults(fork, plan, outcomes, folder_of, services).read(), fail_on_error=fail_on_error
        ),
        services,
        aggregate_target(fork, info, services),
        max_inline_bytes=settings.max_inline_bytes,
    )
    return joined.output["aggregatedData"]


@dataclass(frozen=True, slots=True)
class _StoredOutcomes:
    """The outcomes of chunks by what their tasks have stored.

    Attributes:
        items: chunk number -> number of items, of the chunks whose task stored a summary.
    """

    items: Mapping[int, int]

    @classmethod
    def read(
        cls, plan: ChunkPlan, folder_of: Callable[[ChunkSpec], OffloadLocation], store: ObjectStore
    ) -> Self:
        """Read the summaries of all chunks."""
        from airflow_allma.distributed.result_format import read_chunk_summary

        items = {}
        for chunk in plan.chunks:
            summary = read_chunk_summary(store, folder_of(chunk))
            if summary is not None:
                items[chunk.number] = summary.items
        return cls(items)

    def finished(self) -> Mapping[int, Mapping[str, Any]]:
        """Return the number of items of each chunk whose task stored a summary."""
        return {number: {"items": items} for number, items in self.items.items()}

    def reason(self, chunk: ChunkSpec) -> str:
        """Return why items have no result."""
        why = "added no result for it" if chunk.number in self.items else "did not finish"
        return f"the task of chunk {chunk.number} ({chunk.label}) {why}"


def _spec_of(chunk: Mapping[str, Any]) -> tuple[ChunkSpec, ManifestRange]:
    """Return a chunk, and its lines.

    Raises:
        ValueError: it is a part of a fork's list.
    """
    from airflow_allma.distributed.chunk_plan import ChunkSpec

    spec = ChunkSpec.from_dict(chunk)
    if spec.manifest is None:
        raise ValueError("This chunk is a part of a fork's list, which only the fork itself can read.")
    return spec, spec.manifest


def _open(aws_conn_id: str | None, offload_location: str | None) -> tuple[AllmaSettings, Services]:
    settings = load_settings().changed(aws_conn_id=aws_conn_id, offload_location=offload_location)
    return settings, build_services(settings, LOG)


def _store_of(services: Services) -> ObjectStore:
    if services.store is None:
        raise StorageConfigurationError("No store is configured. Set [allma] aws_conn_id.")
    return services.store


def _current_run() -> tuple[RunInfo, str]:
    """Return the run of the task that calls, and when it was due."""
    from airflow.sdk import get_current_context

    from airflow_allma.engine import RunInfo

    context = get_current_context()
    dag_id, run_id = context["ti"].dag_id, context["ti"].run_id
    info = RunInfo.now(dag_id, 1, flow_execution_id(dag_id, run_id))
    run_after: str = context["dag_run"].run_after.isoformat()
    return msgspec.structs.replace(info, stored_under=(dag_id, run_id)), run_after


def _folder(
    services: Services, info: RunInfo, name: str, run_after: str, chunk: ChunkSpec
) -> OffloadLocation:
    """Return the folder of a chunk's results: a chunk of another plan, or of another run, has another."""
    from airflow_allma.distributed.chunk_layout import results_of_fork
    from airflow_allma.distributed.chunk_plan import ChunkPlan

    location = services.settings.results_location
    if location is None:
        raise StorageConfigurationError(
            "Results of chunks need an offload location. Set [allma] offload_location, or pass "
            "offload_location."
        )
    token = ChunkPlan.token_of([chunk], run_after)
    return results_of_fork(location.below(*info.key_ids), name).below(token)


def _with_failures(results: Iterable[BranchResult], *, fail_on_error: bool) -> Iterator[BranchResult]:
    """Yield the results, each failure as an output in its place.

    Raises:
        ParallelBranchExecutionError: at the end, if items failed and ``fail_on_error``.
    """
    from airflow_allma.engine import BranchStatus

    count = failed = 0
    first: list[dict[str, Any]] = []
    for result in results:
        count += 1
        if result.status is not BranchStatus.FAILED:
            yield result
            continue
        failed += 1
        if len(first) < _MAX_ERRORS:
            first.append({"itemIndex": result.item_index, "error": result.error})
        if not fail_on_error:
            yield msgspec.structs.replace(
                result, status=BranchStatus.OK, output={"error": result.error}, error=None
            )
    LOG.info("%d of %d items failed", failed, count)
    if failed and fail_on_error:
        error = first[0]["error"] or {}
        raise ParallelBranchExecutionError(
            f"{failed} of {count} items failed. The first, item {first[0]['itemIndex']}: "
            f"{error.get('errorName')}: {error.get('errorMessage')}",
            details={"itemErrors": first, "failedItemCount": failed, "itemCount": count},
        )


def _results_fork(name: str) -> CompiledFork:
    """Return a fork with one branch, whose results are those of a hand-written Dag."""
    from airflow_allma.engine import compile_flow
    from airflow_allma.flow import parse_flow

    fork = {
        "stepType": "PARALLEL_FORK_MANAGER",
        "itemsPath": "$.items",
        "parallelBranches": [{"branchId": _BRANCH, "stepInstanceId": f"{name}_item"}],
        "aggregationConfig": {"strategy": "COLLECT_ARRAY"},
    }
    steps = {name: fork, f"{name}_item": {"stepType": "NO_OP"}}
    return compile_flow(parse_flow({"id": "chunks", "startStepInstanceId": name, "steps": steps})).fork(name)
