"""A throwaway Redis server: a free loopback port, a password, no persistence."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

from demo.processes import ManagedProcess, ServerError, free_port, port_open, wait_until

CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
save ""
appendonly no
"""


def find_redis() -> Path | None:
    """Return the path of the Redis server program, None when it is not installed."""
    program = shutil.which("redis-server")
    return Path(program) if program else None


class RedisServer:
    """One server, which logs to `log`."""

    def __init__(self, log: Path) -> None:
        self.port = 0
        self._password = secrets.token_urlsafe(18)
        self._log = log
        self._process: ManagedProcess | None = None

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            ServerError: Redis is not installed, or did not start (with the end of its log).
        """
        program = find_redis()
        if program is None:
            raise ServerError(
                "redis-server was not found. Install Redis (Debian: apt-get install redis-server)."
            )
        self.port = free_port()
        folder = Path(tempfile.mkdtemp(prefix="allma-redis-"))
        config = folder / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(CONFIG.format(port=self.port, password=self._password, folder=folder))
        self._process = ManagedProcess("redis", [program, config], log=self._log, cwd=folder, scratch=folder)
        try:
            self._process.start()
            wait_until(self._answers, what="Redis", processes=[self._process], timeout=60, pause=0.05)
        except BaseException:
            self.stop()
            raise
        return self

    def _answers(self) -> bool:
        # the client would retry for seconds while the port is closed
        if not port_open(self.port):
            return False
        with self.client() as client:
            return bool(client.ping())

    @property
    def url(self) -> str:
        """The broker URL for Celery, with the password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def client(self) -> Any:
        """Return a new client; the caller closes it."""
        import redis

        return redis.Redis.from_url(self.url)

    def stop(self) -> None:
        """Stop the server; calling it again does nothing."""
        if self._process:
            self._process.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
