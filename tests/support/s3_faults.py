"""S3 whose calls fail on purpose."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import botocore.exceptions

from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.s3 import S3Store
from tests.support.faulty_proxy import Call, Plan, faulty_proxy
from tests.support.moto import EndpointClients

DATA = random.Random(7).randbytes(3_000_000)


@contextmanager
def broken(endpoint: str, plan: Plan, **backoff: Any) -> Iterator[tuple[S3Store, list[Call], list[float]]]:
    pauses: list[float] = []
    with faulty_proxy(endpoint, plan) as (url, calls):
        store = S3Store(EndpointClients(url), backoff=Backoff(sleep=pauses.append, **backoff))
        yield store, calls, pauses


class Intercepting:
    """A client provider whose client does everything but one operation as the real one."""

    connection = "test"

    def __init__(self, client: Any, operation: str, replacement: Callable[..., Any]) -> None:
        self._real = client
        setattr(self, operation, replacement)

    def client(self, service: str, region: str | None = None, *, retries: bool = True) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def answer_with(code: str, status: int) -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError(
        {"Error": {"Code": code, "Message": "said"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Any"
    )
