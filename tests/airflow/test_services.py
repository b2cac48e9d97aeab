"""Clients and stores that are made from Airflow's connections and settings."""

from __future__ import annotations

import json

import pytest

from airflow_allma.exceptions import StorageUnavailableError
from airflow_allma.operators.services import AirflowAws
from airflow_allma.storage import Backoff, Pointer, S3Store
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
