"""The elements of one large JSON array, cut out of a stream of bytes without decoding it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from typing import Final

from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage.decoding import BOM, try_decode
from airflow_allma.storage.jsonl import MAX_LINE_BYTES, Line

__all__ = ["array_elements"]

_SPACE: Final = b" \t\r\n"
# Text that gives the array no shape, whole strings included, in one go: to the next bracket, the next comma
# between elements, or a quote whose string is not whole yet.
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_BETWEEN_ELEMENTS: Final = re.compile(rb'(?:[^",\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
_IN_ELEMENT: Final = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
_QUOTE, _COMMA, _CLOSING = b'",]'
_OPENERS: Final = b"[{"


def array_elements(
    blocks: Iterable[bytes], *, max_element_bytes: int = MAX_LINE_BYTES, source: str = "the object"
) -> Generator[Line, None, None]:
    """Cut a JSON array into its elements.

    Only brackets, commas and strings are looked at: what stands between two commas is handed on as it is, so
    an element that is not sound fails where it is decoded, not here. Memory is bounded by one element and one
    block.

    Args:
        blocks: the bytes of the array.
        max_element_bytes: the longest element that is accepted.
        source: names the object, for errors.

    Yields:
        Each element on one line, with the offset at which it begins in the array's text.

    Raises:
        ObjectDecodeError: it is no array, ends too early, has an empty place, goes on behind its end, or
            has an element that is too long. The message names the offset.
    """
    scanner = _Scanner(max_element_bytes, source)
    for block in blocks:
        yield from scanner.feed(block)
    scanner.finish()


class _Scanner:
    """Holds the text from the current element's beginning on."""

    def __init__(self, max_element_bytes: int, source: str) -> None:
        self._longest = max_element_bytes
        self._source = source
        self._text = b""
        self._offset = 0  # of the text's first byte
        self._scanned = 0  # in the text
        self._depth = 0
        self._elements = 0
        self._is_closed = False

    def feed(self, block: bytes) -> Generator[Line, None, None]:
        """Take a block; give the elements that it makes whole."""
        self._text += block
        if self._depth == 0 and not self._is_closed and not self._open():
            return
        if not self._is_closed:
            yield from self._scan()
        if self._is_closed:
            self._check_rest()
        elif len(self._text) > self._longest:
            raise self._error(0, f"an element is longer than {self._longest} bytes")

    def finish(self) -> None:
        """Check that the array was whole."""
        if not self._is_closed:
            raise self._error(len(self._text), "it ends before the array does: it was not written whole")

    def _open(self) -> bool:
        if self._offset == 0 and BOM.startswith(self._text[: len(BOM)]) and len(self._text) < len(BOM):
            return False
        if self._offset == 0:
            self._drop(len(BOM) if self._text.startswith(BOM) else 0)
        self._drop(len(self._text) - len(self._text.lstrip(_SPACE)))
        if not self._text:
            return False
        if self._text[:1] != b"[":
            raise self._error(0, "an array begins with '['")
        self._drop(1)
        self._depth = 1
        return True

    def _drop(self, count: int) -> None:
        self._text = self._text[count:]
        self._offset += count

    def _scan(self) -> Generator[Line, None, None]:
        text, depth, begin, at = self._text, self._depth, 0, self._scanned
        while True:
            plain = (_BETWEEN_ELEMENTS if depth == 1 else _IN_ELEMENT).match(text, at)
            at = plain.end() if plain else at
            kind = text[at] if at < len(text) else _QUOTE
            if kind == _QUOTE:
                break
            if kind == _COMMA:
                yield self._element(text, begin, at)
                begin = at + 1
            elif kind in _OPENERS:
                depth += 1
            else:
                depth -= 1
            at += 1
            if depth == 0:
                yield from self._close(text, begin, at - 1)
                begin = at
                break
        self._depth = depth
        self._drop(begin)
        self._scanned = at - begin

    def _close(self, text: bytes, begin: int, at: int) -> Generator[Line, None, None]:
        if text[at] != _CLOSING:
            raise self._error(at, "'}' closes no object here")
        # "[]" has no element, but "[1,]" has an empty one.
        if self._elements or text[begin:at].strip(_SPACE):
            yield self._element(text, begin, at)
        self._is_closed = True

    def _element(self, text: bytes, begin: int, end: int) -> Line:
        data = text[begin:end].lstrip(_SPACE)
        begin = end - len(data)
        data = data.rstrip(_SPACE)
        if not data:
            raise self._error(end, "a value is missing between two commas, or before the end")
        if len(data) > self._longest:
            raise self._error(begin, f"an element is longer than {self._longest} bytes")
        self._elements += 1
        return Line(self._offset + begin, _on_one_line(data))

    def _check_rest(self) -> None:
        rest = self._text.lstrip(_SPACE)
        if rest:
            raise self._error(
                len(self._text) - len(rest),
                "the array has ended, but the text goes on; name it *.jsonl if it holds one value a line",
            )
        self._drop(len(self._text))

    def _error(self, at: int, reason: str) -> ObjectDecodeError:
        return ObjectDecodeError(
            f"{self._source} is no sound JSON array: at byte {self._offset + at}, {reason}."
        )


def _on_one_line(data: bytes) -> bytes:
    if b"\n" not in data and b"\r" not in data:
        return data
    # In sound JSON a line break stands between tokens only, where a space means the same. In text that is not
    # sound the space could mend it by chance: a character that is allowed nowhere keeps it an error.
    filler = b" " if try_decode(data)[0] else b"\0"
    return data.replace(b"\r", filler).replace(b"\n", filler)
