"""A throwaway PostgreSQL server: a temporary data folder, a free loopback port, no durability."""

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
    """Return the folder of PostgreSQL's server programs (`initdb`, `postgres`), None if not installed.

    Debian keeps them off the PATH, in one folder per version: the newest one is used.
    """
    return next((folder for folder in _candidates() if _has_server(folder)), None)


def _candidates() -> Iterator[Path]:
    yield from sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda f: _version(f.parent.name), reverse=True
    )
    if program := shutil.which("initdb"):
        yield Path(program).resolve().parent
    if program := shutil.which("pg_config"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            result = subprocess.run(
                [program, "--bindir"], capture_output=True, text=True, check=True, timeout=10
            )
            yield Path(result.stdout.strip())


def _version(name: str) -> int:
    return int(name) if name.isdigit() else 0


def _has_server(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres"))


def _account() -> str:
    """Return the account to run as (PostgreSQL refuses root), empty for the current one."""
    if os.geteuid() != 0:
        return ""
    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise ServerError(
        f"PostgreSQL does not run as root, and no account {' or '.join(UNPRIVILEGED)} exists to run it."
    )


def _identifier(name: str) -> str:
    if not name.isidentifier():
        raise ValueError(f"{name!r} is not a valid database name: use letters, digits and underscores only.")
    return f'"{name}"'


class PostgresServer:
    """One server, which logs to `log`. `start()` takes about a second; `url()` returns SQLAlchemy URLs."""

    def __init__(self, log: Path) -> None:
        self.port = 0
        self._password = secrets.token_urlsafe(18)
        self._folder: Path | None = None
        self._log = log
        self._process: ManagedProcess | None = None

    def start(self) -> Self:
        """Create the data folder, start the server and wait until it answers.

        Raises:
            ServerError: PostgreSQL is not installed, or did not start (with the end of its log).
        """
        programs = find_postgres()
        if programs is None:
            raise ServerError(
                "PostgreSQL's server programs are missing. Install them (Debian: apt-get install postgresql)."
            )
        account = _account()
        # in the system's temporary folder: the unprivileged account must be able to reach it
        self._folder = Path(tempfile.mkdtemp(prefix="allma-postgres-"))
        try:
            self._init_data_folder(programs, account, self._folder)
            self._serve(programs, account, self._folder)
        except BaseException:
            self.stop()
            raise
        return self

    def _init_data_folder(self, programs: Path, account: str, folder: Path) -> None:
        password_file = folder / "password"
        password_file.write_text(self._password)
        if account:
            for path in (folder, password_file):
                shutil.chown(path, account)
        result = subprocess.run(
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
        if result.returncode:
            raise ServerError(f"initdb failed ({result.returncode}):\n{result.stdout}{result.stderr}")
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
            stop_signal=signal.SIGINT,  # PostgreSQL's "fast" shutdown: do not wait for clients
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
        """The server's process, if it runs: for `wait_until` and for its log."""
        return [self._process] if self._process else []

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database of this server, with the password."""
        return f"postgresql+psycopg2://{SUPERUSER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def libpq_url(self, database: str) -> str:
        """Return the URL for PostgreSQL's own programs, without the password: `run` passes it separately."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def run(self, program: Path, *arguments: str) -> None:
        """Run one of PostgreSQL's client programs against this server.

        Raises:
            ServerError: the program failed; the message has its output.
        """
        result = subprocess.run(
            [program, *arguments],
            env=clean_environment({"PGPASSWORD": self._password}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise ServerError(f"{program.name} failed ({result.returncode}):\n{result.stderr}")

    def create_database(self, name: str, template: str = "template1") -> None:
        """Create a database as a copy of `template`, which must have no connections."""
        self._execute(f"CREATE DATABASE {_identifier(name)} TEMPLATE {_identifier(template)}")

    def has_database(self, name: str) -> bool:
        """Return whether a database of this name exists."""
        return bool(self._execute("SELECT 1 FROM pg_database WHERE datname = :name", name=name))

    def drop_database(self, name: str) -> None:
        """Drop a database, even one with open connections."""
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
