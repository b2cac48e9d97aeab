"""A call of the S3 store makes as many requests as its back-off promises, whoever made the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_allma.common.aws_clients import EnvironmentAws
from airflow_allma.exceptions import StorageUnavailableError
from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.pointer import Pointer
from airflow_allma.storage.s3 import S3Store
from airflow_allma.storage.s3_writer import PART_BYTES
from tests.support.faulty_proxy import Call, Fault, faulty_proxy

AT = Pointer("any", "k")
ATTEMPTS = 3
QUICK = Backoff(attempts=ATTEMPTS, sleep=lambda _: None)


def write_part(store: S3Store) -> None:
    with store.open_writer(AT) as writer:
        writer.write(bytes(PART_BYTES))


CALLS: dict[str, Callable[[S3Store], Any]] = {
    "head": lambda store: store.head(AT),
    "read": lambda store: store.read(AT),
    "stream": lambda store: list(store.stream(AT)),
    "write": lambda store: store.write(AT, b"data"),
    "list": lambda store: list(store.list(AT.bucket)),
    "a multipart upload": write_part,
}
MODES = ["", "legacy", "standard", "adaptive"]


def clients_of(endpoint: str, monkeypatch: pytest.MonkeyPatch, mode: str) -> EnvironmentAws:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    if mode:
        monkeypatch.setenv("AWS_RETRY_MODE", mode)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "4")
    return EnvironmentAws()


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.RESET])
@pytest.mark.parametrize("mode", MODES)
def test_a_call_makes_one_request_for_each_attempt(monkeypatch, mode: str, fault: Fault):
    with faulty_proxy("http://127.0.0.1:9", lambda _: fault) as (url, calls):
        store = S3Store(clients_of(url, monkeypatch, mode), backoff=QUICK)
        requests = {}
        for name, call in CALLS.items():
            calls.clear()
            with pytest.raises(StorageUnavailableError, match=f"after {ATTEMPTS} attempts"):
                call(store)
            requests[name] = len(calls)
    assert requests == dict.fromkeys(CALLS, ATTEMPTS)


@pytest.mark.parametrize("operation", ["uploads", "partNumber", "uploadId"])
def test_each_call_of_a_multipart_upload_makes_one_request_for_each_attempt(
    monkeypatch, moto_endpoint: str, make_bucket: Callable[[], str], operation: str
):
    """Creating it, sending the second part, and completing it: ``operation`` is in that request's query."""
    pointer = Pointer(make_bucket(), "k")

    def is_broken(call: Call) -> bool:
        query = call.path.partition("?")[2]
        if operation == "partNumber":
            return "partNumber=2" in query
        return query.startswith(operation) and call.method == "POST"

    def plan(call: Call) -> Fault | None:
        return Fault.SLOW_DOWN if is_broken(call) else None

    with faulty_proxy(moto_endpoint, plan) as (url, calls):
        store = S3Store(clients_of(url, monkeypatch, ""), backoff=QUICK)
        with (
            pytest.raises(StorageUnavailableError, match=f"after {ATTEMPTS} attempts"),
            store.open_writer(pointer) as writer,
        ):
            writer.write(bytes(PART_BYTES * 2))
    assert len([call for call in calls if is_broken(call)]) == ATTEMPTS
