"""Airflow's metadata database, made once and copied."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from demo.airflow_config import database_settings, sqlite_url, write_config
from demo.postgres import PostgresServer, find_postgres
from demo.processes import ServerError, clean_environment


def migrate(database_url: str) -> None:
    """Make Airflow's tables in an empty database (about 4 s, most of it imports).

    Raises:
        ServerError: `airflow db migrate` failed; with what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="allma-migrate-") as folder:
        write_config(Path(folder) / "airflow.cfg", database_settings(database_url))
        answer = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=clean_environment({"AIRFLOW_HOME": folder, "HOME": folder}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if answer.returncode:
        raise ServerError(f"airflow db migrate failed ({answer.returncode}):\n{answer.stdout}{answer.stderr}")


class DatabaseCache:
    """Migrated databases in a folder: the next process that needs one copies it. Several may ask at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stem = f"airflow-{version('apache-airflow-core')}"

    def sqlite(self) -> Path:
        """A migrated SQLite file."""
        return self._made(".db", _migrated_sqlite)

    def postgres(self, server: PostgresServer, programs: Path) -> Path:
        """A migrated database as SQL, dumped from `server` by the `pg_dump` in `programs`."""
        return self._made(".sql", lambda file: _dumped_postgres(server, programs, file))

    def _made(self, suffix: str, make: Callable[[Path], None]) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{self._stem}{suffix}"
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                fresh = file.with_name(f"fresh-{os.getpid()}{suffix}")
                make(fresh)
                fresh.replace(file)
        return file


def _migrated_sqlite(file: Path) -> None:
    migrate(sqlite_url(file))
    connection = sqlite3.connect(file)
    try:
        # one file again: what is still in the write-ahead log belongs to the database
        connection.execute("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()


def _dumped_postgres(server: PostgresServer, programs: Path, file: Path) -> None:
    name = f"migrating_{os.getpid()}"
    server.create_database(name)
    migrate(server.url(name))
    server.run(programs / "pg_dump", "--no-owner", f"--file={file}", f"--dbname={server.libpq_url(name)}")
    server.drop_database(name)


def new_sqlite(file: Path, cache: DatabaseCache | None) -> str:
    """The URL of a migrated SQLite database at `file`, which is made unless it exists."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        if cache:
            shutil.copyfile(cache.sqlite(), file)
        else:
            migrate(sqlite_url(file))
    return sqlite_url(file)


def new_postgres(server: PostgresServer, name: str, cache: DatabaseCache | None) -> str:
    """The URL of a new, migrated database of this server (0.5 s from the cache, 5 s without)."""
    server.create_database(name)
    programs = find_postgres()
    if cache and programs and all((programs / tool).exists() for tool in ("pg_dump", "psql")):
        dump = cache.postgres(server, programs)
        server.run(
            programs / "psql",
            "--quiet",
            "--no-psqlrc",
            "--single-transaction",
            "--set=ON_ERROR_STOP=1",
            "--output=/dev/null",
            f"--file={dump}",
            f"--dbname={server.libpq_url(name)}",
        )
    else:
        migrate(server.url(name))
    return server.url(name)
