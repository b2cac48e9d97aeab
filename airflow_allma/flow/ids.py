"""Ids that a flow can have, and ids made of them that Airflow accepts."""

from __future__ import annotations

import hashlib
import re
import unicodedata

__all__ = ["FLOW_TAG", "MAX_ID_LENGTH", "MAX_KEY_LENGTH", "problem_with_id", "safe_dag_id", "safe_id"]

MAX_ID_LENGTH = 200
"""Maximum length of the id of a flow, a step or a branch, in characters."""

MAX_KEY_LENGTH = 250
"""Maximum length of a key in Airflow, in characters."""

FLOW_TAG = "allma"
"""The tag that the Dag of every flow has."""

_MAX_DAG_ID_LENGTH = 200
_HASH_LENGTH = 10
_SAFE = re.compile(r"[A-Za-z0-9_-]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
# A changed id ends like this, so an id that already ends like this must change too.
_LOOKS_CHANGED = re.compile(r"--[0-9a-f]{10}\Z")


def problem_with_id(flow_id: str) -> str | None:
    """Return what is wrong with an id of a flow, a step or a branch, as a sentence; None if nothing is.

    Letters, digits, space and punctuation of any script are fine. Airflow sees an id of ASCII letters,
    digits, ``_`` and ``-`` unchanged, any other as ``safe_id`` makes it.
    """
    if not flow_id:
        return "an id must not be empty"
    if len(flow_id) > MAX_ID_LENGTH:
        return f"an id can have at most {MAX_ID_LENGTH} characters; this one has {len(flow_id)}"
    for char in flow_id:
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            return (
                f"an id must not contain control characters (here U+{ord(char):04X}); "
                "use letters, digits, `_` and `-`"
            )
    if flow_id != flow_id.strip():
        return "an id must not begin or end with a space; remove it"
    return None


def safe_id(wanted: str, limit: int = MAX_KEY_LENGTH) -> str:
    """Return an id that Airflow accepts: ASCII letters, digits, ``_`` and ``-``; no dots, which join groups.

    Different strings result in different ids: a changed id ends with a hash of the whole string. The
    same string always results in the same id.

    Args:
        wanted: any string.
        limit: the maximum length, at least 16.
    """
    if _SAFE.fullmatch(wanted) and len(wanted) <= limit and not _LOOKS_CHANGED.search(wanted):
        return wanted
    digest = hashlib.sha256(wanted.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    kept = _UNSAFE.sub("_", wanted)[: limit - _HASH_LENGTH - 2]
    return f"{kept}--{digest}"


def safe_dag_id(flow_id: str) -> str:
    """Return the id of a flow's Dag: the flow's own where Airflow accepts it."""
    return safe_id(flow_id, _MAX_DAG_ID_LENGTH)
