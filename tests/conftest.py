"""Fixtures and hooks of all tests. Airflow's environment is set here, before anything can import it."""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import pytest
from hypothesis import settings

from tests.support import airflow_home
from tests.support.running_airflow import RUNNING_AIRFLOW

airflow_home.enter()

# In CI the same examples every time: no change should fail because of an older defect. Elsewhere they vary.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("default", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")

AIRFLOW_TESTS = Path(__file__).with_name("airflow")

# Functions with one of these arguments. Files that start an Airflow of their own run beside theirs.
_TAKES_IT = re.compile(r"def \w+\([^)]*\b(?:airflow_client|airflow_instance|deploy|deploy_source)\b")

pytest_plugins = [
    "tests.support.airflow",
    "tests.support.browser",
    "tests.support.download_server",
    "tests.support.fake_lambda",
    "tests.support.model_servers",
    "tests.support.moto",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--vectors", metavar="DIR", help="run the conformance vectors of this folder instead")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n 3`, keep the tests of a file together, and run those of the running Airflow on two workers.

    Each of the two has an Airflow of its own: one for runs that wait or start others, one for all others.
    `--dist loadgroup` would do the same with marks, but xdist 3.8 writes groups where pytest 9.2 no longer
    reads them.
    """
    from xdist.scheduler import LoadScopeScheduling

    # In the order of `pytest_collection_modifyitems`.
    config.option.loadscopereorder = False

    class OneAirflow(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(config, nodeid)

    return OneAirflow(config, log)


def _group(config: pytest.Config, nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    if not _needs_the_running_airflow(config.rootpath / file):
        return file
    return "airflow-waits" if PurePath(file).name in WAITING else "airflow"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On xdist's workers, begin with the groups that take longest, so that all workers end together."""
    if not hasattr(config, "workerinput"):
        return
    groups = {item.nodeid: _group(config, item.nodeid) for item in items}
    counts = Counter(groups.values())

    def order(item: pytest.Item) -> tuple[int, int, str]:
        group = groups[item.nodeid]
        name = PurePath(group).name
        rank = LONGEST.index(name) if name in LONGEST else len(LONGEST)
        return rank, -counts[group], group

    items.sort(key=order)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start the running Airflow again if a worker got tests of both groups after all."""
    instance = item.config.stash.get(RUNNING_AIRFLOW, None)
    if instance is not None and not instance.is_running and "airflow_instance" in item.fixturenames:
        instance.start()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """On xdist's workers, stop the running Airflow after its last test: it would slow down all others."""
    instance = item.config.stash.get(RUNNING_AIRFLOW, None)
    if instance is None or not hasattr(item.config, "workerinput"):
        return
    if nextitem is None or _group(item.config, nextitem.nodeid) != _group(item.config, item.nodeid):
        instance.stop()


LONGEST = (
    "airflow",
    "airflow-waits",
    "test_silent_api_server_scheduler.py",
    "test_celery.py",
    "test_stock_airflow.py",
)
"""Groups that take minutes, the longest first."""

WAITING = frozenset(
    f"test_{name}_scheduler.py"
    for name in (
        "completion",
        "own_runs",
        "places",
        "polling",
        "queue_bursts",
        "resume",
        "sub_flows",
        "waiting_chunks",
        "waits",
    )
)
"""The files about runs that wait, start others or are started by events: long, with little to compute."""


@cache
def _needs_the_running_airflow(file: Path) -> bool:
    return (
        file.is_relative_to(AIRFLOW_TESTS) and _TAKES_IT.search(file.read_text(encoding="utf-8")) is not None
    )


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root folder of the project."""
    return Path(__file__).parents[1]


def pytest_make_parametrize_id(config: pytest.Config, val: object) -> str | None:
    """Name gzipped bytes by their length: they contain a time, and all workers must use the same ids."""
    if isinstance(val, bytes) and val.startswith(b"\x1f\x8b"):
        return f"gzip-{len(val)}"
    return None
