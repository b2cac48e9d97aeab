"""Identifiers: what a flow may call its steps, and what Airflow may be told."""

from __future__ import annotations

import hashlib
import re
import unicodedata

__all__ = ["MAX_ID_LENGTH", "MAX_KEY_LENGTH", "problem_with_id", "safe_id"]

MAX_ID_LENGTH = 200
"""Longest id that a flow, a step or a branch may have, in characters."""

MAX_KEY_LENGTH = 250
"""Longest key that Airflow takes."""

_HASH_LENGTH = 10
_SAFE = re.compile(r"[A-Za-z0-9_-]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
# A changed id ends like this, so an id that ends like this of itself must change too.
_LOOKS_CHANGED = re.compile(r"--[0-9a-f]{10}\Z")


def problem_with_id(text: str) -> str | None:
    """What is wrong with an id of a flow, a step or a branch, as a sentence, or None if nothing is.

    Letters, digits, space and punctuation of any script are fine. Airflow sees an id of ASCII letters,
    digits, ``_`` and ``-`` as it is, any other as ``safe_id`` makes it.
    """
    if not text:
        return "an id must not be empty"
    if len(text) > MAX_ID_LENGTH:
        return f"an id may have {MAX_ID_LENGTH} characters at most; this one has {len(text)}"
    for char in text:
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            return (
                f"an id must not hold control characters (here U+{ord(char):04X}); "
                "use letters, digits, `_` and `-`"
            )
    if text != text.strip():
        return "an id must not begin or end with a space; remove it"
    return None


def safe_id(text: str, limit: int = MAX_KEY_LENGTH) -> str:
    """An id as Airflow takes it: ASCII letters, digits, ``_`` and ``-``; no dots, which join task groups.

    Different texts give different ids: what has to be changed ends with a hash of the whole text. The same
    text gives the same id always.

    Args:
        text: any text.
        limit: the longest id wanted, at least 16.
    """
    if _SAFE.fullmatch(text) and len(text) <= limit and not _LOOKS_CHANGED.search(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    kept = _UNSAFE.sub("_", text)[: limit - _HASH_LENGTH - 2]
    return f"{kept}--{digest}"
