"""Results of a fork's chunks, written as a run would leave them, and a reader that looks at every line."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from airflow_allma.distributed.chunk_layout import ChunkFile, Part, PartKind, PartName, list_parts
from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec
from airflow_allma.distributed.result_format import decode_object
from airflow_allma.distributed.result_index import (
    ChunkIndex,
    ItemTrace,
    KindCount,
    PartIndex,
)
from airflow_allma.distributed.result_reader import read_results
from airflow_allma.distributed.result_writer import NewResult, ResultWriter
from airflow_allma.engine import BranchStatus
from airflow_allma.engine.failure_kinds import kind_of
from airflow_allma.exceptions import ObjectNotFoundError
from airflow_allma.inspection import ChunkState, ForkView
from airflow_allma.inspection.failure_entries import failure_line
from airflow_allma.storage import ManifestRange, MemoryStore, ObjectStore, OffloadLocation, Pointer
from airflow_allma.storage.manifest_ranges import ByteRange

RUN = OffloadLocation("b", "offload/dag/run")
MANIFEST = Pointer("b", "data/users.jsonl")
_STATUS = {"o": BranchStatus.OK, "f": BranchStatus.FAILED, "s": BranchStatus.SKIPPED}


def read_index(store: ObjectStore, chunk: OffloadLocation) -> ChunkIndex | None:
    """Return the index in the folder of a chunk; None if it has none."""
    pointer = ChunkFile.INDEX.pointer(chunk)
    try:
        data = store.read(pointer)
    except ObjectNotFoundError:
        return None
    return decode_object(data, ChunkIndex, str(pointer))


@dataclass
class StoredChunk:
    """What happened to the items of a chunk.

    Attributes:
        items: how many there are.
        tries: for each try the results as they ended: item, branch, status ("o", "f", "s").
        ends: "index", "summary" (an older version), "running" or "killed".
        part_results: results of a part.
    """

    items: int
    tries: Sequence[Sequence[tuple[int, str, str]]]
    ends: str = "index"
    part_results: int = 3
    counted: bool = True


def label(index: int) -> str:
    return f"u-{index:04d}"


def user(index: int) -> dict[str, Any]:
    return {"id": label(index), "note": "x" * (index % 7)}


def error(index: int) -> dict[str, Any]:
    return {
        "errorName": "Http" if index % 3 else "Timeout",
        "errorMessage": f"404 from https://example.com/users/u-{index} at Item {index}",
        "errorDetails": {"failedStepInstanceId": "fetch", "status": 404 if index % 3 else None},
        "isRetryable": False,
    }


def output(index: int, branch: str) -> dict[str, Any]:
    return {"greeting": f"hello {index} from {branch}"}


@dataclass
class StoredFork:
    """A fork that was written, and the view of it."""

    view: ForkView
    chunks: Sequence[StoredChunk]
    branches: Sequence[str]
    firsts: list[int] = field(default_factory=list)

    def naive(self) -> dict[int, dict[str, Any]]:
        """Return index -> branch -> result line, from a plain reading of everything."""
        found: dict[int, dict[str, Any]] = {}
        for number, first in enumerate(self.firsts):
            folder = self.view.folder(number)
            assert folder is not None
            for line in read_results(self.view.store, folder, list(self.branches)):
                found.setdefault(first + line.item, {})[line.branch] = line
        return found

    @property
    def items(self) -> int:
        return sum(chunk.items for chunk in self.chunks)


def write_fork(
    chunks: Sequence[StoredChunk],
    branches: Sequence[str] = ("main",),
    *,
    store: ObjectStore | None = None,
    handed_on: bool = True,
    **options: Any,
) -> StoredFork:
    """Write a manifest and the results of its chunks."""
    store = store or MemoryStore()
    lines = [
        json.dumps(user(index)).encode() + b"\n" for index in range(sum(chunk.items for chunk in chunks))
    ]
    info = store.write(MANIFEST, b"".join(lines))
    specs, states, firsts = [], {}, []
    first = offset = 0
    for number, chunk in enumerate(chunks):
        size = sum(map(len, lines[first : first + chunk.items]))
        # A line belongs to the range that has the byte before it.
        start, end = max(offset - 1, 0), max(offset + size - 1, 0)
        lines_of = ManifestRange(number, MANIFEST, info.etag, info.size, ByteRange(start, end))
        is_counted = chunk.counted
        specs.append(
            ChunkSpec(
                number,
                f"chunk {number}",
                first if is_counted else None,
                chunk.items if is_counted else None,
                lines_of,
            )
        )
        firsts.append(first)
        first += chunk.items
        offset += size
    plan = ChunkPlan(tuple(specs), None, "token", 8)
    view = ForkView("fork", plan, store, RUN, branches=branches, **options)
    for number, chunk in enumerate(chunks):
        failed = _write_chunk(view, specs[number], chunk, firsts[number], lines)
        state = {"running": "running", "killed": "failed"}.get(chunk.ends, "failed" if failed else "success")
        told: dict[str, Any] | None = None
        if handed_on and chunk.ends in {"index", "summary"}:
            told = {"number": number, "items": chunk.items}
            if chunk.ends == "index":
                told["failed"] = failed
        states[number] = ChunkState(state, told, f"1-{number}", map_index=number, tries=len(chunk.tries))
    return StoredFork(replace(view, chunks=states), chunks, branches, firsts)


def _write_chunk(view: ForkView, spec: ChunkSpec, chunk: StoredChunk, first: int, lines: list[bytes]) -> int:
    folder = view.folder(spec.number)
    assert folder is not None
    offsets = [sum(map(len, lines[:index])) for index in range(first, first + chunk.items)]
    for number, results in enumerate(chunk.tries):
        with ResultWriter(view.store, folder) as writer:
            for count, (item, branch, status) in enumerate(results):
                index = first + item
                value: dict[str, Any] = {}
                if status == "o":
                    value["output"] = output(index, branch)
                elif status == "f":
                    value["error"] = error(index)
                writer.add([NewResult(item, offsets[item], branch, _STATUS[status], **value)])
                if count % chunk.part_results == chunk.part_results - 1:
                    writer.flush()
        is_last = number == len(chunk.tries) - 1
        if chunk.ends == "index" or (not is_last and chunk.ends != "summary"):
            writer.finish(chunk.items)
            write_index(view.store, folder, chunk.items, first)
        elif chunk.ends == "summary":
            writer.finish(chunk.items)
    failed = (
        {line.item for line in read_results(view.store, folder) if line.status is BranchStatus.FAILED}
        if chunk.tries
        else set()
    )
    return len(failed)


def write_index(store: ObjectStore, folder: OffloadLocation, items: int, first: int) -> ChunkIndex:
    """Write the index of a chunk, its failures, labels and traces, from a plain reading of its results."""
    results = list(read_results(store, folder))
    failed = [line for line in results if line.status is BranchStatus.FAILED]
    parts = [_part_index(store, part) for part in list_parts(store, folder)]
    kinds: dict[str, KindCount] = {}
    for line in failed:
        kind = kind_of(line.value())
        before = kinds.get(kind.id)
        count, at = (1, line.item) if before is None else (before.count + 1, before.first)
        kinds[kind.id] = KindCount.of(kind, count, at)
    status = Counter(line.status for line in results)
    traces = []
    if failed:
        last = failed[-1].item
        name = PartName(PartKind.TRACES, len(parts), failed[0].item, last, len(failed), "abc")
        pointer = name.pointer(folder)
        body, marks = b"", []
        for line in failed:
            if not marks or marks[-1][0] != line.item:
                marks.append((line.item, len(body)))
            trace = ItemTrace(line.item, line.branch, line.status, [{"step": "fetch", "input": line.item}])
            body += msgspec.json.encode(trace) + b"\n"
        store.write(pointer, body)
        traces = [PartIndex(pointer.key, failed[0].item, last, len(failed), len(body), marks[1:])]
    index = ChunkIndex(
        items,
        status[BranchStatus.OK],
        status[BranchStatus.FAILED],
        status[BranchStatus.SKIPPED],
        parts,
        sorted(kinds.values(), key=lambda kind: -kind.count),
        len(failed),
        labels=True,
        traces=traces,
    )
    entries = [
        failure_line(line.item, line.branch, line.offset, line.value(), label(first + line.item))
        for line in failed
    ]
    store.write(
        ChunkFile.FAILURES.pointer(folder), b"".join(msgspec.json.encode(one) + b"\n" for one in entries)
    )
    labels = "".join(label(first + item) + "\n" for item in range(items))
    store.write(ChunkFile.LABELS.pointer(folder), gzip.compress(labels.encode()))
    store.write(ChunkFile.INDEX.pointer(folder), msgspec.json.encode(index))
    return index


def _part_index(store: ObjectStore, part: Part) -> PartIndex:
    data = store.read(part.info.pointer)
    marks, offset, last = [], 0, -1
    for count, line in enumerate(data.splitlines(keepends=True)):
        item = json.loads(line)["item"]
        if count % 2 and item != last:
            marks.append((item, offset))
        offset += len(line)
        last = item
    return PartIndex.of(part, marks)
