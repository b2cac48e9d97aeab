"""Runs the cases of a campaign in processes that may crash or hang, and collects what happened.

Each worker has a limit of memory and, for each case, of CPU time: on a busy machine no case becomes a hang.
A case that only waits is stopped after a multiple of that time.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tests.fuzz.campaign import Campaign, Outcome, describe, generator, load, run_case

BATCH = 50
WAITING_FACTOR = 12
"""A case that uses no CPU is stopped after this many times the limit."""
_POLL_SECONDS = 0.5
_READY = "ready"
_TRACE = ".trace"


@dataclass(frozen=True)
class Limits:
    """What one case may use.

    Attributes:
        seconds: CPU time of a case.
        memory_bytes: address space of a worker beyond what it has when it starts its first case.
    """

    seconds: float = 5.0
    memory_bytes: int = 2 << 30


@dataclass
class Worker:
    """A process and the cases that it was given."""

    process: Any
    connection: Connection
    trace: Path
    waiting: deque[int] = field(default_factory=deque)
    began: float = 0.0
    is_ready: bool = False
    is_stopped: bool = False
    """Whether it was killed since its case only waited."""


def run_campaign(
    target: str, *, seed: int, cases: range, workers: int = 2, limits: Limits | None = None
) -> Iterator[Outcome]:
    """Yield the outcome of each case, in no order.

    Args:
        target: the campaign, ``module:NAME``.
        seed: with the campaign's name and the case's number it determines each input.
        cases: the numbers of the cases.
        workers: number of processes.
        limits: of a case; None: the default ones.
    """
    with tempfile.TemporaryDirectory(prefix="allma-fuzz-") as folder:
        yield from _Pool(target, seed, cases, limits or Limits(), Path(folder)).run(workers)


class _Pool:
    def __init__(self, target: str, seed: int, cases: range, limits: Limits, folder: Path) -> None:
        self.target = target
        self.campaign: Campaign = load(target)
        self.seed = seed
        self.left = deque(cases)
        self.limits = limits
        self.folder = folder
        self.started = 0
        # Not forked from this process, which has threads under pytest, and an Airflow of its own.
        self.context = multiprocessing.get_context("spawn")

    def run(self, workers: int) -> Iterator[Outcome]:
        running = [self.start() for _ in range(min(workers, max(1, len(self.left))))]
        try:
            while running:
                wait([worker.connection for worker in running], timeout=_POLL_SECONDS)
                for worker in list(running):
                    yield from self.received(worker)
                    if not worker.process.is_alive() or self.is_stuck(worker):
                        # What it sent before it died is still in the pipe.
                        yield from self.received(worker)
                        running.remove(worker)
                        if lost := self.lost_case(worker):
                            yield lost
                        if self.left:
                            running.append(self.start())
        finally:
            for worker in running:
                worker.process.kill()
                worker.process.join()

    def start(self) -> Worker:
        self.started += 1
        folder = self.folder / str(self.started)
        folder.mkdir()
        trace = folder.with_suffix(_TRACE)
        ours, theirs = self.context.Pipe()
        process = self.context.Process(
            target=_work, args=(self.target, self.seed, self.limits, folder, theirs), daemon=True
        )
        process.start()
        theirs.close()
        return Worker(process, ours, trace, began=time.monotonic())

    def received(self, worker: Worker) -> Iterator[Outcome]:
        """Yield what a worker has sent; give it more cases when it has none left, or let it end."""
        try:
            while worker.connection.poll():
                message = worker.connection.recv()
                worker.began = time.monotonic()
                if isinstance(message, Outcome):
                    worker.waiting.popleft()
                    yield message
                elif message == _READY:
                    worker.is_ready = True
                else:
                    raise RuntimeError(f"{self.target} did not start:\n{message}")
                if not worker.waiting:
                    batch = [self.left.popleft() for _ in range(min(BATCH, len(self.left)))]
                    worker.waiting.extend(batch)
                    worker.connection.send(batch)
        except (EOFError, OSError):
            return

    def is_stuck(self, worker: Worker) -> bool:
        if not worker.waiting or time.monotonic() - worker.began < self.limits.seconds * WAITING_FACTOR:
            return False
        worker.is_stopped = True
        worker.process.kill()
        worker.process.join()
        return True

    def lost_case(self, worker: Worker) -> Outcome | None:
        """Return the outcome of the case that a process died of; put the others back."""
        worker.process.join()
        worker.connection.close()
        if not worker.is_ready:
            raise RuntimeError(
                f"a worker of {self.target} did not start: exit code {worker.process.exitcode}"
            )
        if not worker.waiting:
            return None
        index = worker.waiting.popleft()
        self.left.extendleft(reversed(worker.waiting))
        code = worker.process.exitcode
        is_hang = worker.is_stopped or code == -signal.SIGPROF
        trace = worker.trace.read_text(errors="replace") if worker.trace.exists() else ""
        made = self.campaign.make(generator(self.campaign, self.seed, index))
        return Outcome(
            index,
            "hang" if is_hang else "crash",
            self.limits.seconds if is_hang else 0.0,
            _place_in(trace) if is_hang else f"the process ended with exit code {code}",
            f"{describe(self.campaign, made)}\n{trace[:2000]}",
        )


def _place_in(trace: str) -> str:
    """Return the innermost line of the package in a traceback of ``faulthandler``."""
    for line in trace.splitlines():
        if "airflow_allma/" in line:
            return line.strip().rpartition("airflow_allma/")[2].replace('", line ', ":")
    return "outside of the package"


def _work(target: str, seed: int, limits: Limits, folder: Path, connection: Connection) -> None:
    """Run cases until none are sent: the main function of a worker."""
    tempfile.tempdir = str(folder)
    trace = folder.with_suffix(_TRACE)
    campaign = load(target)
    with _quiet():
        try:
            campaign.start(folder)
        except Exception:  # noqa: BLE001 - the parent raises it
            connection.send(traceback.format_exc())
            return
        _limit_memory(limits.memory_bytes)
        with trace.open("w") as stream:
            # The default action of the signal, which follows the traceback, ends the process.
            faulthandler.register(signal.SIGPROF, stream, all_threads=False, chain=True)
            connection.send(_READY)
            while batch := connection.recv():
                for index in batch:
                    signal.setitimer(signal.ITIMER_PROF, limits.seconds)
                    outcome = run_case(campaign, seed, index, folder)
                    signal.setitimer(signal.ITIMER_PROF, 0)
                    connection.send(outcome)


def _limit_memory(more: int) -> None:
    if sys.platform != "linux":
        return
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.RLIM_INFINITY))


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what the cases print and log, on the level of file descriptors."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
        yield
