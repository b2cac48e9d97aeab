"""The parts of several files that a process has read, to say where an item is without reading again."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from airflow_allma.engine.readers.file_parts import FilePart
from airflow_allma.engine.readers.format_reader import range_format
from airflow_allma.storage import ManifestRange

__all__ = ["KnownParts", "known_parts", "remember_parts"]

_MAX_RANGES: Final = 8
_MAX_STREAMED: Final = 10_000
"""Parts of a stream that are kept at least, and half of those that are kept at most."""

_ranges: OrderedDict[tuple[object, ...], KnownParts] = OrderedDict()
_lock: Final = threading.Lock()


class KnownParts:
    """The parts of one range of a list of files, or the last ones of a stream of files.

    Args:
        parts: in order.
    """

    def __init__(self, parts: Iterable[FilePart] = ()) -> None:
        self.parts = list(parts)
        self._begins = [part.begin for part in self.parts]
        self._formats: dict[int, str] = {}
        # Places are asked for by the thread that runs the items, while another one reads.
        self._lock = threading.Lock()

    def track(self, parts: Iterable[FilePart]) -> Iterator[FilePart]:
        """Yield parts; the last ones are known from then on."""
        for part in parts:
            with self._lock:
                self.parts.append(part)
                self._begins.append(part.begin)
                if len(self.parts) > 2 * _MAX_STREAMED:
                    self._forget()
            yield part

    def at(self, offset: int) -> tuple[FilePart, str | None] | None:
        """Return the part with an item, or another one of its file, and the format if it is known.

        None: the part is not known, or not any more.
        """
        with self._lock:
            number = bisect_right(self._begins, offset) - 1
            if number < 0:
                return None
            part = self.parts[number]
            return part, self._formats.get(part.begin) if part.is_whole else range_format(part.lines)

    def note_format(self, part: FilePart, name: str) -> None:
        """Remember the format of a file that is read as a stream."""
        with self._lock:
            self._formats[part.begin] = name

    def _forget(self) -> None:
        for begin in self._begins[:_MAX_STREAMED]:
            self._formats.pop(begin, None)
        del self.parts[:_MAX_STREAMED], self._begins[:_MAX_STREAMED]


def remember_parts(lines: ManifestRange, parts: Sequence[FilePart]) -> KnownParts:
    """Keep the parts of a range; those of a few ranges are kept."""
    known = KnownParts(parts)
    with _lock:
        _ranges[_key(lines)] = known
        while len(_ranges) > _MAX_RANGES:
            _ranges.popitem(last=False)
    return known


def known_parts(lines: ManifestRange) -> KnownParts | None:
    """Return the parts of a range, if this process has read them."""
    with _lock:
        return _ranges.get(_key(lines))


def _key(lines: ManifestRange) -> tuple[object, ...]:
    return lines.pointer, lines.etag, lines.range
