"""docs/limits.md is true: each setting and constant exists with that value, and has a test."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from airflow_allma.engine import EngineSettings
from airflow_allma.flow import AirflowOptions
from airflow_allma.settings import ENGINE_LIMITS, OPTIONS, AllmaSettings
from tests.docs.test_docs import ROOT

PAGE = (ROOT / "docs/limits.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| what ", "| --- "))
]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_limit_exists_with_its_value_and_is_tested(row):
    _, default, name, _, test = row
    code = (ROOT / test.strip("`")).read_text()
    if default == "none":
        assert name == ""
        return
    name = name.strip("`")
    if name in OPTIONS:
        assert OPTIONS[name].default == default
    else:
        module, _, constant = name.rpartition(".")
        assert str(getattr(import_module(f"airflow_allma.{module}"), constant)) == default
    assert re.search(rf"\b{name.rpartition('.')[2]}\b|max_work|{default}", code), test


def test_every_limit_of_the_engine_is_listed_and_is_not_for_flows():
    named = [row[2].strip("`") for row in ROWS]
    for name in ENGINE_LIMITS:
        assert name in named
        assert getattr(EngineSettings(), name) == int(OPTIONS[name].default)
        assert name not in AirflowOptions.model_fields
        assert getattr(AllmaSettings.without_airflow(), name) == int(OPTIONS[name].default)
