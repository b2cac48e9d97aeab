"""What the demo says while it works: each stage, and how long it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Stages:
    """Prints stages to `out` as they begin and end."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._begin = time.monotonic()

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Say that a stage begins, and how long it took when it is done."""
        begin = time.monotonic()
        self.say(f"==> {title}")
        yield
        self.say(f"    done in {time.monotonic() - begin:.1f} s")

    def say(self, line: str = "") -> None:
        """One line, at once also where the output is a file."""
        print(line, file=self._out, flush=True)

    def detail(self, line: str) -> None:
        """A line that belongs to the stage."""
        self.say(f"    {line}")

    @property
    def elapsed(self) -> float:
        """Seconds since the first stage."""
        return time.monotonic() - self._begin
