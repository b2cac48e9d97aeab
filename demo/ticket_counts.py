"""The aggregation of the demo's ticket flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["count_tickets"]


def count_tickets(results: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many tickets each category has, how many are urgent, and how many each model classified.

    Args:
        results: those of the fork's branch runs; failed ones have an error in place of an output.
    """
    categories: Counter[str] = Counter()
    models: Counter[str] = Counter()
    urgent = failed = 0
    for result in results:
        output = result.get("output")
        if output is None:
            failed += 1
            continue
        categories[output["category"]] += 1
        models[output["model"]] += 1
        urgent += output["urgent"] is True
    return {
        "categories": dict(sorted(categories.items())),
        "urgent": urgent,
        "models": dict(sorted(models.items())),
        "failed": failed,
    }
