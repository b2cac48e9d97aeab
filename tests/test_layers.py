"""Rules for the package: which layer may import which, and what every module must have."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import pytest

from tests.support.layers import (
    KNOWS_AIRFLOW,
    MAX_LINES,
    MAY_IMPORT,
    PACKAGE,
    imports,
    module_name,
    modules,
    violations,
)


def test_imports_go_down_only(repository):
    assert violations(repository) == []


def test_every_part_of_the_package_is_in_the_order(repository):
    parts = {
        file.relative_to(repository / PACKAGE).parts[0].removesuffix(".py") for file in modules(repository)
    }
    assert parts <= set(MAY_IMPORT)
    assert len(list(imports(repository))) > 100


SEEDS = [
    ("flow/a.py", "from airflow_allma.storage import Pointer"),
    ("flow/a.py", "import airflow_allma.expressions.paths"),
    ("expressions/a.py", "from airflow_allma import flow"),
    ("expressions/deep/a.py", "from ...flow import Flow"),
    ("storage/a.py", "from airflow_allma.engine.errors import step_error_from"),
    ("storage/a.py", "from airflow_allma.expressions import NOTHING"),
    ("storage/a.py", "from airflow_allma.flow import Flow"),
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
        ("storage/a.py", "from airflow_allma.common import merging\nfrom .object_store import ObjectStore"),
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


def test_every_import_within_the_package_exists(repository):
    """Also those inside functions, which fail only when the function runs."""
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
        name = module_name(repository, file)
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
    # The root, and packages without names, need no __all__.
    assert [name for name in without if _has_names(name)] == []


def _has_names(name):
    module = importlib.import_module(name)
    return any(
        not key.startswith("_")
        and key != "annotations"
        and getattr(value, "__module__", "").startswith(PACKAGE)
        for key, value in vars(module).items()
    )


def test_every_module_has_a_docstring_and_is_not_too_long(repository):
    for file in modules(repository):
        source = file.read_text()
        assert ast.get_docstring(ast.parse(source)), f"{file} has no docstring"
        assert source.count("\n") <= MAX_LINES, f"{file} is too long: split it by subject"


def test_modules_outside_of_the_airflow_layers_import_without_airflow(repository):
    with_airflow = KNOWS_AIRFLOW | {"example_dags"}  # Dag files, which Airflow imports
    names = [
        name
        for file, name in names_of(repository)
        if file.relative_to(repository / PACKAGE).parts[0].removesuffix(".py") not in with_airflow
    ]
    assert len(names) > 100
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'airflow' not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
