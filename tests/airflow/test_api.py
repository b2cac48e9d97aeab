"""The Dag of docs/api.md, word for word: it type-checks, runs, and survives retries and lost tasks."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys

import pytest

import airflow_allma
from airflow_allma import ParallelBranchExecutionError, StorageConfigurationError, chunk_items
from airflow_allma.operators import chunk_api
from tests.support.airflow import aws_connection
from tests.support.moto import EndpointClients

pytestmark = pytest.mark.airflow

BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def source(repository):
    (block,) = BLOCK.findall((repository / "docs" / "api.md").read_text())
    return block


@pytest.fixture
def data_bucket(moto_endpoint, monkeypatch):
    """A bucket ``data`` of its own, reached through ``aws_default``."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws_connection(moto_endpoint)))
    s3 = EndpointClients(moto_endpoint).client("s3")
    s3.create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield s3
    for entry in s3.list_objects_v2(Bucket="data").get("Contents", []):
        s3.delete_object(Bucket="data", Key=entry["Key"])
    s3.delete_bucket(Bucket="data")


def put_users(s3, lines):
    s3.put_object(Bucket="data", Key="users.jsonl", Body="".join(f"{line}\n" for line in lines).encode())


def dag_of(source, tmp_path):
    """The Dag that a file with this source makes."""
    file = tmp_path / "score_users.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location("score_users_example", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.score_users()


@pytest.fixture
def settings(tmp_path, monkeypatch):
    folder = tmp_path / "offload"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", folder.as_uri())
    monkeypatch.setenv("AIRFLOW__ALLMA__CHUNK_BYTES", "400")
    return folder


def test_it_type_checks_strictly(source, tmp_path, repository):
    file = tmp_path / "score_users.py"
    file.write_text(source)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(file)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_it_scores_all_users_in_order_with_errors_in_their_place(
    source, tmp_path, settings, data_bucket, run_dag
):
    lines = [json.dumps({"id": n, "name": "x" * n}) for n in range(60)]
    lines[7], lines[11] = "{not json", '{"id": 11}'
    put_users(data_bucket, lines)
    ended = run_dag(dag_of(source, tmp_path))
    assert ended.state == "success"
    returned = ended.xcom("join")
    bad, incomplete = returned[7].pop("error"), returned[11].pop("error")
    assert returned == [{"id": n, "score": n} if n not in {7, 11} else {} for n in range(60)]
    assert "Line 8: " in bad["errorMessage"]
    assert incomplete["errorMessage"] == "KeyError: 'name'"
    assert len(ended.states("score")) > 3
    assert all(label.startswith("items ") for label in ended.labels("score").values())


@pytest.mark.usefixtures("settings")
def test_lost_items_are_counted_and_named(source, tmp_path, data_bucket, run_dag, capfd):
    put_users(data_bucket, [json.dumps({"id": n, "name": "x"}) for n in range(30)])
    start = "    with ChunkWriter(chunk) as results:"
    lost = f'    if chunk["number"] == 1:\n        raise SystemExit(1)\n{start}'
    strict = source.replace(", retries=2", "").replace(", fail_on_error=False", "").replace(start, lost)
    ended = run_dag(dag_of(strict, tmp_path))
    assert ended.state == "failed"
    assert ended.states("join") == {-1: "failed"}
    assert ended.states("score")[1] == "failed"
    log = "".join(capfd.readouterr())
    assert re.search(r"\d+ of 30 items failed. The first, item \d+: .*the task of chunk 1", log)


class FakeRun:
    """A run's context, for code that asks Airflow for the current one."""

    def __init__(self, monkeypatch, run_id="run-1"):
        from types import SimpleNamespace

        from airflow.sdk import timezone

        context = {
            "ti": SimpleNamespace(dag_id="d", run_id=run_id),
            "dag_run": SimpleNamespace(run_after=timezone.datetime(2026, 3, 1)),
        }
        monkeypatch.setattr("airflow.sdk.get_current_context", lambda: context)


def planned(data_bucket, lines):
    """The chunk entries that the operator plans for these lines."""
    put_users(data_bucket, lines)
    from types import SimpleNamespace

    operator = airflow_allma.S3ManifestOperator(task_id="chunks", bucket="data", key="users.jsonl")
    return operator.execute({"ti": SimpleNamespace(dag_id="d", run_id="run-1", task_id="chunks")})


def test_a_retry_runs_only_the_items_without_a_success(settings, data_bucket, monkeypatch, airflow_db):
    FakeRun(monkeypatch)
    (chunk,) = planned(data_bucket, [json.dumps({"n": n}) for n in range(10)])

    def first_try():
        with airflow_allma.ChunkWriter(chunk) as results:
            for index, item in results.items():
                if index == 3:
                    results.fail(index, ValueError("three"))
                elif index == 6:
                    raise RuntimeError("killed")
                else:
                    results.add(index, item["n"])

    with pytest.raises(RuntimeError, match="killed"):
        first_try()
    with airflow_allma.ChunkWriter(chunk) as results:
        again = [index for index, item in results.items() if results.add(index, item["n"]) is None]
    assert again == [3, 6, 7, 8, 9]
    assert airflow_allma.join_chunks([chunk]) == list(range(10))


def test_results_with_another_name_or_run_are_kept_apart(settings, data_bucket, monkeypatch, airflow_db):
    FakeRun(monkeypatch)
    (chunk,) = planned(data_bucket, ["1", "2"])
    for name in ("a", "b"):
        with airflow_allma.ChunkWriter(chunk, name=name) as results:
            for index, item in results.items():
                results.add(index, f"{name}{item}")
    assert airflow_allma.join_chunks([chunk], name="a") == ["a1", "a2"]
    assert airflow_allma.join_chunks([chunk], name="b") == ["b1", "b2"]
    FakeRun(monkeypatch, run_id="run-2")
    with pytest.raises(
        ParallelBranchExecutionError, match=r"2 of 2 items failed. The first, item 0: .*the task of chunk 0"
    ):
        airflow_allma.join_chunks([chunk], name="a")


def test_items_can_be_read_twice_in_one_try(settings, data_bucket, monkeypatch, airflow_db):
    FakeRun(monkeypatch)
    (chunk,) = planned(data_bucket, ["1", "2"])
    with airflow_allma.ChunkWriter(chunk) as results:
        count = sum(1 for _ in results.items())
        for index, item in results.items():
            results.add(index, item / count)
    assert airflow_allma.join_chunks([chunk]) == [0.5, 1.0]


@pytest.mark.parametrize("index", [-1, 1, 7])
def test_an_index_that_was_not_read_is_refused(settings, data_bucket, monkeypatch, airflow_db, index):
    FakeRun(monkeypatch)
    (chunk,) = planned(data_bucket, ["1", "2"])
    with airflow_allma.ChunkWriter(chunk) as results:
        next(results.items())
        with pytest.raises(ValueError, match="has not been read"):
            results.add(index, 1)
        with pytest.raises(ValueError, match="has not been read"):
            results.fail(index, ValueError())


def test_an_item_without_a_result_in_a_finished_task_is_named(settings, data_bucket, monkeypatch, airflow_db):
    FakeRun(monkeypatch)
    (chunk,) = planned(data_bucket, ["1", "2"])
    with airflow_allma.ChunkWriter(chunk) as results:
        for index, item in results.items():
            if index:
                results.add(index, item)
    with pytest.raises(ParallelBranchExecutionError, match="added no result for it"):
        airflow_allma.join_chunks([chunk])


def test_results_need_an_offload_location(data_bucket, monkeypatch, airflow_db):
    FakeRun(monkeypatch)
    (chunk,) = planned(data_bucket, ["1"])
    with pytest.raises(StorageConfigurationError, match=r"\[allma\] offload_location"):
        airflow_allma.ChunkWriter(chunk)


def test_items_can_be_read_without_results(data_bucket, airflow_db):
    (chunk,) = planned(data_bucket, ['{"n": 1}', '{"n": 2}'])
    assert list(chunk_items(chunk)) == [{"n": 1}, {"n": 2}]


def test_a_chunk_of_a_forks_list_is_refused(airflow_db):
    chunk = {"number": 0, "label": "", "first": 0, "count": 2, "manifest": None}
    with pytest.raises(ValueError, match="only the fork itself can read"):
        next(chunk_items(chunk))


@pytest.mark.parametrize("name", ["ChunkWriter", "S3ManifestOperator", "chunk_items", "join_chunks"])
def test_the_names_are_the_same_in_both_packages(name):
    from airflow_allma import operators

    assert getattr(operators, name) is getattr(airflow_allma, name)
    assert not hasattr(operators, "__file__") or getattr(operators, name) is not chunk_api
