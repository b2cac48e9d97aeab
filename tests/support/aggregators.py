"""Functions that flows in tests name as CUSTOM_MODULE."""

from __future__ import annotations

from json import dumps
from typing import Any

from airflow_allma.exceptions import TransientStepError

__all__ = ["AsFunction", "busy", "dumps", "joined", "not_json", "raising"]


def joined(results: Any) -> str:
    """Statuses and outputs, one after the other."""
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
    """A class is no function."""
