"""The line about a fork's failed items, in the notes of its run and of the task that joins its results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlencode

from airflow_allma.common.printable import printable, shortened

__all__ = ["FORK_NOTE_KEY", "ForkNote", "items_url"]

FORK_NOTE_KEY: Final = "allma_fork_note"
"""The XCom with which a task tells the API server how many items of a fork failed."""

_MAX_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class ForkNote:
    """How many items of a fork failed.

    Attributes:
        fork: the fork's step id.
        items: its items.
        failed: those that failed.
    """

    fork: str
    items: int
    failed: int

    @classmethod
    def read(cls, saved: Any) -> Self | None:
        """Return what a task pushed; None if it is something else."""
        if not isinstance(saved, Mapping):
            return None
        fork, items, failed = (saved.get(name) for name in ("fork", "items", "failed"))
        if not isinstance(fork, str) or not isinstance(items, int) or not isinstance(failed, int):
            return None
        return cls(fork, items, failed)

    @property
    def _beginning(self) -> str:
        # In backticks: notes are shown as Markdown.
        name = shortened(printable(self.fork), _MAX_NAME).replace("`", "'")
        return f"Fork `{name}`: "

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches the line of the same fork that a note already has."""
        counts = r"([\d,]+ of [\d,]+ items failed|all [\d,]+ items succeeded)\."
        return re.compile(f"^{re.escape(self._beginning)}{counts}.*$", re.MULTILINE)

    def line(self, url: str) -> str:
        """Return the line: ``Fork `f`: 52 of 5,000 items failed. [Show them](https://...)``.

        Without failures, which is worth a line only after a rerun: ``Fork `f`: all 5,000 items succeeded.``
        """
        if not self.failed:
            return f"{self._beginning}all {self.items:,} items succeeded."
        return f"{self._beginning}{self.failed:,} of {self.items:,} items failed. [Show them]({url})"


def items_url(base: str, dag_id: str, run_id: str, fork: str) -> str:
    """Return the address of the page with a fork's items.

    Args:
        base: Airflow's address, such as ``https://airflow.example.com/path``; empty for an address on the
            same host.
        dag_id: the Dag.
        run_id: the run.
        fork: the fork's step id.
    """
    query = urlencode({"dag_id": dag_id, "run_id": run_id, "allma_fork": fork})
    return f"{base.rstrip('/')}/allma/ui?{query}"
