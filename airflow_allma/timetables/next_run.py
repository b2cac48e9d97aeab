"""Which run of a schedule is the next one, by Airflow's rules of catching up."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Protocol

__all__ = ["Schedule", "next_run"]

_TICK: Final = timedelta(microseconds=1)


class Schedule(Protocol):
    """Fires at some times."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time that is later than a moment, in UTC; None: there is none."""

    def latest_until(self, moment: datetime) -> datetime | None:
        """The last time that is not later than a moment, in UTC; None: there is none."""


def next_run(
    schedule: Schedule,
    *,
    last: datetime | None,
    earliest: datetime | None,
    latest: datetime | None,
    catchup: bool,
    now: datetime,
) -> datetime | None:
    """The time of the next run, which may have passed already.

    With catching up that is the next after the last run. Without, all but the latest one of those that were
    missed are left out.

    Args:
        schedule: when it fires.
        last: the time of the last run; None: there was none.
        earliest: no run before it; None: no run before now, if there was none at all.
        latest: no run after it.
        catchup: make up for runs that were missed.
        now: the time now.
    """
    if last is not None:
        found = schedule.next_after(last)
    else:
        found = schedule.next_after((now if earliest is None else earliest) - _TICK)
    if found is None:
        return None
    if not catchup:
        found = max(found, schedule.latest_until(now) or found)
    if earliest is not None and found < earliest:
        found = schedule.next_after(earliest - _TICK)
    return None if found is None or (latest is not None and found > latest) else found
