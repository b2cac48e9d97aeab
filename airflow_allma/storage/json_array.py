"""Splitting one large JSON array, as a stream of bytes, into its elements without decoding it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from typing import Final

from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage.decoding import BOM, is_json
from airflow_allma.storage.jsonl import MAX_LINE_BYTES, Line
from airflow_allma.storage.waiting_blocks import WaitingBlocks

__all__ = ["array_elements"]

_SPACE: Final = b" \t\r\n"
# Bytes that do not matter for the array's structure, complete strings included, in one match: up to the next
# bracket, the next comma between elements, or a quote whose string is not complete yet.
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_BETWEEN_ELEMENTS: Final = re.compile(rb'(?:[^",\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
_IN_ELEMENT: Final = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
_QUOTE, _COMMA, _CLOSING = b'",]'
_OPENERS: Final = b"[{"


def array_elements(
    blocks: Iterable[bytes],
    *,
    max_element_bytes: int = MAX_LINE_BYTES,
    source: str = "the object",
    offset: int = 0,
    is_whole: bool = True,
) -> Generator[Line, None, None]:
    """Split a JSON array into its elements.

    Only brackets, commas and strings are parsed: what is between two commas is passed on unchanged, so an
    invalid element fails where it is decoded, not here. Memory is bounded by one element and one block.

    Args:
        blocks: the bytes of the array.
        max_element_bytes: the longest element that is accepted.
        source: names the object in errors.
        offset: of the first byte in the object.
        is_whole: whether the array is the whole object; if not, what follows it is not read.

    Yields:
        Each element on one line, with the offset at which it begins in the object.

    Raises:
        ObjectDecodeError: it is not an array, is cut off, lacks a value between two commas, is followed by
            something else, or has an element that is too long. The message names the offset.
    """
    scanner = _Scanner(max_element_bytes, source, offset, is_whole=is_whole)
    for block in blocks:
        yield from scanner.feed(block)
        if not is_whole and scanner.is_closed:
            return
    yield from scanner.finish()


class _Scanner:
    """The state between two blocks: keeps the bytes from the current element's beginning on."""

    def __init__(self, max_element_bytes: int, source: str, offset: int, *, is_whole: bool) -> None:
        self.is_closed = False
        self._max_bytes = max_element_bytes
        self._source = source
        self._is_whole = is_whole
        self._data = b""
        self._waiting = WaitingBlocks()
        self._offset = offset  # of the first byte of the data
        self._scanned = 0  # bytes of the data
        self._depth = 0
        self._elements = 0

    def feed(self, block: bytes) -> Generator[Line, None, None]:
        """Take a block; yield elements that are complete, unless more of a long one is awaited."""
        data = self._waiting.take(self._data, block)
        if data is not None:
            yield from self._feed(data)

    def _feed(self, data: bytes) -> Generator[Line, None, None]:
        self._data = data
        if self._depth == 0 and not self.is_closed and not self._open():
            return
        if not self.is_closed:
            yield from self._scan()
        if self.is_closed:
            if self._is_whole:
                self._check_rest()
        elif len(self._data) > self._max_bytes:
            raise self._error(0, f"an element is longer than {self._max_bytes} bytes")

    def finish(self) -> Generator[Line, None, None]:
        """Yield the last elements; check that the array was complete."""
        yield from self._feed(self._waiting.rest(self._data))
        if not self.is_closed:
            raise self._error(len(self._data), "the object ends before the array does: it is cut off")

    def _open(self) -> bool:
        if self._offset == 0 and BOM.startswith(self._data[: len(BOM)]) and len(self._data) < len(BOM):
            return False
        if self._offset == 0:
            self._drop(len(BOM) if self._data.startswith(BOM) else 0)
        self._drop(len(self._data) - len(self._data.lstrip(_SPACE)))
        if not self._data:
            return False
        if self._data[:1] != b"[":
            raise self._error(0, "an array must begin with '['")
        self._drop(1)
        self._depth = 1
        return True

    def _drop(self, count: int) -> None:
        self._data = self._data[count:]
        self._offset += count

    def _scan(self) -> Generator[Line, None, None]:
        data, depth, begin, at = self._data, self._depth, 0, self._scanned
        while True:
            plain = (_BETWEEN_ELEMENTS if depth == 1 else _IN_ELEMENT).match(data, at)
            at = plain.end() if plain else at
            kind = data[at] if at < len(data) else _QUOTE
            if kind == _QUOTE:
                break
            if kind == _COMMA:
                yield self._element(data, begin, at)
                begin = at + 1
            elif kind in _OPENERS:
                depth += 1
            else:
                depth -= 1
            at += 1
            if depth == 0:
                yield from self._close(data, begin, at - 1)
                begin = at
                break
        self._depth = depth
        self._drop(begin)
        self._scanned = at - begin

    def _close(self, data: bytes, begin: int, at: int) -> Generator[Line, None, None]:
        if data[at] != _CLOSING:
            raise self._error(at, "'}' does not close an object")
        # "[]" has no element, but "[1,]" has an empty one.
        if self._elements or data[begin:at].strip(_SPACE):
            yield self._element(data, begin, at)
        self.is_closed = True

    def _element(self, data: bytes, begin: int, end: int) -> Line:
        element = data[begin:end].lstrip(_SPACE)
        begin = end - len(element)
        element = element.rstrip(_SPACE)
        if not element:
            raise self._error(end, "a value is missing between two commas, or before the end")
        if len(element) > self._max_bytes:
            raise self._error(begin, f"an element is longer than {self._max_bytes} bytes")
        self._elements += 1
        return Line(self._offset + begin, _on_one_line(element))

    def _check_rest(self) -> None:
        rest = self._data.lstrip(_SPACE)
        if rest:
            raise self._error(
                len(self._data) - len(rest),
                "the array is followed by more content; name the object *.jsonl if it has one value per line",
            )
        self._drop(len(self._data))

    def _error(self, at: int, reason: str) -> ObjectDecodeError:
        return ObjectDecodeError(
            f"{self._source} is not a valid JSON array: at byte {self._offset + at}, {reason}."
        )


def _on_one_line(element: bytes) -> bytes:
    if element.startswith(BOM):
        # Not valid in an array, but where the first element becomes the first line of an object, it would be.
        element = b"\0" + element
    if b"\n" not in element and b"\r" not in element:
        return element
    # In valid JSON a line break is only between tokens, where a space means the same. In an invalid element a
    # space could make it valid by chance: a character that is never allowed keeps it an error.
    filler = b" " if is_json(element) else b"\0"
    return element.replace(b"\r", filler).replace(b"\n", filler)
