"""Strings that fit into boxes, by an estimate of their width in a proportional font."""

from __future__ import annotations

import unicodedata
from typing import Final

from airflow_allma.common.printable import printable, shortened

__all__ = ["DETAIL_SIZE", "TITLE_SIZE", "bounded", "fit", "text_width"]

TITLE_SIZE: Final = 13
DETAIL_SIZE: Final = 11
"""Font sizes in pixels."""

_MAX_LENGTH: Final = 200
_NARROW: Final = frozenset("iljtf.,:;'|!I()[]{}/ ")
_WIDE: Final = frozenset("mwMWQGOD@%&")


def bounded(text: str) -> str:
    """Return a string for a title: without control characters or line breaks, at most 200 characters."""
    return shortened(printable(" ".join(text[: 4 * _MAX_LENGTH].split())), _MAX_LENGTH)


def text_width(text: str, size: int) -> int:
    """Return the width of a string in pixels, rather more than less."""
    return -int(-sum(map(_ems, text)) * size // 1)


def _ems(char: str) -> float:
    if char in _NARROW:
        return 0.36
    if char in _WIDE:
        return 0.95
    if char.isascii():
        return 0.66 if char.isupper() else 0.6
    if unicodedata.east_asian_width(char) in "WF":
        return 1.1
    return 0.0 if unicodedata.combining(char) else 0.72


def fit(text: str, size: int, width: int) -> str:
    """Return a string that is at most ``width`` pixels wide; an ellipsis shows that it was cut."""
    used, limit = 0.0, width / size - 1.0
    for index, char in enumerate(text):
        used += _ems(char)
        if used > limit and text_width(text, size) > width:
            return text[:index].rstrip() + "…"
    return text
