"""Modules that must stay free of Airflow reach it neither directly nor through other modules."""

from __future__ import annotations

import pytest

from tests.support.import_graph import FREE_OF_AIRFLOW, import_graph, reach_airflow
from tests.support.layers import PACKAGE


def test_modules_that_must_not_import_airflow_do_not(repository):
    assert reach_airflow(repository) == []


def test_every_module_that_must_not_import_airflow_exists(repository):
    assert import_graph(repository).keys() >= FREE_OF_AIRFLOW


@pytest.mark.parametrize(
    ("free", "other"),
    [
        ("from airflow.sdk import DAG", ""),
        ("def late():\n    from airflow.sdk import DAG", ""),
        ("from airflow_allma.dag_factory import build", "import airflow"),
        ("from airflow_allma.dag_factory.build import dag", "from airflow.sdk import DAG"),
        ("def late():\n    from airflow_allma import dag_factory", "def late():\n    import airflow.sdk"),
    ],
)
def test_a_module_that_reaches_airflow_is_found(tmp_path, free, other):
    for name, source in {
        "__init__": "",
        "dag_factory/__init__": "from airflow_allma.dag_factory.build import dag",
        "dag_factory/build": other,
        "dag_factory/plan": free,
    }.items():
        path = tmp_path / PACKAGE / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    (found,) = reach_airflow(tmp_path, {"dag_factory.plan"})
    assert found.startswith("dag_factory.plan reaches Airflow through ")
