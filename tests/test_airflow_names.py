"""Names of Airflow's that are not documented are used in one module only."""

from __future__ import annotations

import pytest

from tests.support.airflow_names import PRIVATE_NAMES_IN, PUBLIC_MODULES, private_names
from tests.support.layers import PACKAGE, imports


def put(root, file, source):
    path = root / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(source)


def test_only_one_module_uses_names_that_airflow_does_not_document(repository):
    assert private_names(repository) == []


def test_every_module_that_is_listed_as_public_is_used(repository):
    assert {one.module for one in imports(repository)} >= PUBLIC_MODULES


SEEDS = [
    "from airflow.sdk._shared.secrets_masker import redact",
    "from airflow._shared.module_loading.file_discovery import find_path_from_directory",
    "import airflow._shared",
    "from airflow import settings",
    "from airflow.settings import dag_policy",
    "from airflow.sdk.definitions.mappedoperator import MappedOperator",
    "from airflow.sdk import _version",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from airflow.sdk.definitions import dag",
    "def late():\n    from airflow.utils.types import DagRunType",
    "from importlib import import_module\nimport_module('airflow.sdk.execution_time.task_runner')",
    "def late(runner):\n    return hasattr(runner, 'SUPERVISOR_COMMS')",
    "def late(settings):\n    return settings.get_policy_plugin_manager()",
    "def late(ti):\n    return ti.get_task_states(dag_id='d')",
]


@pytest.mark.parametrize("source", SEEDS)
@pytest.mark.parametrize("file", ["operators/a.py", "plugin.py", "dag_factory/deep/compat.py"])
def test_a_private_name_elsewhere_is_found(tmp_path, file, source):
    put(tmp_path, file, source)
    (found,) = private_names(tmp_path)
    assert file in found


@pytest.mark.parametrize("source", SEEDS)
def test_a_private_name_in_its_module_is_fine(tmp_path, source):
    put(tmp_path, f"{PRIVATE_NAMES_IN}.py", source)
    assert private_names(tmp_path) == []


@pytest.mark.parametrize(
    "source",
    [
        "from airflow.sdk import DAG, conf",
        "from airflow.sdk.exceptions import AirflowFailException",
        "import airflowish",
    ],
)
def test_a_documented_name_is_fine_anywhere(tmp_path, source):
    put(tmp_path, "operators/a.py", source)
    assert private_names(tmp_path) == []


@pytest.mark.airflow
def test_names_that_come_from_the_task_sdk_are_public_there(repository):
    from airflow import sdk

    used = {name for one in imports(repository) if one.module == "airflow.sdk" for name in one.names}
    assert used <= set(sdk.__all__)
