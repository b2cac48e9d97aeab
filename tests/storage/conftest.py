from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.local import LocalStore
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.object_store import ObjectStore
from airflow_allma.storage.pointer import Pointer
from airflow_allma.storage.s3 import S3Store
from tests.support.moto import EndpointClients, moto_endpoint

__all__ = ["moto_endpoint"]

_numbers = itertools.count()


@dataclass(frozen=True)
class World:
    """A store with an empty bucket."""

    store: ObjectStore
    bucket: str

    def at(self, key: str) -> Pointer:
        return Pointer(self.bucket, key)


@pytest.fixture
def make_bucket(moto_endpoint: str) -> Callable[[], str]:
    def make() -> str:
        name = f"bucket-{next(_numbers)}"
        EndpointClients(moto_endpoint).client("s3").create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        return name

    return make


@pytest.fixture
def bucket(make_bucket: Callable[[], str]) -> str:
    return make_bucket()


@pytest.fixture
def client(moto_endpoint: str) -> Any:
    return EndpointClients(moto_endpoint).client("s3")


@pytest.fixture
def good(moto_endpoint: str) -> S3Store:
    return S3Store(EndpointClients(moto_endpoint))


@pytest.fixture(params=["local", "memory", "s3"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "local":
        (tmp_path / "bucket").mkdir()
        return World(LocalStore(tmp_path), "bucket")
    if request.param == "memory":
        return World(MemoryStore(), "bucket")
    endpoint = request.getfixturevalue("moto_endpoint")
    bucket = request.getfixturevalue("make_bucket")()
    store = S3Store(EndpointClients(endpoint), backoff=Backoff(sleep=lambda _: None))
    return World(store, bucket)
