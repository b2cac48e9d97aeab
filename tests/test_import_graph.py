"""No modules import each other in a circle, and some must not reach Airflow through any other."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.import_graph import FREE_OF_AIRFLOW, circles, import_graph, reach_airflow
from tests.support.layers import PACKAGE


def put(root, files):
    for name, source in files.items():
        path = root / PACKAGE / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)


def test_no_modules_import_each_other_in_a_circle(repository):
    assert circles(repository) == []


@pytest.mark.parametrize(
    "files",
    [
        {"flow/a": "from airflow_allma.flow.b import B", "flow/b": "import airflow_allma.flow.a"},
        {"flow/a": "from .b import B", "flow/b": "def late():\n    from airflow_allma.flow import a"},
        {
            "flow/a": "from airflow_allma.flow import b",
            "flow/b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import A",
        },
        {
            "flow/__init__": "",
            "flow/a": "from airflow_allma.flow.c import C",
            "flow/b": "from airflow_allma.flow.a import A",
            "flow/c": "from airflow_allma.flow.b import B",
        },
        {"flow/__init__": "from airflow_allma.flow.a import A", "flow/a": "from airflow_allma.flow import A"},
        {"engine/a": "from airflow_allma.flow.b import B", "flow/b": "from airflow_allma.engine.a import A"},
    ],
)
def test_a_circle_of_imports_is_found(tmp_path, files):
    put(tmp_path, {"__init__": "", "storage/s": "import json", **files})
    (circle,) = circles(tmp_path)
    assert len(circle) == len([name for name in files if files[name]])


def test_a_package_that_exports_its_modules_is_not_a_circle(tmp_path):
    files = {
        "flow/__init__": "from airflow_allma.flow.a import A\nfrom airflow_allma.flow.b import B",
        "flow/a": "from airflow_allma.flow.b import B",
        "flow/b": "import json",
    }
    put(tmp_path, files)
    assert circles(tmp_path) == []


def test_no_two_modules_have_the_same_name(repository):
    names = Counter(path.stem for path in (repository / PACKAGE).rglob("*.py"))
    assert [name for name, count in names.items() if count > 1 and not name.startswith("__")] == []


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
    files = {
        "__init__": "",
        "dag_factory/__init__": "from airflow_allma.dag_factory.build import dag",
        "dag_factory/build": other,
        "dag_factory/plan": free,
    }
    put(tmp_path, files)
    (found,) = reach_airflow(tmp_path, {"dag_factory.plan"})
    assert found.startswith("dag_factory.plan reaches Airflow through ")
