"""Clients and stores that are made from Airflow's connections and settings."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from airflow_allma.configuration import load_settings
from airflow_allma.distributed.chunk_plan import manifest_chunks
from airflow_allma.exceptions import StorageUnavailableError
from airflow_allma.operators.airflow_services import AirflowAws, build_services
from airflow_allma.operators.chunk_api import chunk_items
from airflow_allma.storage import Backoff, LocalStore, Pointer, S3Store, plan_manifest, store_value
from tests.support.airflow import aws_connection
from tests.support.faulty_proxy import Fault, faulty_proxy

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize("retries", [None, {"mode": "standard", "max_attempts": 4}])
def test_a_connections_retries_do_not_multiply_those_of_the_store(
    airflow_db, moto_endpoint, monkeypatch, retries
):
    with faulty_proxy(moto_endpoint, lambda _: Fault.SLOW_DOWN) as (url, calls):
        connection = aws_connection(url)
        if retries is not None:
            connection["extra"]["config_kwargs"] = {"retries": retries, "max_pool_connections": 7}
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_AWS", json.dumps(connection))
        aws = AirflowAws("shop_aws")
        store = S3Store(aws, backoff=Backoff(attempts=3, sleep=lambda _: None))
        with pytest.raises(StorageUnavailableError, match="after 3 attempts"):
            store.head(Pointer("b", "k"))
        assert len(calls) == 3
    if retries is not None:
        # Everything else that the connection says stays, and clients for other purposes retry as it says.
        client = aws.client("s3", retries=False)
        assert client.meta.config.max_pool_connections == 7
        assert client.meta.config.retries == {"mode": "standard", "total_max_attempts": 1}
        assert aws.client("s3").meta.config.retries == {"mode": "standard", "total_max_attempts": 5}


@pytest.fixture
def folder(tmp_path):
    """A folder whose name is percent-encoded in a URI, and its location as a setting."""
    made = tmp_path / "a b"
    made.mkdir()
    return made, f"file://{tmp_path}/a%20b"


def test_a_task_reaches_the_folder_of_a_percent_encoded_offload_location(airflow_db, folder):
    path, location = folder
    services = build_services(load_settings().changed(offload_location=location), logging.getLogger())
    pointer = store_value(services.store, services.settings.offload_location, {"n": 1}, "dag", "run")
    assert json.loads(services.store.read(pointer)) == {"n": 1}
    assert list(path.rglob("*.json"))


def test_a_task_reads_a_chunk_in_the_folder_of_a_percent_encoded_offload_location(airflow_db, folder):
    path, location = folder
    (path / "m.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    store = LocalStore(path)
    manifest = Pointer.from_uri(f"{location}/m.jsonl")
    plan = plan_manifest(store, manifest, range_bytes=1 << 20, max_ranges=1)
    (chunk,) = manifest_chunks(plan, store)
    assert list(chunk_items(chunk.to_dict(), offload_location=location)) == [{"n": 1}, {"n": 2}]


def test_as_many_calls_of_aws_can_be_in_flight_as_a_chunk_runs_items(airflow_db, moto_endpoint, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws_connection(moto_endpoint)))
    services = build_services(load_settings().changed(chunk_concurrency=100), logging.getLogger())
    client = services.aws.client("sqs", "eu-west-3", retries=False)
    assert client.meta.config.max_pool_connections == 100
    assert client.meta.config.retries["total_max_attempts"] == 1
    assert services.aws.client("sqs", "eu-west-3", retries=False) is client
    assert services.aws.client("lambda").meta.config.read_timeout > 15 * 60

    async def free_slots():
        return services.threads.slots._value

    assert asyncio.run(free_slots()) == 100
