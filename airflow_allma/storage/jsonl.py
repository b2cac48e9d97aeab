r"""Reading the lines of a JSON Lines object, or of one chunk of it, as a stream.

Lines end in ``\n`` or ``\r\n``; the last one may end without. Blank lines are no lines. A byte order
mark at the very start is skipped. Lines are cut at bytes, so characters that lie across two blocks or
chunks stay whole.

All of it works on blocks: a block is split at once, and only the line that lies across two blocks is put
together.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import accumulate, count
from operator import add
from typing import Final, NamedTuple

from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage.base import BLOCK_BYTES, ObjectStore
from airflow_allma.storage.decoding import BOM
from airflow_allma.storage.manifest_ranges import ManifestRange
from airflow_allma.storage.pointers import Pointer

__all__ = [
    "MAX_LINE_BYTES",
    "Line",
    "LineBatch",
    "batch_lines",
    "read_line_batches",
    "read_lines",
    "split_lines",
]

MAX_LINE_BYTES: Final = 16 << 20
"""A longer line is refused, unless the caller says otherwise."""

# Most lines end this soon behind a chunk's end: one request brings the chunk and the rest of its last line.
_OVERLAP_BYTES: Final = 32 << 10


class Line(NamedTuple):
    """One line of an object: ``object[offset : offset + len(data)] == data``.

    Attributes:
        offset: where it begins, in bytes.
        data: the line without its line break.
    """

    offset: int
    data: bytes


class LineBatch(NamedTuple):
    """Some lines in a row, as two lists of one length: cheaper than many small objects.

    Attributes:
        offsets: where each line begins, in bytes.
        lines: the lines without their line breaks.
    """

    offsets: list[int]
    lines: list[bytes]


def read_lines(
    store: ObjectStore,
    source: ManifestRange | Pointer,
    *,
    max_line_bytes: int = MAX_LINE_BYTES,
    block_bytes: int = BLOCK_BYTES,
) -> Generator[Line, None, None]:
    """The lines of a chunk, or of a whole object, in order.

    Memory is bounded by ``block_bytes`` and ``max_line_bytes``. Close the generator when it is not exhausted.

    Args:
        store: where the object lies.
        source: a planned chunk, every read of which is conditional on its ETag; or an object, which is pinned
            to the ETag that it has now.
        max_line_bytes: the longest line that is accepted.
        block_bytes: how much to ask the store for at a time.

    Raises:
        ObjectChangedError: the object is not the planned one any more.
        ObjectDecodeError: a line is longer than ``max_line_bytes``; the message names its offset.
        StorageError: the store's own.
    """
    with closing(
        read_line_batches(store, source, max_line_bytes=max_line_bytes, block_bytes=block_bytes)
    ) as batches:
        for batch in batches:
            yield from map(Line, batch.offsets, batch.lines)


def read_line_batches(
    store: ObjectStore,
    source: ManifestRange | Pointer,
    *,
    max_line_bytes: int = MAX_LINE_BYTES,
    block_bytes: int = BLOCK_BYTES,
) -> Generator[LineBatch, None, None]:
    """The same lines in batches, one a block: for loops that count every microsecond. No batch is empty.

    Raises:
        StorageError: as ``read_lines``.
    """
    chunk = ManifestRange.whole(store.head(source)) if isinstance(source, Pointer) else source
    with closing(_blocks(store, chunk, block_bytes)) as blocks:
        yield from split_lines(
            blocks,
            start=chunk.range.start,
            end=chunk.range.end,
            max_line_bytes=max_line_bytes,
            source=str(chunk.pointer),
        )


def _blocks(store: ObjectStore, chunk: ManifestRange, block_bytes: int) -> Generator[bytes, None, None]:
    """The object's blocks from the chunk's start to the object's end; the reader stops when it has enough."""
    start, end = chunk.range.start, min(chunk.size, chunk.range.end + _OVERLAP_BYTES)
    ahead = _OVERLAP_BYTES
    while start < end:
        with closing(
            store.stream(chunk.pointer, start, end, if_match=chunk.etag, block_bytes=block_bytes)
        ) as blocks:
            yield from blocks
        # The last line goes on: ask for ever more, since nobody knows how long it is.
        ahead = min(ahead * 4, 8 * block_bytes)
        start, end = end, min(chunk.size, end + ahead)


def split_lines(
    blocks: Iterable[bytes],
    *,
    start: int = 0,
    end: int | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
    source: str = "the object",
) -> Generator[LineBatch, None, None]:
    """Cut blocks into the lines that begin in ``(start, end]``, and at byte 0.

    Args:
        blocks: the bytes from ``start`` on; they may go on behind ``end``, and are left there as soon as
            the last line is whole.
        start: offset of the first byte.
        end: offset behind the chunk's last byte, or None to take every line.
        max_line_bytes: the longest line that is accepted.
        source: names the object, for the error.

    Raises:
        ObjectDecodeError: a line is too long.
    """
    # `position` is where the line in `pieces` begins.
    position, stream = _first_line(iter(blocks), start, end)
    if start == 0 and end is not None:
        # The byte order mark belongs to the first line, which is owned with byte 0 by the shortest chunk too.
        end = max(end, position)
    pieces: list[bytes] = []
    waiting = 0
    for block in stream:
        newline = block.find(b"\n")
        waiting += len(block) if newline < 0 else newline
        if waiting > max_line_bytes:
            raise _too_long(position, max_line_bytes, source)
        pieces.append(block)
        if newline < 0:
            continue
        text = b"".join(pieces)
        lines = text.split(b"\n")
        rest = lines.pop()
        if len(text) > max_line_bytes:
            _check_lengths(lines, position, max_line_bytes, source)
        if batch := _batch(lines, position, end, has_returns=b"\r" in text):
            yield batch
        position += len(text) - len(rest)
        if end is not None and position > end:
            return
        pieces, waiting = ([rest], len(rest)) if rest else ([], 0)
    last = b"".join(pieces)
    if last and (batch := _batch([last], position, end, has_returns=True)):
        yield batch


def batch_lines(lines: Iterable[Line]) -> Generator[LineBatch, None, None]:
    """Collect single lines in batches of about a block's size. No batch is empty."""
    batch, size = LineBatch([], []), 0
    for offset, data in lines:
        batch.offsets.append(offset)
        batch.lines.append(data)
        size += len(data)
        if size >= BLOCK_BYTES:
            yield batch
            batch, size = LineBatch([], []), 0
    if batch.lines:
        yield batch


def _first_line(blocks: Iterator[bytes], start: int, end: int | None) -> tuple[int, Iterator[bytes]]:
    """Where the first line of a chunk begins, and the blocks from there."""
    if start == 0:
        first = b""
        while len(first) < len(BOM) and (block := next(blocks, b"")):
            first += block
        position = len(BOM) if first.startswith(BOM) else 0
        return position, _chain(first[position:], blocks)
    position = start
    for block in blocks:
        newline = block.find(b"\n")
        if newline >= 0:
            position += newline + 1
            if end is not None and position > end:
                break
            return position, _chain(block[newline + 1 :], blocks)
        position += len(block)
        if end is not None and position >= end:
            break
    return position, iter(())


def _chain(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from blocks


def _batch(lines: list[bytes], position: int, end: int | None, *, has_returns: bool) -> LineBatch | None:
    """Lines that follow each other from ``position`` on, up to the last one that belongs here."""
    # One call over a list costs a fraction of one step of a loop: splitting must stay far below decoding.
    offsets = list(map(add, accumulate(map(len, lines[:-1]), initial=position), count()))
    if end is not None and offsets[-1] > end:
        kept = bisect_right(offsets, end)
        del offsets[kept:], lines[kept:]
    if has_returns:
        lines = [line.removesuffix(b"\r") for line in lines]
    if b"" in lines or any(map(bytes.isspace, lines)):
        pairs = [(offset, line) for offset, line in zip(offsets, lines, strict=True) if line.strip()]
        offsets, lines = [offset for offset, _ in pairs], [line for _, line in pairs]
    return LineBatch(offsets, lines) if lines else None


def _check_lengths(lines: list[bytes], position: int, max_line_bytes: int, source: str) -> None:
    for line in lines:
        if len(line) > max_line_bytes:
            raise _too_long(position, max_line_bytes, source)
        position += len(line) + 1


def _too_long(offset: int, max_line_bytes: int, source: str) -> ObjectDecodeError:
    return ObjectDecodeError(
        f"The line at byte {offset} of {source} is longer than {max_line_bytes} bytes. "
        "Is it JSON Lines, one value a line? Put a large value into an object of its own, behind a pointer."
    )
