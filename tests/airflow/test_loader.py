"""Folders of flow files as Dags."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from airflow_allma.dag_factory import load_flows
from tests.airflow.flows import compose, flow
from tests.support.flow_files import write

pytestmark = pytest.mark.airflow


def test_every_flow_below_a_folder_becomes_a_dag(tmp_path):
    write(tmp_path, "a.json", flow("a", {"s": compose()}))
    write(tmp_path, "deep/er/b.json", flow("b", {"s": compose()}))
    write(tmp_path, "other.json", {"no": "flow"})
    loader = write(tmp_path, "loader.py", "")
    assert list(load_flows(loader)) == ["a", "b"]
    assert list(load_flows([tmp_path / "deep"])) == ["b"]


def test_a_broken_file_affects_no_other_flow_and_is_reported_with_its_location(tmp_path, caplog):
    write(tmp_path, "good.json", flow("good", {"s": compose()}))
    write(tmp_path, "syntax.json", '{"id": "syntax",\n  "steps": oops}')
    write(tmp_path, "target.json", flow("target", {"s": compose(to="nowhere")}))
    write(tmp_path, "date.json", flow("date", {"s": compose()}, airflow={"startDate": "soon"}))
    problems = []
    with caplog.at_level(logging.INFO, "airflow_allma.loader"):
        assert list(load_flows(tmp_path, on_problem=problems.append)) == ["good"]
    logged = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("allma_problem ") and "syntax.json:2:" in text for text in logged)
    assert any("nowhere" in text and "$.steps.s.defaultNextStepInstanceId" in text for text in logged)
    assert {problem.file.rpartition("/")[2] for problem in problems if problem.is_error} == {
        "syntax.json", "target.json", "date.json",
    }  # fmt: skip
    (summary,) = (text for text in logged if text.startswith("allma_load "))
    assert "dags=1 errors=3" in summary


def test_of_several_versions_the_highest_published_one_is_the_dag(tmp_path):
    for version, published in ((1, True), (2, True), (3, False)):
        write(
            tmp_path,
            f"v{version}.json",
            flow("f", {f"s{version}": compose()}, version=version, isPublished=published),
        )
    (dag,) = load_flows(tmp_path).values()
    assert dag.task_ids == ["s2"]


def test_a_task_process_builds_only_its_own_dag(tmp_path):
    for number in range(5):
        write(tmp_path, f"f{number}.json", flow(f"f-{number}", {"s": compose()}))
    assert list(load_flows(tmp_path, only="f-3")) == ["f-3"]


def test_a_task_process_reads_only_the_files_that_name_its_dag(tmp_path):
    write(tmp_path, "mine.json", flow("mine", {"s": compose()}))
    broken = write(tmp_path, "broken.json", "{")
    problems = []
    assert list(load_flows(tmp_path, only="mine", on_problem=problems.append)) == ["mine"]
    assert not [problem for problem in problems if problem.file == str(broken)]


def test_a_flow_whose_id_airflow_does_not_accept_is_found_by_its_dag_id_too(tmp_path):
    write(tmp_path, "f.json", flow("a.b c", {"s": compose()}))
    (dag_id,) = load_flows(tmp_path)
    assert list(load_flows(tmp_path, only=dag_id)) == [dag_id]


def test_parsing_imports_nothing_that_only_tasks_need(tmp_path):
    write(tmp_path, "f.json", flow("f", {"s": compose()}))
    program = (
        "import sys;import airflow.sdk;before=set(sys.modules);"
        "from airflow_allma.dag_factory import load_flows;"
        f"assert list(load_flows({str(tmp_path)!r}))==['f'];"
        "print(sorted(n for n in set(sys.modules)-before if n.partition('.')[0] in "
        "{'boto3','botocore','aiohttp'} or n.startswith('airflow.providers.amazon')))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
