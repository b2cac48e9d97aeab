"""When a fork began and ended, how fast it runs, and how long it still takes."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["fork_progress"]

_MIN_SECONDS: Final = 1e-3
"""A fork that has just begun has a speed, too."""


def fork_progress(
    *, start: float | None, end: float | None, now: float, is_running: bool, ended: int, items: int | None
) -> dict[str, Any]:
    """Return the fields ``start``, ``end``, ``isRunning``, ``perSecond`` and ``secondsLeft`` of a summary.

    Args:
        start: when the first item began, in seconds since the epoch; None if none has.
        end: when the last one ended; None if some have not.
        now: the time, in seconds since the epoch.
        is_running: whether items can still end.
        ended: how many items have ended.
        items: how many there are; None if that is not known.
    """
    speed = None
    if start is not None and ended:
        speed = ended / max((now if end is None else end) - start, _MIN_SECONDS)
    seconds_left = None
    if speed is not None and items is not None and is_running:
        seconds_left = round(max(items - ended, 0) / speed, 1)
    return {
        "start": start,
        "end": end,
        "isRunning": is_running,
        "perSecond": None if speed is None else round(speed, 2),
        "secondsLeft": seconds_left,
    }
