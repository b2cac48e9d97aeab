"""Whether JSON contains a text that people search for."""

from __future__ import annotations

import json
import re
from typing import Final

__all__ = ["SearchText"]

# Possessive: a string is never read twice, and the last one may be cut off.
_STRING: Final = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+"?)', re.DOTALL)
_SPACE: Final = b" \t\r\n"
# Bytes that no JSON has, so that a comma between values differs from one in a string.
_MARKS: Final = bytes.maketrans(b":,", b"\x00\x01")
_SEPARATORS: Final = re.compile(rb"[:,\s]+")
# Space that separates words, as in a string: no JSON has it between its values.
_WORD_SPACE: Final = re.compile(rb'(?:^|[^:,{}\[\]"\s])\s+(?:[^:,{}\[\]"\s]|$)')


class SearchText:
    """A text to search for in JSON; ASCII letters match in either case.

    JSON contains the text if one of its strings does, or if the JSON itself does, whatever space is
    between its values: ``"a": "b"`` is in ``{"a":"b"}``.

    Args:
        text: what to search for.
    """

    def __init__(self, text: str) -> None:
        self._escaped = json.dumps(text, ensure_ascii=False)[1:-1].encode(errors="replace").lower()
        raw = text.encode(errors="replace").lower()
        # It may begin between values or in a string.
        marked = {_between_values(raw), _marked(b'"' + raw)[1:]} if re.search(rb'[":,{}\[\]]', raw) else ()
        self._marked = [one for one in marked if one]
        self._pieces = [piece for piece in _SEPARATORS.split(raw) if piece]

    def may_be_in(self, data: bytes) -> bool:
        """Return whether JSON that is part of this data can contain the text: a fast check."""
        lowered = data.lower()
        return self._escaped in lowered or (bool(self._marked) and self._has_pieces(lowered))

    def is_in(self, data: bytes) -> bool:
        """Return whether a JSON value, whose end may be cut off, contains the text; in linear time."""
        lowered = data.lower()
        if self._escaped in lowered:
            return True
        if not self._marked or not self._has_pieces(lowered):
            return False
        compact = _marked(lowered)
        return any(one in compact for one in self._marked)

    def _has_pieces(self, lowered: bytes) -> bool:
        return all(piece in lowered for piece in self._pieces)


def _marked(data: bytes) -> bytes:
    """Return JSON without space between its values, and with the marks as its separators."""
    parts = _STRING.split(data)
    parts[::2] = [part.translate(_MARKS, _SPACE) for part in parts[::2]]
    return b"".join(parts)


def _between_values(text: bytes) -> bytes:
    """Return a text that begins between values as it is in marked JSON; empty if it is no JSON."""
    outside = b'""'.join(_STRING.split(text)[::2])
    return b"" if _WORD_SPACE.search(outside) else _marked(text)
