"""Lines of stored results, read without holding large ones in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from airflow_allma.distributed.result_format import ResultLine
from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage import Pointer

__all__ = ["KEEP_BYTES", "FoundLine", "RawLine", "find_line", "scan_lines"]

KEEP_BYTES: Final = 1 << 20
"""Of a longer line only its beginning is kept, and its end."""
_TAIL_BYTES: Final = 64

_HEAD: Final = re.compile(
    rb'\{"item":(\d+),"offset":(\d+),"branch":("(?:[^"\\]|\\.)*"),"status":"(ok|failed|skipped)"'
    rb'(?:,"generation":(\d+))?(?:,"(?:output|error)":)?'
)
"""How a result's line begins, in the order in which it is written."""
_TAIL: Final = re.compile(rb',"generation":(\d+)\}\Z')
"""How the line of a result with a generation ends. No output or error ends so: it would not be complete."""

_decode = msgspec.json.Decoder(ResultLine).decode


class RawLine(NamedTuple):
    """A line, or the beginning and end of a long one.

    Attributes:
        start: where it begins, in bytes.
        length: its bytes, without the line break.
        data: its first ``keep`` bytes; all of it unless it is longer.
        tail: the last bytes of a line that is longer, otherwise empty.
    """

    start: int
    length: int
    data: bytes
    tail: bytes = b""

    @property
    def is_whole(self) -> bool:
        """Whether ``data`` is the whole line."""
        return self.length == len(self.data)


def scan_lines(blocks: Iterable[bytes], start: int = 0, keep: int = KEEP_BYTES) -> Iterator[RawLine]:
    """Yield the lines of a stream; memory is bounded by a block and ``keep``.

    Args:
        blocks: the bytes from ``start`` on, which is the beginning of a line.
        start: where they begin in the object.
        keep: how many bytes of a line are kept.
    """
    # The unfinished line: its beginning, its length so far, and its last bytes.
    head, length, tail = bytearray(), 0, b""
    for block in blocks:
        at = 0
        while (newline := block.find(b"\n", at)) >= 0:
            if not length:
                size = newline - at
                if size <= keep:
                    yield RawLine(start, size, block[at:newline])
                else:
                    yield RawLine(start, size, block[at : at + keep], block[newline - _TAIL_BYTES : newline])
            else:
                head += block[at : min(newline, at + max(keep - length, 0))]
                tail = (tail + block[max(at, newline - _TAIL_BYTES) : newline])[-_TAIL_BYTES:]
                size = length + newline - at
                yield RawLine(start, size, bytes(head), tail if size > keep else b"")
                head, length, tail = bytearray(), 0, b""
            start += size + 1
            at = newline + 1
        if at < len(block):
            head += block[at : at + max(keep - length, 0)]
            tail = (tail + block[max(at, len(block) - _TAIL_BYTES) :])[-_TAIL_BYTES:]
            length += len(block) - at
    if length:
        yield RawLine(start, length, bytes(head), tail if length > keep else b"")


class FoundLine(NamedTuple):
    """The result of one branch run, and where its value is.

    Attributes:
        item: the item's index in the chunk, from 0.
        offset: where the item's line begins in the manifest, in bytes.
        branch: the branch's id.
        status: ``ok``, ``failed`` or ``skipped``.
        generation: the selection with which it ran.
        value: the JSON of its output or error; the beginning of a large one; empty for a skipped one.
        size: bytes of the whole JSON.
        part: the object that holds it; None for results that are not stored in one.
        start: where the JSON begins in that object, in bytes.
    """

    item: int
    offset: int
    branch: str
    status: str
    generation: int
    value: bytes
    size: int
    part: Pointer | None = None
    start: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether ``value`` is all of the JSON."""
        return len(self.value) == self.size


def find_line(line: RawLine, part: Pointer, keep: int = KEEP_BYTES) -> FoundLine:
    """Return the result that a line of a part states; of a large value at most ``keep`` bytes.

    Raises:
        ObjectDecodeError: it is not a result.
    """
    data = line.data
    head = _HEAD.match(data)
    if head is None:
        return _decoded(line, part)
    item, offset, branch, status, generation = head.groups()
    end = line.length - 1
    tail = _TAIL.search(line.tail or data[-_TAIL_BYTES:])
    if tail is not None:
        generation = tail[1]
        end = line.length - len(tail[0])
    start = head.end()
    size = max(end - start, 0)
    return FoundLine(
        int(item),
        int(offset),
        msgspec.json.decode(branch, type=str),
        status.decode(),
        int(generation or 0),
        data[start : start + min(size, keep)],
        size,
        part,
        line.start + start,
    )


def _decoded(line: RawLine, part: Pointer) -> FoundLine:
    """Return the result of a line whose fields have another order."""
    try:
        found = _decode(line.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ObjectDecodeError(
            f"The line at byte {line.start} of {part} is not a result: {error}."
        ) from error
    encoded = found.output if found.is_ok else found.error
    value = b"" if isinstance(encoded, msgspec.UnsetType) else bytes(encoded)
    start = max(line.data.find(value), 0)
    return FoundLine(
        found.item,
        found.offset,
        found.branch,
        found.status.value,
        found.generation,
        value,
        len(value),
        part,
        line.start + start,
    )
