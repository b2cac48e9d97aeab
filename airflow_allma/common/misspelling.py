"""Finds the known name that another name misspells.

Stricter than ``nearest``: for names that can be right although nothing known has them, such as the keys of a
payload.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Final

__all__ = ["SpellingIndex", "differ_in_one_letter"]

_MIN_LENGTH: Final = 5
_MIN_LENGTH_OF_OTHER_LETTER: Final = 7
_MAX_LENGTH: Final = 60


class SpellingIndex:
    """Known names that can be looked up by a misspelling of them.

    A misspelling differs in the case of letters, or in one letter: missing, doubled, swapped with its
    neighbor, or another one. Names that differ in a digit, in other characters or in their last letters
    (``item1`` and ``item2``, ``user`` and ``users``) are different names. So are short ones.

    Args:
        known: the known names.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = {
            name.casefold(): name
            for name in sorted(known, reverse=True)
            if _MIN_LENGTH <= len(name) <= _MAX_LENGTH
        }

    @cached_property
    def _by_shortened(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        for folded in self._known:
            for shortened in _without_one_letter(folded):
                index.setdefault(shortened, []).append(folded)
        return index

    def find(self, name: str) -> str | None:
        """Return the known name that ``name`` misspells; None without one, or if ``name`` is known itself."""
        if not _MIN_LENGTH - 1 <= len(name) <= _MAX_LENGTH:
            return None
        folded = name.casefold()
        if folded in self._known:
            return self._known[folded] if self._known[folded] != name else None
        near = {
            candidate
            for shortened in _without_one_letter(folded)
            for candidate in self._by_shortened.get(shortened, ())
            if _is_misspelling(folded, candidate)
        }
        return self._known[min(near)] if near else None


def differ_in_one_letter(name: str, other: str) -> bool:
    """Return whether a letter is another one, or is missing in one of the two names."""
    if len(name) == len(other):
        return sum(a != b for a, b in zip(name, other, strict=True)) == 1
    short, long = sorted((name, other), key=len)
    return len(long) - len(short) == 1 and short in _without_one_letter(long)


def _without_one_letter(name: str) -> Iterator[str]:
    yield name
    for index in range(len(name)):
        yield name[:index] + name[index + 1 :]


def _is_misspelling(name: str, known: str) -> bool:
    if name.startswith(known) or known.startswith(name):
        return False
    start = next(index for index, (a, b) in enumerate(zip(name, known, strict=False)) if a != b)
    end = 0
    while end < min(len(name), len(known)) - start and name[-1 - end] == known[-1 - end]:
        end += 1
    differing, expected = name[start : len(name) - end], known[start : len(known) - end]
    if not (differing + expected).isalpha():
        return False
    if len(differing) == len(expected) == 1:
        # Another letter makes other words of short names (date, data), or at the end (order1, ordered).
        return end > 0 and len(known) >= _MIN_LENGTH_OF_OTHER_LETTER
    if len(differing) == len(expected):
        return len(differing) == 2 and differing == expected[::-1]
    return abs(len(differing) - len(expected)) == 1 and min(len(differing), len(expected)) == 0
