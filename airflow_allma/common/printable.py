"""Strings from outside, made fit for logs, terminals, web pages and databases."""

from __future__ import annotations

import unicodedata
from typing import Final

__all__ = ["printable", "shortened", "unprintable"]

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode: control and format characters, lone surrogates, line and paragraph separators.

They end lines in logs, steer terminals (ESC), and change the order in which text is shown (U+202E).
PostgreSQL stores no U+0000, and UTF-8 has no surrogates.
"""

_JOINERS: Final = "\u200c\u200d"
"""Format characters that words of Persian and Hindi, and many emoji, consist of."""

_GAP: Final = "..."


def unprintable(text: str, allowed: str = "") -> str | None:
    """Return the first character of a string that should not be shown as it is; None if there is none.

    Args:
        text: any string.
        allowed: control characters that are fine here, such as a line feed.
    """
    if text.isprintable():  # faster than looking at each character, and true for nearly all strings
        return None
    return next((char for char in text if _is_hidden(char, allowed)), None)


def printable(text: str, allowed: str = "") -> str:
    r"""Return a string with escapes such as ``\x1b`` for the characters that ``unprintable`` finds."""
    if unprintable(text, allowed) is None:
        return text
    return "".join(repr(char)[1:-1] if _is_hidden(char, allowed) else char for char in text)


def shortened(text: str, limit: int) -> str:
    """Return a string, shortened to ``limit`` characters: only its beginning and end are kept.

    Args:
        text: any string.
        limit: in characters, at least 10.
    """
    if len(text) <= limit:
        return text
    head = (limit - len(_GAP)) * 2 // 3
    tail = limit - len(_GAP) - head
    return f"{text[:head]}{_GAP}{text[-tail:]}"


def _is_hidden(char: str, allowed: str) -> bool:
    return unicodedata.category(char) in _HIDDEN and char not in allowed and char not in _JOINERS
