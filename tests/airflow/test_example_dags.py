"""The example Dags that Airflow finds through the provider's name, and the loader files of users."""

from __future__ import annotations

import importlib
import json
import logging
import re
from pathlib import Path

import pytest
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.utils.file import might_contain_dag_via_default_heuristic

from airflow_allma.cli.init_command import EXAMPLES, LOADER_FILES
from airflow_allma.provider import get_provider_info

pytestmark = pytest.mark.airflow

FOLDER = Path(importlib.import_module("airflow_allma.example_dags").__file__).parent


def test_airflow_finds_the_folder_and_logs_no_error(monkeypatch, caplog):
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "True")
    with caplog.at_level(logging.WARNING):
        bundles = {bundle.name: bundle for bundle in DagBundlesManager().get_all_dag_bundles()}
    assert bundles[f"{get_provider_info()['package-name']}-example-dags"].path == FOLDER
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_both_example_flows_are_dags():
    module = importlib.import_module("airflow_allma.example_dags.example_allma_flows")
    dags = {name: value for name, value in vars(module).items() if name.startswith("example-")}
    assert sorted(dags) == ["example-enrich-users", "example-product-details"]
    for dag_id, dag in dags.items():
        assert dag.dag_id == dag_id
        assert {"allma", "example"} <= dag.tags


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_flows_differ_from_those_in_dags_by_their_ids_alone(repository, name):
    packaged = json.loads((FOLDER / name).read_text())
    own = json.loads((repository / "dags" / name).read_text())
    assert packaged == own | {"id": f"example-{own['id']}"}


def test_airflow_reads_every_loader_file(tmp_path, repository):
    """Airflow passes over Python files without the words "airflow" and "dag"."""
    sources = [*LOADER_FILES.values(), (FOLDER / "example_allma_flows.py").read_text()]
    for page in [repository / "README.md", *(repository / "docs").rglob("*.md")]:
        blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
        sources += [block for block in blocks if re.search(r"\b(load_flows|report_problems)\(", block)]
    assert len(sources) > len(LOADER_FILES) + 1
    for source in sources:
        file = tmp_path / "loader.py"
        file.write_text(source)
        assert might_contain_dag_via_default_heuristic(str(file)), source
