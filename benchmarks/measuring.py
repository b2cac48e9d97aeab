"""Timing, and what a benchmark reports."""

from __future__ import annotations

import gc
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any


@dataclass(frozen=True)
class Measure:
    """One figure, and what it is held against, in the same unit; ``ratio`` is value / reference."""

    value: float
    unit: str
    reference: float | None = None

    def as_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"value": round(self.value, 4), "unit": self.unit}
        if self.reference is not None:
            shown["reference"] = round(self.reference, 4)
            shown["ratio"] = round(self.value / self.reference, 4)
        return shown


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Median time of a few rounds, garbage collected before each."""
    times = []
    for _ in range(rounds):
        gc.collect()
        started = perf_counter()
        work()
        times.append(perf_counter() - started)
    return statistics.median(times)


def rate(call: Callable[[], object], count: int = 200_000) -> float:
    """Calls a second of something small, in a plain loop whose own cost is counted in."""

    def loop() -> None:
        for _ in range(count):
            call()

    return count / seconds(loop)


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), model)
    except OSError:
        pass
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version()}
