r"""Reading the lines of a JSON Lines object, or of one range of it, as a stream.

Lines end in ``\n`` or ``\r\n``; the last one need not. Blank lines are skipped, as is a byte order mark at
the very start. Lines are split as bytes, so a character that extends over two blocks or ranges stays intact.

All of this works on blocks: a block is split at once, and only the line that extends over two blocks is
joined.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import accumulate, count
from operator import add
from typing import Final, NamedTuple

from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage.decoding import BOM
from airflow_allma.storage.manifest_ranges import ManifestRange
from airflow_allma.storage.object_store import BLOCK_BYTES, ObjectStore
from airflow_allma.storage.pointer import Pointer

__all__ = [
    "MAX_LINE_BYTES",
    "Line",
    "LineBatch",
    "batch_lines",
    "read_line_batches",
    "split_lines",
]

MAX_LINE_BYTES: Final = 16 << 20
"""Longer lines are rejected, unless the caller sets another limit."""

# Most lines end this soon after a range's end: one request reads the range and the rest of its last line.
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
    """Consecutive lines, as two lists of the same length: cheaper than many small objects.

    Attributes:
        offsets: where each line begins, in bytes.
        lines: the lines without their line breaks.
    """

    offsets: list[int]
    lines: list[bytes]


def read_line_batches(
    store: ObjectStore,
    source: ManifestRange | Pointer,
    *,
    max_line_bytes: int = MAX_LINE_BYTES,
    block_bytes: int = BLOCK_BYTES,
) -> Generator[LineBatch, None, None]:
    """Read the lines of a range, or of a whole object, in order and in batches of one block each.

    No batch is empty. Memory is bounded by ``block_bytes`` and ``max_line_bytes``. Close the generator if it
    is not exhausted.

    Args:
        store: holds the object.
        source: a planned range, whose reads are all conditional on its ETag; or an object, which is pinned
            to its current ETag.
        max_line_bytes: the longest line that is accepted.
        block_bytes: how much to request from the store at once.

    Raises:
        ObjectChangedError: the object has changed since it was planned.
        ObjectDecodeError: a line is longer than ``max_line_bytes``; the message names its offset.
        StorageError: the store's own.
    """
    planned = ManifestRange.whole(store.head(source)) if isinstance(source, Pointer) else source
    with closing(_blocks(store, planned, block_bytes)) as blocks:
        yield from split_lines(
            blocks,
            start=planned.range.start,
            end=planned.range.end,
            max_line_bytes=max_line_bytes,
            source=str(planned.pointer),
        )


def _blocks(store: ObjectStore, planned: ManifestRange, block_bytes: int) -> Generator[bytes, None, None]:
    """Yield the blocks from the range's start to the object's end; the reader stops when it has enough."""
    start, end = planned.range.start, min(planned.size, planned.range.end + _OVERLAP_BYTES)
    ahead = _OVERLAP_BYTES
    while start < end:
        with closing(
            store.stream(planned.pointer, start, end, if_match=planned.etag, block_bytes=block_bytes)
        ) as blocks:
            yield from blocks
        # The last line continues: request more each time, since its length is unknown.
        ahead = min(ahead * 4, 8 * block_bytes)
        start, end = end, min(planned.size, end + ahead)


def split_lines(
    blocks: Iterable[bytes],
    *,
    start: int = 0,
    end: int | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
    source: str = "the object",
) -> Generator[LineBatch, None, None]:
    """Split blocks into the lines that begin in ``(start, end]``, and at byte 0.

    Args:
        blocks: the bytes from ``start`` on; they can continue after ``end``, and are read no further than to
            the end of the last line.
        start: offset of the first byte.
        end: offset after the range's last byte, or None to read every line.
        max_line_bytes: the longest line that is accepted.
        source: names the object in errors.

    Raises:
        ObjectDecodeError: a line is too long.
    """
    # `position` is where the line in `pieces` begins.
    position, stream = _first_line(iter(blocks), start, end)
    if start == 0 and end is not None:
        # The byte order mark belongs to the first line, which even the shortest range owns with byte 0.
        end = max(end, position)
    pieces: list[bytes] = []
    waiting = 0
    for block in stream:
        if not pieces and block.isspace():
            # Nothing but blank lines: a gzip of a few kilobytes can contain gigabytes of them.
            breaks = block.rfind(b"\n") + 1
            position += breaks
            if end is not None and position > end:
                return
            block = block[breaks:]  # noqa: PLW2901
            if not block:
                continue
        newline = block.find(b"\n")
        waiting += len(block) if newline < 0 else newline
        if waiting > max_line_bytes:
            raise _too_long(position, max_line_bytes, source)
        pieces.append(block)
        if newline < 0:
            continue
        data = b"".join(pieces)
        lines = data.split(b"\n")
        rest = lines.pop()
        if len(data) > max_line_bytes:
            _check_lengths(lines, position, max_line_bytes, source)
        if batch := _batch(lines, position, end, has_returns=b"\r" in data):
            yield batch
        position += len(data) - len(rest)
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
    """Return where the first line of a range begins, and the blocks from there."""
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
    """Return consecutive lines from ``position`` on, up to the last one that begins before or on ``end``."""
    # One call for a whole list costs a fraction of a loop: splitting must cost much less than decoding.
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
        "Check that it is JSON Lines, one value per line. Put a large value into its own object, and a "
        "pointer to that into the line."
    )
