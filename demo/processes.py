"""Servers as child processes, each with a log file; none of them outlives the process that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from demo.reaper import descendants

REAPER = Path(__file__).with_name("reaper.py")
STOP_MARGIN_SECONDS = 10.0


class ServerError(RuntimeError):
    """A server did not start, died or did not stop; the message ends with the last lines of its log."""


def free_port() -> int:
    """Return a loopback TCP port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process' environment without the variables that would affect Airflow or AWS, plus `extra`.

    `PYTHONDONTWRITEBYTECODE` is removed too: without cached byte code, importing Airflow takes three times as
    long.
    """
    foreign = ("AIRFLOW_", "AWS_", "PYTHONDONTWRITEBYTECODE", "_AIRFLOW", "__AIRFLOW")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"AWS_EC2_METADATA_DISABLED": "true"} | dict(extra or {})


class ManagedProcess:
    """One command, run under a reaper that ends all of its processes with it.

    `user` is the account to run it as (root only). `grace` is how many seconds the command has to exit after
    `stop_signal` before it is killed with all of its descendants. `scratch` is a folder to remove when all
    processes are gone, even when `stop` is never called.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str = "",
        scratch: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 5.0,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self.grace = grace
        self._env = dict(env) if env is not None else clean_environment()
        self._cwd = cwd
        self._user = user
        self._scratch = scratch
        self._stop_signal = stop_signal
        self._reaper: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the command; ServerError if it is already running."""
        if self.running:
            raise ServerError(f"{self.name} is already running.")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        reaper_arguments = [os.getpid(), self.grace, int(self._stop_signal), self._user, self._scratch or ""]
        with self.log.open("ab") as log:
            # its own session: Ctrl-C reaches only this process, which stops the servers in order
            self._reaper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(REAPER), *map(str, reaper_arguments), *self.command],
                env=self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the command or one of its descendants is alive."""
        return self._reaper is not None and self._reaper.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the reaper; the command is its only direct child."""
        if self._reaper is None:
            raise ServerError(f"{self.name} was never started.")
        return self._reaper.pid

    def request_stop(self) -> None:
        """Request a stop without waiting for it."""
        if self._reaper is not None and self._reaper.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._reaper.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Stop the command and wait until its processes are gone; does nothing when it is not running."""
        if self._reaper is None:
            return
        self.request_stop()
        try:
            self._reaper.wait(self.grace + STOP_MARGIN_SECONDS)
        except subprocess.TimeoutExpired:
            raise ServerError(
                f"{self.name}: processes below {self.pid} did not stop.\n{self.tail()}"
            ) from None

    def kill(self) -> None:
        """Kill the command and all of its descendants at the same moment, like a power failure."""
        stopped: set[int] = set()
        # stop all first, so that none can see another one die, or start a new one
        while fresh := set(descendants(self.pid)) - stopped:
            _signal_all(fresh, signal.SIGSTOP)
            stopped |= fresh
        _signal_all(stopped, signal.SIGKILL)
        self.stop()

    def tail(self, lines: int = 30) -> str:
        """Return the last lines of the log, under a heading."""
        content = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- last lines of {self.log} ---\n" + "\n".join(content.splitlines()[-lines:])


def _signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def stop_all(processes: Iterable[ManagedProcess]) -> None:
    """Stop several processes in parallel; one that does not stop does not keep the rest alive."""
    stopping = list(processes)
    for process in stopping:
        process.request_stop()
    problems = []
    for process in stopping:
        try:
            process.stop()
        except ServerError as error:
            problems.append(str(error))
    if problems:
        raise ServerError("\n".join(problems))


def wait_until(
    ready: Callable[[], bool],
    *,
    what: str,
    processes: Sequence[ManagedProcess] = (),
    timeout: float = 60.0,
    pause: float = 0.1,
) -> float:
    """Wait until `ready()` is true and return the seconds that it took.

    Raises:
        ServerError: `timeout` seconds passed, or one of `processes` exited; the message has the ends of their
            logs.
    """
    start = time.monotonic()
    while not ready():
        dead = [process for process in processes if not process.running]
        if dead:
            names = ", ".join(process.name for process in dead)
            tails = "\n".join(process.tail() for process in dead)
            raise ServerError(f"{what}: {names} exited before it was ready.\n{tails}")
        if time.monotonic() - start > timeout:
            tails = "\n".join(process.tail() for process in processes)
            raise ServerError(f"{what}: not ready after {timeout:.0f} s.\n{tails}")
        time.sleep(pause)
    return time.monotonic() - start


def port_open(port: int) -> bool:
    """Return whether this loopback port accepts connections."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
