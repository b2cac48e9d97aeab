"""The known name that is most similar to a misspelled one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

__all__ = ["nearest"]

_MAX_LENGTH: Final = 60
_MAX_COMPARED: Final = 500


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to ``name``, or None if none is similar enough.

    Case is ignored. The result does not depend on the order of ``known``.
    """
    # Comparing is quadratic in the length, and a name of that length is not a typing error.
    if len(name) > _MAX_LENGTH:
        return None
    names = list(known)
    if len(names) > _MAX_COMPARED:
        return None
    names.sort()
    by_folded = {candidate.casefold(): candidate for candidate in reversed(names)}
    matches = difflib.get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.65)
    return by_folded[matches[0]] if matches else None
