"""Progress output of the demo: each stage and its duration."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Stages:
    """A printer of stages, to `out`, as they begin and end."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._begin = time.monotonic()

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Print the title when the stage begins, and its duration when it is done."""
        begin = time.monotonic()
        self.say(f"==> {title}")
        yield
        self.say(f"    done in {time.monotonic() - begin:.1f} s")

    def say(self, line: str = "") -> None:
        """Print one line and flush it, so that a log file shows it at once."""
        print(line, file=self._out, flush=True)

    def detail(self, line: str) -> None:
        """Print a line indented under the current stage."""
        self.say(f"    {line}")

    @property
    def elapsed(self) -> float:
        """Seconds since this object was created."""
        return time.monotonic() - self._begin
