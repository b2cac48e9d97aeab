"""The package's own order: who may import whom, and what every module owes its readers."""

from __future__ import annotations

import ast
import importlib

import pytest

from tests.support.layers import (
    KNOWS_AIRFLOW,
    LONGEST_FILE,
    MAY_IMPORT,
    PACKAGE,
    imports,
    modules,
    violations,
)


def test_imports_go_down_only(repository):
    assert violations(repository) == []


def test_every_part_of_the_package_has_its_place_in_the_order(repository):
    parts = {
        file.relative_to(repository / PACKAGE).parts[0].removesuffix(".py") for file in modules(repository)
    }
    assert parts <= set(MAY_IMPORT)
    assert len(list(imports(repository))) > 100


def test_the_order_has_no_circles():
    def below(part, on_the_way=()):
        assert part not in on_the_way
        for other in MAY_IMPORT[part]:
            below(other, (*on_the_way, part))

    for part in MAY_IMPORT:
        below(part)


SEEDS = [
    ("flow/a.py", "from airflow_allma.storage import Pointer"),
    ("flow/a.py", "import airflow_allma.expressions.paths"),
    ("expressions/a.py", "from airflow_allma import flow"),
    ("expressions/deep/a.py", "from ...flow import Flow"),
    ("storage/a.py", "from airflow_allma.engine.errors import step_error_from"),
    ("storage/a.py", "from airflow_allma.expressions import NOTHING"),
    ("engine/a.py", "def late():\n    from airflow_allma.operators import task_context"),
    ("engine/a.py", "import airflow"),
    ("engine/steps/a.py", "async def late():\n    from airflow.sdk import DAG"),
    (
        "engine/a.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from airflow.models import Dag",
    ),
    ("engine/a.py", "from importlib import import_module\nimport_module('airflow.models')"),
    ("flow/a.py", "__import__('airflow')"),
    ("operators/a.py", "from airflow_allma.dag_factory.build.dag import build"),
    ("dag_factory/a.py", "from airflow_allma.cli import app"),
    ("dag_factory/a.py", "import airflow_allma.plugin"),
    ("dag_factory/a.py", "from airflow_allma import load_flows"),
    ("example_dags/a.py", "from airflow_allma.dag_factory import load_flows"),
    ("cli/a.py", "from airflow.sdk import DAG"),
    ("exceptions.py", "from airflow_allma.flow import Flow"),
    ("newcomer/a.py", "from airflow_allma.flow import Flow"),
]


@pytest.mark.parametrize(("file", "text"), SEEDS)
def test_an_import_against_the_order_is_found(tmp_path, file, text):
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert len(violations(tmp_path)) == 1
    assert file in violations(tmp_path)[0]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("storage/a.py", "from airflow_allma.flow import Flow\nfrom .base import ObjectStore"),
        ("engine/a.py", "import json\nfrom airflow_allma.exceptions import AllmaError\nimport airflowish"),
        ("operators/a.py", "from airflow.sdk import BaseOperator\nfrom airflow_allma import engine"),
        ("example_dags/a.py", "from airflow_allma import load_flows"),
        ("provider.py", "from airflow_allma import __version__"),
    ],
)
def test_imports_along_the_order_are_fine(tmp_path, file, text):
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert violations(tmp_path) == []


def test_every_import_within_the_package_leads_somewhere(repository):
    """Also those inside functions, which fail only when they are reached."""
    missing = []
    for one in imports(repository):
        if one.module.partition(".")[0] != PACKAGE or one.module == PACKAGE:
            continue
        try:
            module = importlib.import_module(one.module)
        except ModuleNotFoundError:
            parent, _, name = one.module.rpartition(".")
            if not hasattr(importlib.import_module(parent), name):
                missing.append(str(one))
            continue
        for name in one.names:
            if hasattr(module, name):
                continue
            try:
                importlib.import_module(f"{one.module}.{name}")
            except ModuleNotFoundError:
                missing.append(f"{one}: {name}")
    assert missing == []


def names_of(repository):
    for file in modules(repository):
        name = ".".join(file.relative_to(repository).with_suffix("").parts).removesuffix(".__init__")
        if not name.endswith("__main__"):
            yield file, name


def test_every_public_name_exists_once(repository):
    for _, name in names_of(repository):
        module = importlib.import_module(name)
        public = getattr(module, "__all__", [])
        assert len(set(public)) == len(public), name
        assert [one for one in public if not hasattr(module, one)] == [], name


def test_every_package_says_what_is_public(repository):
    without = [
        name
        for file, name in names_of(repository)
        if file.name == "__init__.py" and "__all__" not in file.read_text()
    ]
    # The root and a package that holds nothing yet have no names.
    assert [name for name in without if _has_names(name)] == []


def _has_names(name):
    module = importlib.import_module(name)
    return any(
        not key.startswith("_")
        and key != "annotations"
        and getattr(value, "__module__", "").startswith(PACKAGE)
        for key, value in vars(module).items()
    )


def test_every_module_has_a_docstring_and_a_bearable_length(repository):
    for file in modules(repository):
        text = file.read_text()
        assert ast.get_docstring(ast.parse(text)), f"{file} does not say what it is for"
        assert text.count("\n") <= LONGEST_FILE, f"{file} has more than one subject, by its length"


@pytest.mark.parametrize("part", sorted(set(MAY_IMPORT) - KNOWS_AIRFLOW - {"__main__"}))
def test_parts_that_may_not_know_airflow_are_the_lower_ones_and_the_command_line(part):
    assert MAY_IMPORT[part].isdisjoint(KNOWS_AIRFLOW) or part in {"cli", "loading", "__init__"}
