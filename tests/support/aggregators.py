"""Custom aggregation functions (CUSTOM_MODULE) of flows in tests."""

from __future__ import annotations

from json import dumps
from typing import Any

from airflow_allma.exceptions import TransientStepError

__all__ = [
    "SEEN",
    "AsFunction",
    "busy",
    "counting",
    "demanding",
    "dumps",
    "first_only",
    "joined",
    "not_json",
    "raising",
    "swallowing",
]


def joined(results: Any) -> str:
    """Return statuses and outputs, one after the other."""
    return " ".join(
        f"{one['itemIndex']}.{one['branchIndex']}:{one.get('status', 'ok')}:{one.get('output')}"
        for one in results
    )


def raising(results: Any) -> Any:
    raise RuntimeError(f"no {len(list(results))}")


def busy(results: Any) -> Any:
    raise TransientStepError("come back later")


def not_json(results: Any) -> Any:
    return results


class AsFunction:
    """A class, which is not accepted as a function."""


def first_only(results: Any) -> Any:
    """Return the first output, without reading the rest."""
    return next(results)["output"]


def swallowing(results: Any) -> str:
    """Treat any exception as the end of the results."""
    seen = ""
    try:
        for one in results:
            seen += str(one.get("output"))
    except Exception:  # noqa: BLE001 - as a careless function would
        seen += "!"
    SEEN.append(seen)
    return seen


def demanding(results: Any) -> int:
    """Return the sum of the outputs; fail at a result without one."""
    return sum(one["output"] for one in results)


SEEN: list[str] = []


def counting(results: Any) -> int:
    """Return the number of results."""
    return sum(1 for _ in results)
