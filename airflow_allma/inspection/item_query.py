"""Which items a page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.exceptions import InspectionError

__all__ = ["MAX_LIMIT", "SHOWN", "ItemQuery", "page"]

SHOWN: Final = ("all", "failed", "succeeded", "running")
MAX_LIMIT: Final = 500
_MAX_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """Which items a page shows.

    Attributes:
        show: ``all``, ``failed``, ``succeeded`` or ``running``.
        kind: only failures of this kind.
        label: only items whose label contains this; ASCII letters match in either case.
        text: only items whose input or result contains this, in the same way; of failures: whose label, step,
            error name or message does.
        branch: only this branch.
        start: where the page begins: the ``next`` of the page before. It is the index of an item, or for
            failures and labels the number of hits before it.
        limit: rows at most; all branches of an item are on one page, so that there can be more.
        chunk: only items of the chunk with this number.

    Raises:
        InspectionError: at construction, if a value is not allowed.
    """

    show: str = "all"
    kind: str | None = None
    label: str | None = None
    text: str | None = None
    branch: str | None = None
    start: int = 0
    limit: int = 50
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.show not in SHOWN:
            raise InspectionError(f"show must be one of {', '.join(SHOWN)}; it is {self.show[:40]!r}.")
        if not 0 <= self.start < 1 << 53:
            raise InspectionError(f"start must not be negative; it is {self.start}.")
        if not 1 <= self.limit <= MAX_LIMIT:
            raise InspectionError(f"limit must be 1 to {MAX_LIMIT}; it is {self.limit}.")
        for name in ("label", "text"):
            value = getattr(self, name)
            if value is not None and len(value) > _MAX_TEXT:
                raise InspectionError(f"{name} must have at most {_MAX_TEXT} characters.")

    @property
    def is_of_failures(self) -> bool:
        """Whether it shows failures only."""
        return self.show == "failed" or bool(self.kind)

    def fits(self, row: dict[str, Any]) -> bool:
        """Return whether a row has the status that is asked for."""
        if self.branch and row["branch"] not in {self.branch, None}:
            return False
        if self.show == "all":
            return True
        if self.show == "running":
            return row["status"] in {"running", "waiting"}
        status: str = row["status"]
        return status == ("ok" if self.show == "succeeded" else "failed")


def page(
    rows: Sequence[dict[str, Any]],
    *,
    total: int | None,
    is_exact: bool,
    next_start: int | None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a page as JSON.

    Args:
        rows: its rows.
        total: how many items (of all) or rows there are; None if unknown.
        is_exact: whether that is exact.
        next_start: where the next page begins; None at the end.
        notes: what the user should know, in sentences.
    """
    return {
        "rows": list(rows),
        "total": total,
        "isExact": is_exact,
        "next": next_start,
        "note": " ".join(dict.fromkeys(notes)) or None,
    }
