"""All results of a fork, or those of one status, as JSON Lines."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Final

import msgspec

from airflow_allma.distributed.final_results import branch_ranks
from airflow_allma.distributed.result_reader import error_with_index, read_results
from airflow_allma.engine import BranchStatus
from airflow_allma.engine.readers import count_items, is_counted_by_range
from airflow_allma.exceptions import InspectionError, ItemNotFoundError, ObjectNotFoundError, StorageError
from airflow_allma.inspection.chunk_reader import ChunkReader
from airflow_allma.inspection.deleted_results import gone_sentence, has_lost_all
from airflow_allma.inspection.fork_reader import ForkReader
from airflow_allma.inspection.fork_view import ForkView

__all__ = ["download"]

_SHOWN: Final = {"all": None, "failed": BranchStatus.FAILED, "succeeded": BranchStatus.OK}
_BLOCK_BYTES: Final = 512 << 10
"""Each block takes a thread of the API server once: small ones would be slow."""

_encode = msgspec.json.encode


def download(view: ForkView, show: str = "all") -> Generator[bytes, None, None]:
    """Yield blocks of JSON Lines, one line for each branch run that has ended, by item, then by branch.

    A line is ``{"itemIndex", "label"?, "branch", "status", "output" or "error"}``. One chunk is read at a
    time. What cannot be read is a line ``{"problem": sentence}``, since a download that has begun has no
    other way to say it. Values are as they were stored: they are the flow's data, and
    nothing is masked that was not masked when an error was made.

    Args:
        view: the fork.
        show: ``all``, ``failed`` or ``succeeded``.

    Raises:
        InspectionError: it is something else.
        ItemNotFoundError: chunks have ended, and none has a stored result: there is nothing to begin with.
        StorageError: the store cannot be read.
    """
    if show not in _SHOWN:
        raise InspectionError(f"show must be one of {', '.join(_SHOWN)}; it is {show[:40]!r}.")
    if has_lost_all(view):
        raise ItemNotFoundError(gone_sentence(view))
    return _blocks(view, _SHOWN[show])


def _blocks(view: ForkView, status: BranchStatus | None) -> Generator[bytes, None, None]:
    reader = ForkReader(view)
    block = bytearray()
    first: int | None = 0
    for number, spec in enumerate(view.plan.chunks):
        # A reader of its own for each chunk: what it has read is not needed for the next one.
        chunk = reader.further_reader(number)
        first = spec.first if spec.first is not None else first
        try:
            for line in _lines(reader, chunk, status, first):
                block += line
                if len(block) >= _BLOCK_BYTES:
                    yield bytes(block)
                    block.clear()
            first = _next_first(view, chunk, first)
        except StorageError as error:
            sentence = f"Results of chunk {chunk.number} are missing here: {error}"
            block += _encode({"problem": sentence}) + b"\n"
            first = None
    if block:
        yield bytes(block)


def _next_first(view: ForkView, chunk: ChunkReader, first: int | None) -> int | None:
    items = chunk.items
    lines = chunk.spec.manifest
    if items is None and lines is not None and not chunk.counts.is_final and is_counted_by_range(lines):
        items = count_items(view.store, lines)
    return None if items is None or first is None else first + items


def _lines(
    reader: ForkReader, chunk: ChunkReader, status: BranchStatus | None, first: int | None
) -> Iterator[bytes]:
    counts = chunk.counts
    if counts.is_final and not _count_of(chunk, status):
        return
    if chunk.is_missing:
        raise ObjectNotFoundError(
            "they were deleted from the offload location. Clear the chunk to run its items again."
        )
    # A line is put together from bytes: decoding and encoding values would take most of the time.
    moved_by = first if chunk.spec.first is None else None
    for item, middle, value in _results(reader, chunk, status, moved_by):
        index = b"null" if first is None else b"%d" % (first + item)
        label = chunk.label(item)
        name = b"" if label is None else b',"label":' + _encode(label)
        yield b"".join((b'{"itemIndex":', index, name, middle, value, b"}\n"))


class _Middles(dict[str, bytes]):
    """What is between the label and the value of a line, by branch.

    Args:
        status: how the branch runs ended.
        name: the name of their value; None if they have none.
    """

    def __init__(self, status: BranchStatus, name: str | None) -> None:
        super().__init__()
        self._status = status
        self._name = name

    def __missing__(self, branch: str) -> bytes:
        middle = b',"branch":%b,"status":%b' % (_encode(branch), _encode(self._status))
        if self._name is not None:
            middle += b',"%b":' % self._name.encode()
        self[branch] = middle
        return middle


def _count_of(chunk: ChunkReader, status: BranchStatus | None) -> int:
    counts = chunk.counts
    if status is None:
        return 1
    return (counts.failed if status is BranchStatus.FAILED else counts.succeeded) or 0


def _results(
    reader: ForkReader, chunk: ChunkReader, status: BranchStatus | None, moved_by: int | None
) -> Iterator[tuple[int, bytes, bytes | memoryview]]:
    """Yield item, what is before its value in a line, and the encoded value of the results that count.

    Args:
        reader: the fork.
        chunk: the chunk.
        status: the only status that is yielded; None: all.
        moved_by: the index of the chunk's first item, if its errors do not know it; None: they do.
    """
    view = reader.view
    of_ok = _Middles(BranchStatus.OK, "output")
    of_failed = _Middles(BranchStatus.FAILED, "error")
    if chunk.inline is not None:
        of_skipped = _Middles(BranchStatus.SKIPPED, None)
        by_status = {"ok": of_ok, "failed": of_failed, "skipped": of_skipped}
        found = chunk.inline_results([line.item for line in chunk.inline])
        for line in (line for lines in found.values() for line in lines):
            if status is None or line.status == status.value:
                value = line.value if line.status != "failed" else _moved(line.value, line.item, moved_by)
                yield line.item, by_status[line.status][line.branch], value
        return
    folder = view.folder(chunk.number)
    if folder is None or not chunk.files.parts:
        return
    if status is BranchStatus.FAILED:
        ranks = branch_ranks(view.branches)
        for item, of_item in groupby(chunk.failed_results(), key=itemgetter(0)):
            # They are stored in the order in which they ended.
            for _, _, branch, error in sorted(of_item, key=lambda result: ranks.get(result[2], len(ranks))):
                moved = error if moved_by is None else error_with_index(error, moved_by + item)
                yield item, of_failed[branch], _encode(moved)
        return
    for result in read_results(view.store, folder, list(view.branches)):
        ended = result.status
        if status is not None and ended is not status:
            continue
        if ended is BranchStatus.OK and result.output is not msgspec.UNSET:
            yield result.item, of_ok[result.branch], memoryview(result.output)
        elif ended is BranchStatus.FAILED and result.error is not msgspec.UNSET:
            yield result.item, of_failed[result.branch], _moved(result.error, result.item, moved_by)
        else:
            yield result.item, _Middles(ended, None)[result.branch], b""


def _moved(error: bytes | msgspec.Raw, item: int, moved_by: int | None) -> bytes | memoryview:
    """Return an encoded error with its item's index among all items."""
    if moved_by is None:
        return memoryview(error)
    return _encode(error_with_index(msgspec.json.decode(error), moved_by + item))
