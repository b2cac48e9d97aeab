"""Airflow's metadata database, made once and copied."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from demo.airflow_config import database_settings, sqlite_url, write_config
from demo.postgres import PostgresServer
from demo.processes import ServerError, clean_environment

POSTGRES_TEMPLATE = "airflow_template"


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


def sqlite_template(folder: Path) -> Path:
    """A migrated SQLite file in `folder`, made when it is missing; several processes may ask at once."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"airflow-{version('apache-airflow-core')}.db"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            fresh = folder / f"fresh-{os.getpid()}.db"
            migrate(sqlite_url(fresh))
            # what is still in the write-ahead log belongs to the database
            fold_wal(fresh)
            fresh.replace(file)
    return file


def fold_wal(file: Path) -> None:
    """Make a SQLite database one file, so that it can be copied."""
    import sqlite3

    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()


def new_sqlite(file: Path, template: Path | None) -> str:
    """The URL of a migrated SQLite database at `file`, which is made unless it exists."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        if template:
            shutil.copyfile(template, file)
        else:
            migrate(sqlite_url(file))
    return sqlite_url(file)


def new_postgres(server: PostgresServer, name: str) -> str:
    """The URL of a migrated database of this server; the first call makes a template (4 s, then 0.1 s)."""
    if not server.has_database(POSTGRES_TEMPLATE):
        building = f"{POSTGRES_TEMPLATE}_building"
        server.create_database(building)
        migrate(server.url(building))
        server.create_database(POSTGRES_TEMPLATE, building)
        server.drop_database(building)
    server.create_database(name, POSTGRES_TEMPLATE)
    return server.url(name)
