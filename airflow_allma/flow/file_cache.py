"""Flow files that were read before and have not changed since."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from airflow_allma.flow.checks import FlowChecks
from airflow_allma.flow.discovery import FoundFile, Stamp
from airflow_allma.flow.files import LoadedFile, load_file

__all__ = ["FileCache"]

_MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(slots=True)
class FileCache:
    """Reads files, once as long as they do not change. Flows are immutable, so they can be shared.

    Attributes:
        checks: what is checked in each file beyond the flow language.
    """

    checks: FlowChecks = field(default_factory=FlowChecks)
    _known: dict[str, tuple[Stamp, LoadedFile]] = field(default_factory=dict)
    _bytes: int = 0

    def load(self, file: FoundFile) -> LoadedFile:
        """Return what a file contains; read it again only if it has changed."""
        stamp = file.stamp
        known = self._known.get(file.path)
        if known is not None and known[0] == stamp:
            return known[1]
        now = time.time_ns()
        loaded = load_file(file.path, self.checks)
        if stamp is not None and stamp.is_settled(now):
            self._bytes += stamp.size
            if self._bytes > _MAX_BYTES:
                self._known.clear()
                self._bytes = stamp.size
            self._known[file.path] = (stamp, loaded)
        return loaded
