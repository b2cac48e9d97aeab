"""The home and the database of the Airflow in the test process (for `dag.test()`)."""

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
    """Set `AIRFLOW_HOME` to a new temporary folder; the fixture `airflow_db` creates the database.

    Airflow reads its settings when it is imported, so this must come first.
    """
    if _homes:
        return
    if "airflow" in sys.modules:
        raise RuntimeError(
            "Airflow was imported before tests/conftest.py and has read the settings of another home."
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
    """Return the folder that `enter` created."""
    return _homes[0]


def database() -> Path:
    """Return the file of the metadata database, which exists after the fixture `airflow_db`."""
    return home() / "airflow.db"
