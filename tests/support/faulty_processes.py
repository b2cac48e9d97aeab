"""Tasks of chunks in processes of their own, which can be killed as the kernel kills."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from tests.airflow.by_hand import Desk
from tests.airflow.shop import Answer

__all__ = ["Killer", "run_chunk"]

# As Airflow does: a task's process is forked from one that has imported everything.
_PROCESSES = multiprocessing.get_context("fork")


class Killer:
    """The answers of an API that has the process killed that makes a certain call to it.

    Args:
        kill_at: which call, from 1.
        later: seconds that the process goes on meanwhile, with its other calls.
    """

    def __init__(self, kill_at: int, later: float) -> None:
        self.pid: Future[int] = Future()
        self._left = kill_at
        self._later = later
        self._lock = threading.Lock()

    def answer(self, path: str, _: int) -> Answer:
        """Answer one call, which is too late for one that has been killed."""
        with self._lock:
            self._left -= 1
            is_due = self._left == 0
        if is_due:
            time.sleep(self._later)
            os.kill(self.pid.result(60), signal.SIGKILL)
        return 200, {"path": path}


def run_chunk(desk: Desk, number: int, chunk: dict[str, Any], killer: Killer | None = None) -> bool:
    """Run the task of a chunk in a process of its own; what it ends with goes to the desk.

    Args:
        desk: the run.
        number: the chunk.
        chunk: what was planned.
        killer: gets to know the process.

    Returns:
        Whether it ended by itself.
    """
    reader, writer = _PROCESSES.Pipe(duplex=False)
    process = _PROCESSES.Process(target=_child, args=(desk, number, chunk, writer))
    process.start()
    writer.close()
    if killer is not None:
        killer.pid.set_result(process.pid or 0)
    try:
        states, xcoms = reader.recv()
    except EOFError:
        states, xcoms = {}, {}
    process.join()
    if process.exitcode == -signal.SIGKILL:
        desk.kill("f.chunk", number)
        return False
    assert process.exitcode == 0, f"the process ended with {process.exitcode}"
    desk.states |= states
    desk.xcoms |= xcoms
    return True


def _child(desk: Desk, number: int, chunk: dict[str, Any], writer: Connection) -> None:
    desk.run("f.chunk", number, chunk)
    task = f"f.chunk_{number}"
    xcoms = {key: value for key, value in desk.xcoms.items() if key[:2] == ("f.chunk", number)}
    writer.send(({task: desk.states[task]}, xcoms))
