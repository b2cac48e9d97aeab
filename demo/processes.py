"""Servers as child processes: each with a log file, and none of them outlives the process that started it."""

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

WARDEN = Path(__file__).with_name("reaper.py")
STOP_MARGIN_SECONDS = 10.0


class ServerError(RuntimeError):
    """A server did not start, died or would not stop; the message ends with the last lines of its log."""


def free_port() -> int:
    """A loopback TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' environment without what would reach into Airflow or AWS, plus `extra`.

    Byte code is written even where the caller's shell forbids it: without, importing Airflow takes three
    times as long.
    """
    foreign = ("AIRFLOW_", "AWS_", "PYTHONDONTWRITEBYTECODE", "_AIRFLOW", "__AIRFLOW")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"AWS_EC2_METADATA_DISABLED": "true"} | dict(extra or {})


class ManagedProcess:
    """One command, run under a reaper that ends all of its processes with it.

    `user` runs it as another account (only root can). `grace` is how many seconds the command has to end by
    itself after `stop_signal`, before everything below it is killed. `scratch` is a folder to remove when
    nothing of it is left, even when nobody calls `stop`.
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
        self._warden: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the command; a process that runs already is an error."""
        if self.running:
            raise ServerError(f"{self.name} is running already.")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        guard = [os.getpid(), self.grace, int(self._stop_signal), self._user, self._scratch or ""]
        with self.log.open("ab") as log:
            # a session of its own: Ctrl-C reaches only us, and we stop our servers in order
            self._warden = subprocess.Popen(
                [sys.executable, "-I", "-S", str(WARDEN), *map(str, guard), *self.command],
                env=self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the command, or anything that it started, is alive."""
        return self._warden is not None and self._warden.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the reaper; the command is its only direct child."""
        if self._warden is None:
            raise ServerError(f"{self.name} was never started.")
        return self._warden.pid

    def ask_to_stop(self) -> None:
        """Begin to stop, without waiting."""
        if self._warden is not None and self._warden.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._warden.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Stop the command and wait until no process of it is left; does nothing when it is not running."""
        if self._warden is None:
            return
        self.ask_to_stop()
        try:
            self._warden.wait(self.grace + STOP_MARGIN_SECONDS)
        except subprocess.TimeoutExpired:
            raise ServerError(
                f"{self.name}: processes below {self.pid} would not end.\n{self.tail()}"
            ) from None

    def kill(self) -> None:
        """Kill the command and all that it started at one moment, as a machine does that loses power."""
        stopped: set[int] = set()
        # none may see another one die, or start one more
        while fresh := set(descendants(self.pid)) - stopped:
            _signal_all(fresh, signal.SIGSTOP)
            stopped |= fresh
        _signal_all(stopped, signal.SIGKILL)
        self.stop()

    def tail(self, lines: int = 30) -> str:
        """The last lines of the log, under a headline."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- last lines of {self.log} ---\n" + "\n".join(text.splitlines()[-lines:])


def _signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def stop_all(processes: Iterable[ManagedProcess]) -> None:
    """Stop several processes at once; one that will not end does not keep the others alive."""
    everyone = list(processes)
    for process in everyone:
        process.ask_to_stop()
    problems = []
    for process in everyone:
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
    """Wait until `ready()`; the seconds that it took.

    Raises:
        ServerError: `timeout` seconds are over, or one of `processes` has ended; with the ends of their logs.
    """
    start = time.monotonic()
    while not ready():
        dead = [process for process in processes if not process.running]
        if dead:
            names = ", ".join(process.name for process in dead)
            tails = "\n".join(process.tail() for process in dead)
            raise ServerError(f"{what}: {names} ended before it was ready.\n{tails}")
        if time.monotonic() - start > timeout:
            tails = "\n".join(process.tail() for process in processes)
            raise ServerError(f"{what}: not ready after {timeout:.0f} s.\n{tails}")
        time.sleep(pause)
    return time.monotonic() - start


def port_open(port: int) -> bool:
    """Whether somebody accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
