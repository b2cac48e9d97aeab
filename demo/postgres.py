"""A throwaway PostgreSQL: data in a temporary folder, one free loopback port, nothing of it safe on disk."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from demo.processes import ManagedProcess, ServerError, clean_environment, free_port, port_open, wait_until

SUPERUSER = "airflow"
UNPRIVILEGED = ("postgres", "nobody")
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "listen_addresses": "127.0.0.1",
}


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's server programs (`initdb`, `postgres`), or None when it is not installed.

    Debian keeps them off the PATH, in one folder a version: the newest is taken.
    """
    return next((folder for folder in _candidates() if _has_server(folder)), None)


def _candidates() -> Iterator[Path]:
    yield from sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda f: _version(f.parent.name), reverse=True
    )
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent
    if found := shutil.which("pg_config"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            answer = subprocess.run(
                [found, "--bindir"], capture_output=True, text=True, check=True, timeout=10
            )
            yield Path(answer.stdout.strip())


def _version(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _has_server(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres"))


def _account() -> str:
    """The account to run as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return ""
    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise ServerError(
        f"PostgreSQL does not run as root, and there is no account {' or '.join(UNPRIVILEGED)} to run it as."
    )


def _identifier(name: str) -> str:
    if not name.isidentifier():
        raise ValueError(f"{name!r} is no database name: letters, digits and underscores only.")
    return f'"{name}"'


class PostgresServer:
    """One server, which logs to `log`. `start()` takes about a second; `url()` is for SQLAlchemy."""

    def __init__(self, log: Path) -> None:
        self.port = 0
        self._password = secrets.token_urlsafe(18)
        self._folder: Path | None = None
        self._log = log
        self._process: ManagedProcess | None = None

    def start(self) -> Self:
        """Create the data folder, start the server and wait until it answers.

        Raises:
            ServerError: no PostgreSQL is installed, or it did not start (with the end of its log).
        """
        programs = find_postgres()
        if programs is None:
            raise ServerError(
                "No PostgreSQL server programs found: install one (Debian: apt-get install postgresql)."
            )
        account = _account()
        # in the system's temporary folder: the unprivileged account must be able to reach it
        self._folder = Path(tempfile.mkdtemp(prefix="allma-postgres-"))
        try:
            self._initialise(programs, account, self._folder)
            self._serve(programs, account, self._folder)
        except BaseException:
            self.stop()
            raise
        return self

    def _initialise(self, programs: Path, account: str, folder: Path) -> None:
        password_file = folder / "password"
        password_file.write_text(self._password)
        if account:
            for path in (folder, password_file):
                shutil.chown(path, account)
        answer = subprocess.run(
            [
                programs / "initdb",
                f"--pgdata={folder / 'data'}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--no-instructions",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env=clean_environment(),
            user=account or None,
            group=pwd.getpwnam(account).pw_gid if account else None,
            extra_groups=[] if account else None,
        )
        if answer.returncode:
            raise ServerError(f"initdb failed ({answer.returncode}):\n{answer.stdout}{answer.stderr}")
        password_file.unlink()

    def _serve(self, programs: Path, account: str, folder: Path) -> None:
        self.port = free_port()
        settings = SETTINGS | {"port": str(self.port), "unix_socket_directories": str(folder)}
        self._process = ManagedProcess(
            "postgres",
            [programs / "postgres", "-D", folder / "data", *(f"--{k}={v}" for k, v in settings.items())],
            log=self._log,
            cwd=folder,
            user=account,
            scratch=folder,
            stop_signal=signal.SIGINT,  # "fast": do not wait for clients
        )
        self._process.start()
        wait_until(self._answers, what="PostgreSQL", processes=[self._process], timeout=60, pause=0.05)

    def _answers(self) -> bool:
        if not port_open(self.port):
            return False
        try:
            self._execute("SELECT 1")
        except OperationalError:
            return False
        return True

    def _execute(self, statement: str, **values: str) -> list[Any]:
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            result = connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []

    @property
    def processes(self) -> list[ManagedProcess]:
        """The server's process, for `wait_until` and its log."""
        return [self._process] if self._process else []

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of a database of this server, with the password."""
        return f"postgresql+psycopg2://{SUPERUSER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def libpq_url(self, database: str) -> str:
        """The same for PostgreSQL's own programs, without the password: `run` hands that over."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def run(self, program: Path, *arguments: str) -> None:
        """Run one of PostgreSQL's client programs against this server.

        Raises:
            ServerError: it failed; with what it printed.
        """
        answer = subprocess.run(
            [program, *arguments],
            env=clean_environment({"PGPASSWORD": self._password}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise ServerError(f"{program.name} failed ({answer.returncode}):\n{answer.stderr}")

    def create_database(self, name: str, template: str = "template1") -> None:
        """Create a database, as a copy of `template` (which nobody may be connected to)."""
        self._execute(f"CREATE DATABASE {_identifier(name)} TEMPLATE {_identifier(template)}")

    def has_database(self, name: str) -> bool:
        """Whether there is a database of this name."""
        return bool(self._execute("SELECT 1 FROM pg_database WHERE datname = :name", name=name))

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self._execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")

    def stop(self) -> None:
        """Stop the server and remove its data."""
        try:
            if self._process:
                self._process.stop()
        finally:
            if self._folder:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
