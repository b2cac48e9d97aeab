"""Finding an array inside of a large JSON document, as a stream, without decoding what is before it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from itertools import chain
from typing import Final

import msgspec

from airflow_allma.common.printable import printable
from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage.decoding import BOM
from airflow_allma.storage.json_array import array_elements
from airflow_allma.storage.jsonl import MAX_LINE_BYTES, Line
from airflow_allma.storage.waiting_blocks import WaitingBlocks

__all__ = ["member_elements"]

_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_TOKEN: Final = re.compile(
    rb"[ \t\r\n]*+(?:(" + _STRING + rb')|([\[\]{}:,])|([^\s"\[\]{}:,]++)(?=[\s"\[\]{}:,]))', re.DOTALL
)
"""A string, a mark, or a number or word whose end is in the same block."""
_INSIDE: Final = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
"""Everything that does not change the depth."""


def member_elements(
    blocks: Iterable[bytes],
    keys: Sequence[str],
    *,
    max_element_bytes: int = MAX_LINE_BYTES,
    source: str = "the object",
) -> Generator[Line, None, None]:
    """Split the array at a path of a JSON document into its elements.

    What is before the array is scanned for its structure only, what follows it is not read. Of a name that
    an object has twice, the first one counts. Memory is bounded by one block and one element or name.

    Args:
        blocks: the bytes of the document.
        keys: the path: names of members, and indexes of elements as text.
        max_element_bytes: the longest element that is accepted.
        source: names the object in errors.

    Yields:
        Each element on one line, with the offset at which it begins in the object.

    Raises:
        ObjectDecodeError: nothing is at the path, or it is no array; the document is invalid up to the
            array, or the array itself is; an element or name is too long.
    """
    iterator = iter(blocks)
    finder = _Finder(keys, max_element_bytes, source)
    rest = next((rest for block in iterator if (rest := finder.feed(block)) is not None), None)
    if rest is None and (rest := finder.finish()) is None:
        raise finder.missing("the document ends before it: it is cut off, or not JSON")
    yield from array_elements(
        chain((rest,), iterator),
        max_element_bytes=max_element_bytes,
        source=source,
        offset=finder.offset,
        is_whole=False,
    )


class _Finder:
    """The state between two blocks: where in the document the scan is, and how much of the path it matches.

    ``_matched`` keys of the path lead to the container in which the scan is. ``_depth`` counts containers
    below that one, which are skipped.
    """

    def __init__(self, keys: Sequence[str], max_bytes: int, source: str) -> None:
        self.offset = 0
        self._keys = keys
        self._max_bytes = max_bytes
        self._source = source
        self._data = b""
        self._waiting = WaitingBlocks()
        self._matched = -1
        self._depth = 0
        self._in_array = False
        self._index = 0
        self._is_wanted = True
        self._expects_name = False

    def feed(self, block: bytes) -> bytes | None:
        """Take a block; return the bytes from the array on once its beginning is found."""
        data = self._waiting.take(self._data, block)
        return None if data is None else self._feed(data)

    def finish(self) -> bytes | None:
        """Return the same at the end of the document."""
        return self._feed(self._waiting.rest(self._data))

    def _feed(self, data: bytes) -> bytes | None:
        self._data = data
        if self.offset == 0 and self._matched < 0:
            if len(self._data) < len(BOM) and BOM.startswith(self._data):
                return None
            if self._data.startswith(BOM):
                self._drop(len(BOM))
        at = 0
        while True:
            if self._depth:
                at = self._skip(at)
                if self._depth:
                    break
            token = _TOKEN.match(self._data, at)
            if token is None:
                break
            if self._take(*token.groups()):
                self._drop(token.end() - 1)
                return self._data
            at = token.end()
        self._drop(at)
        if len(self._data) > self._max_bytes:
            raise ObjectDecodeError(
                f"{self._source}: the value at byte {self.offset} is longer than {self._max_bytes} bytes."
            )
        return None

    def _take(self, string: bytes | None, mark: bytes | None, _: bytes | None) -> bool:
        """Take a token: a string, a mark, or another value; return whether it begins the array."""
        if mark in {b"[", b"{"}:
            return self._open(is_array=mark == b"[")
        if mark in {b"]", b"}"}:
            raise self.missing(f"there is no {printable(self._keys[self._matched][:80])!r}")
        if mark == b",":
            self._next()
        elif mark is None and self._expects_name and string is not None:
            self._is_wanted = self._name(string) == self._keys[self._matched]
            self._expects_name = False
        elif mark is None and self._is_wanted:
            raise self.missing("what is there is no array")
        return False

    def _open(self, *, is_array: bool) -> bool:
        """Begin a container; return whether it is the array."""
        if not self._is_wanted:
            self._depth = 1
        elif self._matched + 1 < len(self._keys):
            self._enter(is_array=is_array)
        elif not is_array:
            raise self.missing("what is there is an object, not an array")
        else:
            return True
        return False

    def missing(self, reason: str) -> ObjectDecodeError:
        path = printable(".".join(["$", *self._keys])[:200])
        return ObjectDecodeError(
            f"{self._source} has no array at {path} (itemReader.itemsAt): near byte {self.offset}, {reason}."
        )

    def _enter(self, *, is_array: bool) -> None:
        self._matched += 1
        self._in_array = is_array
        self._index = 0
        self._expects_name = not is_array
        self._is_wanted = is_array and self._keys[self._matched] == "0"

    def _next(self) -> None:
        """Go to the next member or element of the container."""
        self._expects_name = not self._in_array
        if self._in_array:
            self._index += 1
        self._is_wanted = self._in_array and self._keys[self._matched] == str(self._index)

    def _skip(self, at: int) -> int:
        """Skip containers; return where the data has to be scanned next."""
        data = self._data
        while self._depth:
            inside = _INSIDE.match(data, at)
            at = inside.end() if inside else at
            if at >= len(data) or data[at] == ord('"'):
                # The rest is a string that is not complete yet, or nothing.
                return at
            self._depth += 1 if data[at] in b"[{" else -1
            at += 1
        return at

    def _name(self, string: bytes) -> str:
        try:
            return msgspec.json.decode(string, type=str)
        except msgspec.DecodeError as error:
            raise ObjectDecodeError(
                f"{self._source} is not valid JSON near byte {self.offset}: {error}."
            ) from error

    def _drop(self, count: int) -> None:
        self._data = self._data[count:]
        self.offset += count
