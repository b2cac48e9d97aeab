"""The public API: what ``airflow_allma`` exports, and what importing it costs."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import airflow_allma
from airflow_allma import exceptions
from demo.processes import clean_environment


def test_the_public_names_are_exactly_the_documented_ones(repository):
    page = (repository / "docs/api.md").read_text()
    names = re.findall(r"^\| `([A-Za-z0-9_]+)`", page, re.MULTILINE)
    assert sorted(names) == sorted(airflow_allma.__all__)


@pytest.mark.parametrize("name", airflow_allma.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(airflow_allma, name) is not None
    assert name in dir(airflow_allma)


def test_every_error_is_public():
    assert set(exceptions.__all__) <= set(airflow_allma.__all__)
    for name in exceptions.__all__:
        assert getattr(airflow_allma, name) is getattr(exceptions, name)


def test_other_names_do_not_exist():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = airflow_allma.nothing


def test_importing_the_package_imports_no_heavy_dependency():
    code = "import sys, airflow_allma; print(airflow_allma.__version__, *sys.modules)"
    version, *modules = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment({}), capture_output=True, text=True, check=True
    ).stdout.split()
    assert version == airflow_allma.__version__
    assert {name for name in modules if name.startswith("airflow_allma")} == {"airflow_allma"}
    assert {"airflow", "boto3", "botocore", "pydantic", "aiohttp"}.isdisjoint(modules)
