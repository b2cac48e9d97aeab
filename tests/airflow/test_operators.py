"""Operators in hand-written Dags, the services that they use, and their logs."""

from __future__ import annotations

import copy
import json
import logging
import re
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.distributed.chunk_plan import ChunkSpec, range_label, split_list
from airflow_allma.engine import StepRecord
from airflow_allma.engine.outside_calls import HttpCall, OutsideCalls
from airflow_allma.engine.spilling_list import SpillingList
from airflow_allma.exceptions import StorageConfigurationError, StorageError
from airflow_allma.operators import S3ManifestOperator, chunk_items
from airflow_allma.operators.airflow_services import AirflowAws
from airflow_allma.operators.step_log import StepLog, short_json
from airflow_allma.operators.task_context import flow_execution_id
from airflow_allma.storage import LocalStore, Pointer
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, flow, fork
from tests.support.airflow import aws_connection
from tests.support.moto import EndpointClients

pytestmark = pytest.mark.airflow


def test_a_hand_written_dag_maps_its_own_task_over_the_chunks_of_an_object(
    run_dag, moto_endpoint, monkeypatch
):
    s3 = EndpointClients(moto_endpoint).client("s3")
    s3.create_bucket(Bucket="hand", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="hand", Key="n.jsonl", Body="".join(f'{{"n": {n}}}\n' for n in range(100)).encode())
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_AWS", json.dumps(aws_connection(moto_endpoint)))
    with DAG("hand-written", schedule=None) as dag:
        chunks = S3ManifestOperator(
            task_id="chunks", bucket="hand", key="{{ params.get('k', 'n.jsonl') }}",
            aws_conn_id="shop_aws", chunk_bytes=300,
        )  # fmt: skip

        @task(map_index_template="{{ task.op_kwargs['chunk']['label'] }}")
        def total(chunk):
            return sum(item["n"] for item in chunk_items(chunk, aws_conn_id="shop_aws"))

        @task
        def everything(parts):
            return sum(parts)

        everything(total.expand(chunk=chunks.output))
    ended = run_dag(dag)
    assert ended.state == "success"
    assert ended.xcom("everything") == 4950
    assert len(ended.states("total")) == 4
    assert ended.labels("total")[0].startswith("items 0-")


def test_a_hand_written_dag_reads_a_part_of_a_document(run_dag, moto_endpoint, monkeypatch, tmp_path):
    s3 = EndpointClients(moto_endpoint).client("s3")
    s3.create_bucket(Bucket="part", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="part", Key="d.json", Body=json.dumps({"a": {"rows": list(range(9))}}).encode())
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_AWS", json.dumps(aws_connection(moto_endpoint)))
    monkeypatch.setenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", "s3://part/offload")
    reader = {"itemsAt": "$.a.rows", "maxItems": 7}
    with DAG("part-of-document", schedule=None) as dag:
        chunks = S3ManifestOperator(
            task_id="chunks", bucket="part", key="d.json", item_reader=reader,
            aws_conn_id="shop_aws", chunk_bytes=4,
        )  # fmt: skip

        @task
        def read(chunk):
            return list(chunk_items(chunk, aws_conn_id="shop_aws"))

        @task
        def everything(parts):
            return [item for part in parts for item in part]

        everything(read.expand(chunk=chunks.output))
    assert run_dag(dag).xcom("everything") == list(range(7))


@pytest.mark.parametrize(
    ("reader", "problem"),
    [
        ({"format": "XML"}, "itemReader.format"),
        ({"formatt": "CSV"}, "no field 'formatt'"),
        ({"csv": {"quotes": "'"}}, "no field 'csv.quotes'"),
        ({"maxItems": "$.n"}, "must be a number"),
    ],
)
def test_a_reader_option_that_is_not_valid_is_named(reader, problem):
    operator = S3ManifestOperator(task_id="chunks", bucket="b", key="k", item_reader=reader)
    run = SimpleNamespace(dag_id="d", run_id="r", task_id="chunks")
    with pytest.raises(AirflowFailException, match=re.escape(problem)):
        operator.execute({"ti": run})


def test_a_hand_written_dag_lists_the_objects_below_a_prefix(moto_endpoint, airflow_db, monkeypatch):
    s3 = EndpointClients(moto_endpoint).client("s3")
    s3.create_bucket(Bucket="many", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    for number in range(5):
        s3.put_object(Bucket="many", Key=f"in/{number}", Body=b'"%d"' % number)
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_AWS", json.dumps(aws_connection(moto_endpoint)))
    monkeypatch.setenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", "s3://many/offload")
    operator = S3ManifestOperator(
        task_id="chunks", bucket="many", key="in/", aws_conn_id="shop_aws", chunk_bytes=400,
        item_reader={"format": "OBJECTS", "read": "JSON"},
    )  # fmt: skip
    chunks = operator.execute({"ti": SimpleNamespace(dag_id="d", run_id="r", task_id="chunks")})
    assert [chunk["label"] for chunk in chunks] == ["items 0-2", "items 3-4"]
    items = [item for chunk in chunks for item in chunk_items(chunk, aws_conn_id="shop_aws")]
    assert [(item["key"], item["content"]) for item in items] == [(f"in/{n}", str(n)) for n in range(5)]


def test_a_missing_object_is_named_with_its_connection(run_dag, moto_endpoint, monkeypatch, capfd):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_AWS", json.dumps(aws_connection(moto_endpoint)))
    with DAG("no-object", schedule=None) as dag:
        S3ManifestOperator(task_id="chunks", bucket="nowhere", key="n.jsonl", aws_conn_id="shop_aws")
    assert run_dag(dag).state == "failed"
    output = "".join(capfd.readouterr())
    assert "s3://nowhere/n.jsonl" in output
    assert "Airflow connection 'shop_aws'" in output


def test_a_missing_connection_is_reported_with_its_setting(airflow_db):
    with pytest.raises(StorageConfigurationError) as missing:
        AirflowAws("not_there").client("s3")
    assert "'not_there'" in str(missing.value)
    assert "[allma] aws_conn_id" in str(missing.value)
    assert "airflow.awsConnId" in str(missing.value)


def test_clients_come_from_the_connection_and_are_made_once(airflow_db, moto_endpoint, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_AWS", json.dumps(aws_connection(moto_endpoint)))
    aws = AirflowAws("shop_aws")
    client = aws.client("s3")
    assert client.meta.endpoint_url == moto_endpoint
    assert client.meta.region_name == "eu-central-1"
    assert aws.client("s3") is client
    assert aws.connection == "Airflow connection 'shop_aws'"


def test_step_records_are_one_bounded_and_masked_block(caplog):
    log = logging.getLogger("airflow_allma.task")
    calls = OutsideCalls()
    calls.add(HttpCall("GET", "https://api.test/?token=sesame", 503, 9.0, 0, 0))
    calls.add(HttpCall("GET", "https://api.test/?token=sesame", 200, 9.0, 0, 11))
    record = StepRecord(
        step_id="a",
        step_type="API_CALL",
        input={"apiKey": "sesame", "text": "x" * 1000},
        output={"ok": True},
        error=None,
        next_step="b",
        seconds=0.25,
        tries=2,
        calls=calls,
    )
    with caplog.at_level(logging.INFO, log.name):
        StepLog(log, 100)(record)
    lines = [entry.getMessage() for entry in caplog.records]
    assert lines[0] == "::group::Step a (API_CALL): done in 0.250 s"
    assert lines[-1] == "::endgroup::"
    assert "sesame" not in "".join(lines)
    assert lines[1].endswith("... (1029 bytes in total)")
    assert lines[2:7] == [
        'output: {"ok": true}',
        "called: 503 from GET https://api.test/?token=*** in 9 ms, 0 bytes sent, 0 received",
        "called: 200 from GET https://api.test/?token=*** in 9 ms, 0 bytes sent, 11 received",
        "tries:  2",
        "next:   b",
    ]


@pytest.mark.parametrize(
    ("value", "most", "shown"),
    [
        ("ab", 4, '"ab"'),
        ("abc", 4, '"abc... (5 bytes in total)'),
        ("äöü", 8, '"äöü"'),
        ("äöü", 7, '"äöü... (8 bytes in total)'),
        ("äöü", 6, '"äö... (8 bytes in total)'),
        ("\ud800", 20, '"\\ud800"'),
    ],
)
def test_log_lines_are_cut_to_a_number_of_bytes_at_whole_characters(value, most, shown):
    assert short_json(value, most) == shown


def test_a_chunk_logs_failures_only_and_only_some_of_them(caplog):
    log = logging.getLogger("airflow_allma.task")
    step_log = StepLog(log, 100, only_failures=True)
    good = StepRecord("a", "NO_OP", {}, {}, None, None, 0.0, item_index=1, branch_id="b")
    bad = StepRecord("a", "NO_OP", {}, None, {"errorName": "E"}, None, 0.0, item_index=2, branch_id="b")
    with caplog.at_level(logging.INFO, log.name):
        step_log(good)
        for _ in range(500):
            step_log(bad)
    assert (
        sum("::group::Step a (NO_OP) [item 2, branch b]: failed" in r.getMessage() for r in caplog.records)
        == 200
    )


def test_the_execution_id_is_the_same_for_every_try_and_differs_by_run():
    assert flow_execution_id("d", "r") == flow_execution_id("d", "r")
    assert len({flow_execution_id("d", "r"), flow_execution_id("d", "s"), flow_execution_id("e", "r")}) == 3


@given(st.integers(1, 5000), st.integers(1, 300))
def test_parts_of_a_list_cover_it_without_gaps_and_differ_by_one_at_most(count, wanted):
    chunks = split_list(count, wanted)
    assert len(chunks) == min(count, wanted)
    assert [chunk.first for chunk in chunks[1:]] == [chunk.first + chunk.count for chunk in chunks[:-1]]
    assert (chunks[0].first, chunks[-1].first + chunks[-1].count) == (0, count)
    sizes = {chunk.count for chunk in chunks}
    assert max(sizes) - min(sizes) <= 1
    assert [ChunkSpec.from_dict(json.loads(json.dumps(chunk.to_dict()))) for chunk in chunks] == chunks


@pytest.mark.parametrize(
    ("first", "count", "label"), [(0, 50, "items 0-49"), (7, 1, "item 7"), (None, 12, "12 items")]
)
def test_a_chunk_is_named_by_its_items(first, count, label):
    assert range_label(first, count) == label


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "__type", "__classname__", "__data__"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_an_item_reaches_its_task_unchanged_through_airflows_serializer(item):
    from airflow.sdk.serde import deserialize, serialize

    steps = {"f": fork(branch("w")), "w": {"stepType": "NO_OP"}}
    dag_run = FakeDagRun(flow("items", steps), {"items": [0, item]})
    assert dag_run.run("f.items") == [0, 1]
    dag_run.xcoms = {key: deserialize(serialize(value)) for key, value in dag_run.xcoms.items()}
    task = copy.copy(dag_run.dag.get_task("f.b.w"))
    task.render_template_fields(dag_run.context("f.b.w", 1))
    assert json.loads(task.item) == item


def test_small_collected_results_stay_a_list(tmp_path):
    collected = SpillingList(LocalStore(tmp_path), Pointer("b", "k.jsonl"), 100, 1000)
    for number in range(5):
        collected.add({"n": number})
    assert collected.finish() == [{"n": number} for number in range(5)]
    assert not list(tmp_path.iterdir())


def test_large_collected_results_become_an_object_and_a_pointer(tmp_path):
    (tmp_path / "b").mkdir()
    collected = SpillingList(LocalStore(tmp_path), Pointer("b", "k.jsonl"), 100, 1000)
    for number in range(50):
        collected.add({"n": number})
    assert Pointer.parse(collected.finish()) is not None
    lines = (tmp_path / "b" / "k.jsonl").read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(50))


def test_large_results_without_an_offload_location_say_what_to_set():
    collected = SpillingList(None, None, 10, 100)
    collected.add("x" * 90)
    with pytest.raises(StorageError, match="offload_location"):
        collected.add("x" * 90)
