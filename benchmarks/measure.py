"""Timing functions, and the measures that a benchmark reports."""

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
    """A value and an optional reference in the same unit; the reported ``ratio`` is value / reference."""

    value: float
    unit: str
    reference: float | None = None

    def as_dict(self) -> dict[str, Any]:
        report: dict[str, Any] = {"value": round(self.value, 4), "unit": self.unit}
        if self.reference is not None:
            report["reference"] = round(self.reference, 4)
            report["ratio"] = round(self.value / self.reference, 4)
        return report


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Return the median time of some rounds, with a garbage collection before each."""
    times = []
    for _ in range(rounds):
        gc.collect()
        started = perf_counter()
        work()
        times.append(perf_counter() - started)
    return statistics.median(times)


def rate(call: Callable[[], object], count: int = 200_000) -> float:
    """Return calls per second of a short function, including the cost of the loop around it."""

    def loop() -> None:
        for _ in range(count):
            call()

    return count / seconds(loop)


def peak_memory() -> float:
    """Return the peak memory of this process in MB; ``ru_maxrss`` would include the parent's before exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), model)
    except OSError:
        pass
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version()}
