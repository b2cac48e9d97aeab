"""Shared by all tests. Airflow's own surroundings are set here, before anything can import it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import airflow_home

airflow_home.enter()

pytest_plugins = ["tests.support.airflow", "tests.support.moto"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--vectors", metavar="DIR", help="run the conformance vectors of this folder instead")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n 2 --dist loadgroup`, all tests that need a running Airflow share one worker."""
    for item in items:
        if item.get_closest_marker("scheduler"):
            item.add_marker(pytest.mark.xdist_group("scheduler"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The project's folder."""
    return Path(__file__).parents[1]
