"""Chunk tasks in separate processes, which tests can kill with SIGKILL."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.shop import Answer

__all__ = ["Killer", "run_chunk"]

# Like Airflow: a task process is forked from one that has imported everything.
_PROCESSES = multiprocessing.get_context("fork")


class Killer:
    """An API handler that kills the calling process at a certain call.

    Args:
        kill_at: number of the call, from 1.
        later: seconds until the kill, in which the process continues with other calls.
    """

    def __init__(self, kill_at: int, later: float) -> None:
        self.pid: Future[int] = Future()
        self._left = kill_at
        self._later = later
        self._lock = threading.Lock()

    def answer(self, path: str, _: int) -> Answer:
        """Answer one call; the process that made the fatal one does not live to see the answer."""
        with self._lock:
            self._left -= 1
            is_due = self._left == 0
        if is_due:
            time.sleep(self._later)
            os.kill(self.pid.result(60), signal.SIGKILL)
        return 200, {"path": path}


def run_chunk(dag_run: FakeDagRun, number: int, chunk: dict[str, Any], killer: Killer | None = None) -> bool:
    """Run the task of a chunk in a separate process and copy its state and XComs to the run.

    Args:
        dag_run: the run.
        number: map index of the chunk.
        chunk: the chunk as it was planned.
        killer: receives the process id.

    Returns:
        Whether the process ended by itself.
    """
    reader, writer = _PROCESSES.Pipe(duplex=False)
    process = _PROCESSES.Process(target=_child, args=(dag_run, number, chunk, writer))
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
        dag_run.kill("f.chunk", number)
        return False
    assert process.exitcode == 0, f"the process exited with {process.exitcode}"
    dag_run.states |= states
    dag_run.xcoms |= xcoms
    return True


def _child(dag_run: FakeDagRun, number: int, chunk: dict[str, Any], writer: Connection) -> None:
    dag_run.run("f.chunk", number, chunk)
    task = f"f.chunk_{number}"
    xcoms = {key: value for key, value in dag_run.xcoms.items() if key[:2] == ("f.chunk", number)}
    writer.send(({task: dag_run.states[task]}, xcoms))
