"""The progress of a chunk, for its log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

from airflow_allma.distributed.chunk_plan import ChunkSpec
from airflow_allma.distributed.failure_report import Failures

__all__ = ["Progress"]

_COUNTS: Final = ("items", "reused", "ended", "offset")
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE


class Progress:
    """The progress of a chunk.

    Args:
        chunk: the chunk.
        clock: returns seconds; tests pass their own.

    Attributes:
        items: items that were read.
        reused: how many of them had results from an earlier try.
        ended: items that ran to their end.
        waiting: branch runs that wait for events.
        failures: how many failed, and the first of them.
        offset: where the last item that was read begins, in bytes.
    """

    def __init__(self, chunk: ChunkSpec, clock: Callable[[], float] = monotonic) -> None:
        self._chunk = chunk
        self._clock = clock
        self._started = clock()
        self.items = 0
        self.reused = 0
        self.ended = 0
        self._ended_before = 0
        self.waiting = 0
        self.failures = Failures()
        self.offset = 0

    def __str__(self) -> str:
        """Return a line like ``1,200 of 5,000 items done (24%), 3 failed, 410 items/s, about 9 s left``."""
        seconds = max(self._clock() - self._started, 1e-9)
        done, share = self.reused + self.ended, self._share()
        total = "" if self._chunk.count is None else f" of {self._chunk.count:,}"
        parts = [f"{done:,}{total} items done ({share:.0%})"]
        if self.reused:
            parts.append(f"{self.reused:,} of them by an earlier try")
        if self.waiting:
            parts.append(f"{self.waiting:,} waiting for events")
        parts += [
            f"{self.failures.items:,} failed",
            f"{_rounded((self.ended - self._ended_before) / seconds)} items/s",
        ]
        if 0 < share < 1 and not self.waiting:
            parts.append(f"about {_duration(seconds * (1 - share) / share)} left")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as a JSON object, for ``restore``."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return {**counts, "failures": self.failures.to_dict()}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Continue with the counts that ``to_dict`` returned."""
        for name in _COUNTS:
            setattr(self, name, saved[name])
        self._ended_before = self.ended
        self.failures.restore(saved["failures"])

    def _share(self) -> float:
        if self._chunk.count is not None:
            return (self.reused + self.ended) / max(self._chunk.count, 1)
        if self._chunk.manifest is None:
            return 0.0
        span = self._chunk.manifest.range
        return min(max(self.offset - span.start, 0) / max(span.end - span.start, 1), 1.0)


def _rounded(rate: float) -> str:
    return f"{rate:,.1f}" if rate < 10 else f"{rate:,.0f}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
