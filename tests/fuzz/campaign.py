"""What a campaign is, and how one of its cases is judged."""

from __future__ import annotations

import random
import time
import traceback
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = f"{Path('airflow_allma')}/"
MAX_SHOWN = 2_000
"""Characters of an input or a traceback that a report shows."""


class UnlocatedError(AssertionError):
    """A problem lacks its file, line or path, or is too long or not printable to be shown."""


class WrongError(AssertionError):
    """Two ways to the same result differ, or an error of a class that is not documented."""


@dataclass(frozen=True)
class Campaign:
    """A kind of input.

    Attributes:
        name: what the command line and the reports call it.
        make: ``make(rng)`` returns an input; the same one for the same state of ``rng``.
        check: ``check(input, folder)`` returns the kind of its outcome, or raises: any exception is a fault.
            The folder is empty at the first case, and a case may leave files in it.
        start: prepares a process for the cases; not part of the first case's time.
        show: returns the input for a report.
    """

    name: str
    make: Callable[[random.Random], Any]
    check: Callable[[Any, Path], str]
    start: Callable[[Path], None] = lambda folder: None
    show: Callable[[Any], str] = repr


@dataclass(frozen=True)
class Outcome:
    """What happened to one input.

    Attributes:
        index: its number in the campaign.
        kind: the outcome's kind; of a fault ``crash``, ``hang``, ``unlocated`` or ``wrong``.
        seconds: CPU time of the check.
        fault: of a fault: where it happened, in one line; the same for faults of the same cause.
        details: of a fault: the input and the traceback.
    """

    index: int
    kind: str
    seconds: float
    fault: str | None = None
    details: str = ""


def load(target: str) -> Campaign:
    """Return the campaign ``module:NAME``."""
    module, _, name = target.partition(":")
    campaign: Campaign = getattr(import_module(module), name)
    return campaign


def generator(campaign: Campaign, seed: int, index: int) -> random.Random:
    """Return the random numbers of one case: they depend on nothing that ran before."""
    return random.Random(f"{campaign.name}/{seed}/{index}")


def run_case(campaign: Campaign, seed: int, index: int, folder: Path) -> Outcome:
    """Make and check one input. Never raises, except what ends the process anyway."""
    made = campaign.make(generator(campaign, seed, index))
    began = time.process_time()
    try:
        kind = campaign.check(made, folder)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - every exception is a finding
        seconds = time.process_time() - began
        return Outcome(index, _kind(error), seconds, _place(error), describe(campaign, made, error))
    return Outcome(index, kind, time.process_time() - began)


def describe(campaign: Campaign, made: Any, error: BaseException | None = None) -> str:
    """Return an input, and the traceback of what it caused, cut to a readable length."""
    shown = campaign.show(made)
    text = shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}... ({len(shown)} characters)"
    if error is None:
        return text
    trace = "".join(traceback.format_exception(error, limit=-12))
    return f"{text}\n{trace[-MAX_SHOWN:]}"


def hidden_characters(text: str) -> set[str]:
    """Return the characters of a text that control a screen, or that it cannot show."""
    hidden = (
        {char for char in text if unicodedata.category(char) in _HIDDEN} if not text.isprintable() else set()
    )
    return hidden - {"\u200c", "\u200d"}


_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _kind(error: BaseException) -> str:
    return {UnlocatedError: "unlocated", WrongError: "wrong"}.get(type(error), "crash")


def _place(error: BaseException) -> str:
    """Return the error's class and the innermost line of the package on its way."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if PACKAGE in frame.filename] or frames
    where = f"{own[-1].filename.rpartition(PACKAGE)[2]}:{own[-1].lineno} {own[-1].name}" if own else "?"
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, UnlocatedError | WrongError):
        return first.partition(": ")[0][:150]
    return f"{type(error).__name__} at {where}: {first[:80]}"
