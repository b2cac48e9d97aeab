"""The next run of a schedule by Airflow's catchup rules."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Protocol

__all__ = ["Schedule", "next_run"]

_TICK: Final = timedelta(microseconds=1)


class Schedule(Protocol):
    """A schedule that fires at certain times."""

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first time later than ``moment`` in UTC, or None."""

    def latest_until(self, moment: datetime) -> datetime | None:
        """Return the last time not later than ``moment`` in UTC, or None."""


def next_run(
    schedule: Schedule,
    *,
    last: datetime | None,
    earliest: datetime | None,
    latest: datetime | None,
    catchup: bool,
    now: datetime,
) -> datetime | None:
    """Return the time of the next run, which can be in the past, or None.

    With catchup this is the first time after the last run. Without catchup, only the latest of the missed
    runs is made up for.

    Args:
        schedule: when to fire.
        last: the time of the last run; None if there was none.
        earliest: no run is earlier; None: the first run is not earlier than now.
        latest: no run is later; None: no limit.
        catchup: whether to make up for all missed runs.
        now: the current time.
    """
    if last is not None:
        candidate = schedule.next_after(last)
    else:
        candidate = schedule.next_after((now if earliest is None else earliest) - _TICK)
    if candidate is None:
        return None
    if not catchup:
        candidate = max(candidate, schedule.latest_until(now) or candidate)
    if earliest is not None and candidate < earliest:
        candidate = schedule.next_after(earliest - _TICK)
    return None if candidate is None or (latest is not None and candidate > latest) else candidate
