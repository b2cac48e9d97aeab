"""Airflow's metadata database, migrated once and then copied."""

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
    """Create Airflow's tables in an empty database (about 4 s, most of it imports).

    Raises:
        ServerError: `airflow db migrate` failed; the message has its output.
    """
    with tempfile.TemporaryDirectory(prefix="allma-migrate-") as folder:
        write_config(Path(folder) / "airflow.cfg", database_settings(database_url))
        result = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=clean_environment({"AIRFLOW_HOME": folder, "HOME": folder}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        raise ServerError(f"airflow db migrate failed ({result.returncode}):\n{result.stdout}{result.stderr}")


class DatabaseCache:
    """A folder of migrated databases to copy from; safe to share between processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stem = f"airflow-{version('apache-airflow-core')}"

    def sqlite(self) -> Path:
        """Return a migrated SQLite file, created on first use."""
        return self._get_or_create(".db", _migrate_sqlite)

    def postgres(self, server: PostgresServer, programs: Path) -> Path:
        """Return an SQL dump of a migrated database, created on first use by the `pg_dump` in `programs`."""
        return self._get_or_create(".sql", lambda file: _dump_postgres(server, programs, file))

    def _get_or_create(self, suffix: str, create: Callable[[Path], None]) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{self._stem}{suffix}"
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                fresh = file.with_name(f"fresh-{os.getpid()}{suffix}")
                create(fresh)
                fresh.replace(file)
        return file


def _migrate_sqlite(file: Path) -> None:
    migrate(sqlite_url(file))
    connection = sqlite3.connect(file)
    try:
        # merge the write-ahead log into the file, since only the file is copied
        connection.execute("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()


def _dump_postgres(server: PostgresServer, programs: Path, file: Path) -> None:
    name = f"migrating_{os.getpid()}"
    server.create_database(name)
    migrate(server.url(name))
    server.run(programs / "pg_dump", "--no-owner", f"--file={file}", f"--dbname={server.libpq_url(name)}")
    server.drop_database(name)


def new_sqlite(file: Path, cache: DatabaseCache | None) -> str:
    """Return the URL of a migrated SQLite database at `file`, created if it does not exist."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        if cache:
            shutil.copyfile(cache.sqlite(), file)
        else:
            migrate(sqlite_url(file))
    return sqlite_url(file)


def new_postgres(server: PostgresServer, name: str, cache: DatabaseCache | None) -> str:
    """Create a migrated database on this server and return its URL (0.5 s with the cache, 5 s without)."""
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
