"""The results of single items in the parts of a chunk, found by their marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Final, NamedTuple

import msgspec

from airflow_allma.distributed.final_results import branch_ranks, final_results
from airflow_allma.distributed.result_reader import read_results
from airflow_allma.engine import BranchResult, BranchStatus
from airflow_allma.engine.readers import offset_in
from airflow_allma.inspection.chunk_files import StoredPart
from airflow_allma.inspection.stored_lines import KEEP_BYTES, FoundLine, find_line, scan_lines
from airflow_allma.storage import ObjectStore, OffloadLocation, encode_value

__all__ = [
    "BLOCK_BYTES",
    "ByteJob",
    "byte_jobs",
    "error_of",
    "failed_results",
    "final_by_item",
    "handed_on_line",
    "read_job",
]

BLOCK_BYTES: Final = 256 << 10
"""Bytes that are read at once."""
_FAILED: Final = b'"status":"failed"'


class ByteJob(NamedTuple):
    """Bytes of a part to read, and the items that are wanted of them."""

    part: StoredPart
    start: int
    end: int
    items: tuple[int, ...]


def byte_jobs(parts: Iterable[StoredPart], items: Sequence[int]) -> list[ByteJob]:
    """Return what to read for some items, which are in order and each once; ranges that touch are one."""
    jobs: list[ByteJob] = []
    for part in parts:
        start = end = 0
        of_job: list[int] = []
        for item in items:
            if not part.first <= item <= part.last:
                continue
            first, last = part.byte_range(item, item)
            if of_job and first > end:
                jobs.append(ByteJob(part, start, end, tuple(of_job)))
                of_job = []
            if not of_job:
                start = first
            end = last
            of_job.append(item)
        if of_job:
            jobs.append(ByteJob(part, start, end, tuple(of_job)))
    return jobs


def read_job(store: ObjectStore, job: ByteJob, keep: int = KEEP_BYTES) -> list[FoundLine]:
    """Return the results of the job's items in its bytes; of large values at most ``keep`` bytes.

    Raises:
        ObjectDecodeError: a line is not a result.
        StorageError: raised by the store, also for a part that has been deleted.
    """
    found = []
    wanted, last = set(job.items), job.items[-1]
    pointer = job.part.pointer
    with closing(store.stream(pointer, job.start, job.end, block_bytes=BLOCK_BYTES)) as blocks:
        for raw in scan_lines(blocks, job.start):
            line = find_line(raw, pointer, keep)
            if line.item > last:
                break
            if line.item in wanted:
                found.append(line)
    return found


def final_by_item(lines: Iterable[FoundLine], branches: Sequence[str]) -> dict[int, list[FoundLine]]:
    """Return item -> the result that counts of each branch, by branch.

    Args:
        lines: results in the order in which they were written.
        branches: the branches' ids in their order; others follow, by name.
    """
    of_item: dict[int, list[FoundLine]] = {}
    for line in lines:
        of_item.setdefault(line.item, []).append(line)
    ranks = branch_ranks(branches)
    return {item: final_results(results, ranks) for item, results in of_item.items()}


def failed_results(
    store: ObjectStore, folder: OffloadLocation, parts: Sequence[StoredPart], branches: Sequence[str]
) -> Iterator[tuple[int, int, str, Any]]:
    """Yield item, offset, branch and error object of a chunk's failures, by item; reads all results.

    Raises:
        StorageError: raised by the store.
    """
    if len(parts) > 1:
        # A later part can have a success of what failed before.
        for result in read_results(store, folder, branches):
            if result.status is BranchStatus.FAILED:
                yield result.item, result.offset, result.branch, result.value()
        return
    for part in parts:
        with closing(store.stream(part.pointer, block_bytes=BLOCK_BYTES)) as blocks:
            for raw in scan_lines(blocks):
                # Before anything is decoded: most results are successes.
                if _FAILED in raw.data and (line := find_line(raw, part.pointer)).status == "failed":
                    yield line.item, line.offset, line.branch, error_of(line)


def error_of(line: FoundLine) -> Any:
    """Return the error object of a failure; a sentence in its place if the line has not all of it."""
    if line.is_whole:
        return msgspec.json.decode(line.value)
    return {"errorMessage": f"The error has {line.size} bytes: open the item to see it."}


def handed_on_line(item: int, result: BranchResult) -> FoundLine:
    """Return a result that a chunk handed on instead of storing it."""
    value = b""
    if result.status is not BranchStatus.SKIPPED:
        value = encode_value(result.output if result.error is None else result.error)
    details = (result.error or {}).get("errorDetails") or {}
    offset = offset_in(details)
    return FoundLine(
        item,
        -1 if offset is None else offset,
        result.branch_id,
        result.status.value,
        0,
        value,
        len(value),
    )
