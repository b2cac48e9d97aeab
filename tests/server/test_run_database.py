"""What the pages use of Airflow's models: a change of them shows here first."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from airflow_allma import server

pytestmark = pytest.mark.airflow

COLUMNS = {
    "dag": "dag_id dag_display_name description is_paused is_stale relative_fileloc bundle_name "
    "timetable_summary timetable_description",
    "dag_tag": "dag_id name",
    "dag_version": "id dag_id version_number created_at",
    "serialized_dag": "dag_version_id dag_hash data data_compressed",
    "dag_run": "id dag_id run_id state start_date end_date run_after created_dag_version_id",
    "dag_run_note": "dag_run_id content",
    "task_instance": "dag_id run_id task_id map_index state rendered_map_index try_number start_date "
    "end_date duration dag_version_id",
    "xcom": "dag_id run_id task_id map_index key value",
    "import_error": "id filename bundle_name stacktrace",
}


def test_airflow_has_the_columns_that_the_pages_read():
    from airflow.models import import_all_models
    from airflow.models.base import Base

    import_all_models()
    tables = Base.metadata.tables
    for table, columns in COLUMNS.items():
        assert set(columns.split()) <= set(tables[table].columns.keys()), table


OLDER = {
    "completion_starts",
    "conflicts",
    "delivery",
    "early_events",
    "hand_overs",
    "marks",
    "open_waits",
    "queued_events",
    "rights",
    "run_notes",
    "waker",
    "waking",
}
"""What delivers events and starts runs: it writes."""


def test_only_one_module_of_the_pages_reads_airflows_models():
    found = set()
    for file in Path(server.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("airflow.models"):
                found.add(file.stem)
    # The auth manager wants to know the team of a Dag.
    assert found - OLDER <= {"run_database", "read_rights"}


def test_compressed_dags_are_read(pages, monkeypatch):
    from airflow.models import serialized_dag

    from tests.server.test_page_rights import flow

    monkeypatch.setattr(serialized_dag, "_COMPRESS_SERIALIZED_DAGS", True)
    pages.run(flow("compressed"))
    assert pages.get("/dags/compressed/flow")["flowId"] == "compressed"


def test_a_run_has_the_flow_of_its_own_version(pages):
    from tests.airflow.flows import compose
    from tests.server.test_page_rights import flow

    first = flow("versions")
    ran = pages.run(first)
    second = {**first, "version": 2, "steps": {"a": compose(to="b"), "b": compose()}}
    again = pages.run(second)
    old, new = (pages.get(f"/dags/versions/runs/{one.run_id}") for one in (ran, again))
    assert (old["version"], [*old["steps"]]) == (1, ["a"])
    assert (new["version"], [*new["steps"]]) == (2, ["a", "b"])
    versions = pages.get("/dags/versions/flow")["versions"]
    assert [(one["version"], one["dagVersion"]) for one in versions] == [(2, 2), (1, 1)]
