"""The Airflow that lives in the test process itself (for `dag.test()`): a home and a database of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from demo.airflow_config import sqlite_url

_homes: list[Path] = []


def enter() -> None:
    """Point this process' Airflow at a fresh temporary folder; the fixture `airflow_db` brings the database.

    Airflow reads its settings when it is imported, so this must come first.
    """
    if _homes:
        return
    if "airflow" in sys.modules:
        raise RuntimeError(
            "Airflow was imported before tests/conftest.py: it has read another home's settings."
        )
    folder = Path(tempfile.mkdtemp(prefix="allma-tests-"))
    _homes.append(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "AWS_"))]:
        del os.environ[name]
    (folder / "dags").mkdir()
    os.environ |= {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": sqlite_url(database()),
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def home() -> Path:
    """The folder that `enter` made."""
    return _homes[0]


def database() -> Path:
    """Where the metadata database is, once a test has asked for it."""
    return home() / "airflow.db"
