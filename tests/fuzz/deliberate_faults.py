"""A campaign whose cases fail in every way, for tests of the runner."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.campaign import Campaign, UnlocatedError, WrongError


def _raise(error: BaseException) -> str:
    raise error


def _loop() -> str:
    while True:
        pass


def _match() -> str:
    """Spend years in one call of C code."""
    import re

    return str(re.fullmatch(r"(a+)+b", "a" * 60))


BEHAVIORS: dict[str, Callable[[], str]] = {
    "good": lambda: "fine",
    "raise": lambda: _raise(ValueError("no")),
    "exit": lambda: sys.exit(3),
    "die": lambda: os._exit(4),
    "loop": _loop,
    "match": _match,
    "memory": lambda: str(len(bytearray(1 << 40))),
    "unlocated": lambda: _raise(UnlocatedError("nowhere: x")),
    "wrong": lambda: _raise(WrongError("differs: x")),
}

EXPECTED = {
    "good": "fine",
    "raise": "crash",
    "exit": "crash",
    "die": "crash",
    "loop": "hang",
    "match": "hang",
    "memory": "crash",
    "unlocated": "unlocated",
    "wrong": "wrong",
}


def make(rng: random.Random) -> str:
    return rng.choice(tuple(BEHAVIORS))


def check(name: str, folder: Path) -> str:
    return BEHAVIORS[name]()


CAMPAIGN = Campaign("faults", make, check)
