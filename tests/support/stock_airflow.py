"""A stock Airflow: this project's wheel, Airflow's default configuration, and SQLite.

Only what keeps it on this machine and apart from other Airflows is set (loopback addresses, free ports, no
log servers), and what lets it wait on a busy machine: Airflow parses a hundred example Dags meanwhile.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import sysconfig
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo.airflow_client import AirflowClient
from demo.airflow_config import sqlite_url
from demo.airflow_instance import STANDALONE_WRAPPER
from demo.processes import ManagedProcess, clean_environment, free_port, wait_until

START_SECONDS = 240.0
QUIET_SECONDS = 10.0
HEALTHY = {"metadatabase", "scheduler", "dag_processor", "triggerer"}
_ERROR = re.compile(
    r"\b(ERROR|CRITICAL)\b|\[(error|critical) *\]|\"level\": ?\"(error|critical)\"|\bTraceback "
)


class WheelEnvironment:
    """A virtual environment with the wheel of this project, and all else from the environment of the tests.

    The other packages are found through a path file: such a folder comes last on ``sys.path``, and its own
    path files, that of the editable install among them, are not read. So the wheel's code, entry points and
    scripts are the ones in use.
    """

    def __init__(self, folder: Path, repository: Path) -> None:
        build = [
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "--target",
            "wheel",
            "--directory",
            folder / "dist",
        ]
        subprocess.run(build, cwd=repository, check=True, capture_output=True)
        (self.wheel,) = (folder / "dist").glob("*.whl")
        home = folder / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True, capture_output=True)
        self.bin = home / "bin"
        self.python = self.bin / "python"
        uv = [Path(sys.executable).with_name("uv"), "pip", "install", "--offline", "--no-deps", "--no-cache"]
        subprocess.run([*uv, "--python", self.python, self.wheel], check=True, capture_output=True)
        (packages,) = home.glob("lib/python*/site-packages")
        (packages / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(self, *command: str | Path, cwd: Path) -> str:
        """Run one of its commands; return standard output."""
        name, *arguments = command
        ran = subprocess.run(
            [self.bin / name, *arguments],
            cwd=cwd,
            env=_environment({}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout


@contextmanager
def stock_airflow(
    environment: WheelEnvironment,
    home: Path,
    connections: Mapping[str, Mapping[str, Any]],
    *,
    is_patient: bool = True,
) -> Iterator[AirflowClient]:
    """Run ``airflow standalone`` with the home (and dags folder) given; yield a client that is signed in.

    Args:
        environment: where this project is installed.
        home: `AIRFLOW_HOME`, with the dags folder.
        connections: Airflow connections by id, each a dict as in Airflow's JSON form.
        is_patient: whether it waits longer than by default for the API server and the database.
    """
    port = free_port()
    wrapper = environment.bin / "airflow"
    wrapper.write_text(STANDALONE_WRAPPER.format(python=environment.python))
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    own = {
        "AIRFLOW_HOME": str(home),
        "HOME": str(home),
        "PATH": f"{environment.bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        # The default asks a name server.
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    if is_patient:
        own |= {
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": sqlite_url(home / "airflow.db"),
        }
    named = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()}
    process = ManagedProcess(
        "standalone",
        [wrapper, "standalone"],
        log=home / "logs" / "standalone.log",
        env=_environment(own | named),
        cwd=home,
    )
    process.start()
    try:
        passwords = home / "simple_auth_manager_passwords.json.generated"
        # Airflow creates the file, and writes it later.
        wait_until(
            lambda: passwords.exists() and passwords.stat().st_size > 0,
            what="the password of admin",
            processes=[process],
            timeout=START_SECONDS,
        )
        password = json.loads(passwords.read_text())["admin"]
        client = AirflowClient(f"http://127.0.0.1:{port}", "admin", password)

        def healthy() -> bool:
            return {name for name, state in (client.health() or {}).items() if state == "healthy"} >= HEALTHY

        wait_until(healthy, what="Airflow", processes=[process], timeout=START_SECONDS)
        yield client
        client.close()
    finally:
        process.stop()


def wait_for_dags(client: AirflowClient, wanted: Collection[str], timeout: float = 300.0) -> None:
    """Wait until these Dags exist and no more Dags appear: Airflow has then parsed all other files too."""
    count = 0
    since = time.monotonic()

    def parsed() -> bool:
        nonlocal count, since
        found = {dag["dag_id"] for dag in client.dags()}
        if len(found) != count:
            count, since = len(found), time.monotonic()
        return found.issuperset(wanted) and time.monotonic() - since > QUIET_SECONDS

    wait_until(parsed, what=f"the Dags {', '.join(wanted)}", timeout=timeout, pause=1.0)


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    environment = clean_environment(extra)
    # It would put the sources in front of the wheel.
    environment.pop("PYTHONPATH", None)
    return environment


def error_lines(folder: Path) -> list[str]:
    """Return the lines of all log files below a folder that report an error, each with its file."""
    return [
        f"{file.relative_to(folder)}: {line[:300]}"
        for file in sorted(folder.rglob("*.log"))
        for line in file.read_text(errors="replace").splitlines()
        if _ERROR.search(line)
    ]
