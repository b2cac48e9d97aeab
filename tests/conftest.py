"""Shared by all tests. Airflow's own surroundings are set here, before anything can import it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import airflow_home

airflow_home.enter()

AIRFLOW_TESTS = "tests/airflow/"

pytest_plugins = ["tests.support.airflow", "tests.support.moto"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--vectors", metavar="DIR", help="run the conformance vectors of this folder instead")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n 2`, a file's tests stay together, and all Airflow tests share one worker and its Airflow.

    `--dist loadgroup` would say the same with marks, but xdist 3.8 writes groups where pytest 9.2 no longer
    looks.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneAirflow(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "airflow" if nodeid.startswith(AIRFLOW_TESTS) else nodeid.partition("::")[0]

    return OneAirflow(config, log)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The project's folder."""
    return Path(__file__).parents[1]
