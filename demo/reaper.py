"""Run one command and leave none of its processes running.

`demo.processes` starts it as a script. It imports only the standard library, so that it starts at once:

    python -I -S reaper.py PARENT_PID GRACE_SECONDS STOP_SIGNAL USER SCRATCH COMMAND...

The reaper ends the command and all of its descendants on SIGTERM, when the command itself exits, and when the
process that started the reaper is gone for whatever reason. On Linux it is a child subreaper: it adopts all
orphans below it, so it also finds processes that changed their group or session, and it exits only when the
kernel reports that it has no child left. Then it removes the folder SCRATCH, unless that argument is empty.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.5
LEFTOVER_GRACE_SECONDS = 2.0
LINUX = sys.platform == "linux"


def _prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Return the ids of all descendants of `root` from /proc; empty on systems without /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # the name in parentheses can itself contain blanks and parentheses
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.parent.name))
    ids: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        ids += below
        queue += below
    return ids


class Reaper:
    def __init__(self, arguments: Sequence[str]) -> None:
        parent, grace, stop_signal, user, scratch, *command = arguments
        self.parent = int(parent)
        self.grace = float(grace)
        self.stop_signal = int(stop_signal)
        self.user = user
        self.scratch = scratch
        self.command = command
        self.stop_requested = False
        self.status: int | None = None
        self.wake, self._wake_writer = os.pipe()
        self.child = 0

    def run(self) -> int:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        os.set_blocking(self._wake_writer, False)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._request_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            self.child = self._start()
        except (OSError, KeyError) as error:
            print(f"reaper: cannot start {self.command[0]}: {error}", file=sys.stderr, flush=True)
            return 127
        while self.status is None and not self._should_stop():
            self._wait(POLL_SECONDS)
        if self.status is None:
            self._signal([self.child], self.stop_signal)
            self._wait_until(lambda: self.status is not None, self.grace)
        self._end_leftovers()
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)
        return 0 if self.stop_requested else (self.status or 0)

    def _start(self) -> int:
        account = pwd.getpwnam(self.user) if self.user else None
        # preexec_fn is safe here: this process has one thread, so nothing can deadlock between fork and exec
        return subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: _prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        ).pid

    def _request_stop(self, *_: object) -> None:
        self.stop_requested = True

    def _should_stop(self) -> bool:
        if os.getppid() != self.parent:
            self.stop_requested = True
        return self.stop_requested

    def _wait(self, seconds: float) -> bool:
        """Sleep until a signal or the timeout, then reap; return False when no child is left."""
        if select.select([self.wake], [], [], seconds)[0]:
            os.read(self.wake, 512)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.child:
                self.status = abs(os.waitstatus_to_exitcode(status))

    def _wait_until(self, reached: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        alive = True
        while alive and not reached() and time.monotonic() < end:
            alive = self._wait(0.05)
        return alive

    def _end_leftovers(self) -> None:
        deadline = time.monotonic() + LEFTOVER_GRACE_SECONDS
        number = signal.SIGTERM if self.status is not None else signal.SIGKILL
        announced = False
        while self._wait(0.02):
            left = descendants(os.getpid()) or [self.child]
            if time.monotonic() > deadline:
                number = signal.SIGKILL
            if not announced or number == signal.SIGKILL:
                self._signal(left, number)
            if not announced:
                print(f"reaper: ended {len(left)} leftover process(es)", file=sys.stderr, flush=True)
                announced = True

    def _signal(self, pids: list[int], number: int) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        if not LINUX:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child, number)


if __name__ == "__main__":
    sys.exit(Reaper(sys.argv[1:]).run())
