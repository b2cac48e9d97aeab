from __future__ import annotations

import io
import itertools
import random
import threading
from collections.abc import Generator
from typing import Any

import pytest

from airflow_allma.exceptions import (
    ObjectAccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    StorageConfigurationError,
    StorageUnavailableError,
)
from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.pointer import Pointer
from airflow_allma.storage.read_ahead import read_ahead
from airflow_allma.storage.s3 import S3Store
from tests.support.faulty_proxy import Call, Fault
from tests.support.moto import EndpointClients
from tests.support.s3_faults import DATA, Intercepting, answer_with, broken


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.SLOW_DOWN, Fault.RESET, Fault.SHORT_BODY])
def test_a_call_that_fails_is_retried(moto_endpoint: str, good: S3Store, bucket: str, fault: Fault):
    etag = good.write(Pointer(bucket, "k"), DATA).etag
    with broken(moto_endpoint, lambda call: fault if call.number % 3 < 2 else None) as (store, calls, pauses):
        assert store.head(Pointer(bucket, "k")).etag == etag
        assert store.read(Pointer(bucket, "k"), 100, 2_000_000, if_match=etag) == DATA[100:2_000_000]
        store.write(Pointer(bucket, "new"), b"new")
        assert [info.size for info in store.list(bucket)] == [len(DATA), 3]
        if fault is not Fault.SHORT_BODY:  # HEAD and PUT have no body that could be short
            assert len(calls) == 12
            assert len(pauses) == 8
    assert good.read(Pointer(bucket, "new")) == b"new"


def test_a_stream_continues_where_it_was_cut(moto_endpoint: str, good: S3Store, bucket: str):
    good.write(Pointer(bucket, "k"), DATA)
    cut = {0: Fault.SHORT_BODY, 1: Fault.SHORT_BODY, 2: Fault.RESET, 3: Fault.SLOW_DOWN}
    with broken(moto_endpoint, lambda call: cut.get(call.number)) as (store, calls, _):
        assert b"".join(store.stream(Pointer(bucket, "k"), block_bytes=10_000)) == DATA
    assert len(calls) == 5


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_or_repeated_when_calls_fail_at_random(
    moto_endpoint: str, good: S3Store, bucket: str, seed: int
):
    chance = random.Random(seed)
    faults = [Fault.ERROR_500, Fault.SLOW_DOWN, Fault.RESET, Fault.SHORT_BODY]

    def plan(call: Call) -> Fault | None:
        # A completed upload that is not answered is asked for below.
        return chance.choice(faults) if chance.random() < 0.3 else None

    with broken(moto_endpoint, plan, attempts=20) as (store, _, _):
        with store.open_writer(Pointer(bucket, "w")) as writer:
            for start in range(0, len(DATA) * 6, 700_000):
                writer.write((DATA * 6)[start : start + 700_000])
        assert b"".join(store.stream(Pointer(bucket, "w"), block_bytes=100_000)) == DATA * 6


def test_after_the_last_attempt_the_error_says_so_and_names_object_and_connection(
    moto_endpoint: str, bucket: str
):
    with (
        broken(moto_endpoint, lambda _: Fault.SLOW_DOWN, attempts=4) as (store, calls, pauses),
        pytest.raises(StorageUnavailableError) as caught,
    ):
        store.read(Pointer(bucket, "k"))
    message = str(caught.value)
    assert all(part in message for part in (f"s3://{bucket}/k", "SlowDown", "'moto'", "after 4 attempts"))
    assert (len(calls), len(pauses)) == (4, 3)


def test_pauses_grow_are_bounded_and_jittered():
    pauses: list[float] = []
    low = Backoff(first_seconds=1, max_seconds=5, sleep=pauses.append, jitter=lambda: 0.0)
    high = Backoff(first_seconds=1, max_seconds=5, sleep=pauses.append, jitter=lambda: 1.0)
    for backoff in (low, high):
        for failures in (1, 2, 3, 4, 50):
            backoff.pause(failures)
    assert pauses == [0.5, 1, 2, 2.5, 2.5, 1, 2, 4, 5, 5]


def test_denied_access_is_not_retried_and_names_the_connection(moto_endpoint: str, bucket: str):
    with broken(moto_endpoint, lambda _: Fault.DENIED) as (store, calls, _):
        for attempt in (
            lambda: store.head(Pointer(bucket, "k")),
            lambda: store.read(Pointer(bucket, "k")),
            lambda: store.write(Pointer(bucket, "k"), b""),
            lambda: list(store.list(bucket)),
        ):
            with pytest.raises(ObjectAccessDeniedError, match="test connection 'moto'"):
                attempt()
    assert len(calls) == 4


def test_a_stream_that_was_cut_does_not_continue_with_other_content(
    moto_endpoint: str, good: S3Store, bucket: str
):
    old = good.write(Pointer(bucket, "k"), DATA).etag

    def plan(call: Call) -> Fault | None:
        return Fault.SHORT_BODY if call.number == 0 else None

    with broken(moto_endpoint, plan) as (store, _, _):
        stream = store.stream(Pointer(bucket, "k"), block_bytes=100_000)
        taken = next(stream)
        new = good.write(Pointer(bucket, "k"), DATA[::-1]).etag
        with pytest.raises(ObjectChangedError) as caught:
            list(stream)
    assert DATA.startswith(taken)
    assert old in str(caught.value)
    assert new in str(caught.value)


@pytest.mark.parametrize("code", [("InvalidRange", 416), ("PreconditionFailed", 412)])
def test_a_replaced_object_is_a_change_whichever_error_s3_answers(
    good: S3Store, client: Any, bucket: str, code: tuple[str, int]
):
    pointer = Pointer(bucket, "k")
    now = good.write(pointer, b"short").etag

    def get(**_: Any) -> Any:
        raise answer_with(*code)

    store = S3Store(Intercepting(client, "get_object", get))
    with pytest.raises(ObjectChangedError) as caught:
        store.read(pointer, 100, 200, if_match='"planned"')
    assert '"planned"' in str(caught.value)
    assert now in str(caught.value)
    client.delete_object(Bucket=bucket, Key="k")
    with pytest.raises((ObjectChangedError, ObjectNotFoundError), match="does not exist"):
        store.read(pointer, 100, 200, if_match='"planned"')


def test_a_version_is_read_as_it_was_and_pinned_by_head(good: S3Store, client: Any, bucket: str):
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = good.write(Pointer(bucket, "k"), b"first")
    second = good.write(Pointer(bucket, "k"), b"second")
    assert first.version_id
    assert first.version_id != second.version_id
    assert good.head(Pointer(bucket, "k")).version_id == second.version_id
    assert good.read(first.pointer, if_match=first.etag) == b"first"
    client.delete_object(Bucket=bucket, Key="k")
    assert good.read(first.pointer) == b"first"
    with pytest.raises(ObjectNotFoundError):
        good.read(Pointer(bucket, "k"))


def test_a_pointers_region_chooses_the_client(moto_endpoint: str, bucket: str):
    clients = EndpointClients(moto_endpoint)
    store = S3Store(clients)
    for region in (None, "us-west-2", None, "us-west-2"):
        store.write(Pointer(bucket, "k", region=region), b"1")
        assert store.read(Pointer(bucket, "k", region=region)) == b"1"
    assert clients.made == [("s3", None), ("s3", "us-west-2")]


def test_metadata_and_type_are_kept(good: S3Store, bucket: str):
    good.write(Pointer(bucket, "k"), b"1", content_type="text/plain", metadata={"owner": "me"})
    found = good.head(Pointer(bucket, "k"))
    assert (found.content_type, found.metadata) == ("text/plain", {"owner": "me"})


def test_metadata_that_s3_cannot_keep_is_rejected(good: S3Store, bucket: str):
    with pytest.raises(StorageConfigurationError, match="ParamValidationError"):
        good.write(Pointer(bucket, "k"), b"1", metadata={"owner": "grüß"})


def test_a_long_listing_is_read_page_by_page(
    moto_endpoint: str, bucket: str, good: S3Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("airflow_allma.storage.s3._PAGE_SIZE", 10)
    keys = [f"k{number:02d}" for number in range(25)]
    for key in keys:
        good.write(Pointer(bucket, key), b"")
    with broken(moto_endpoint, lambda _: None) as (store, calls, _):
        assert len(list(itertools.islice(store.list(bucket), 5))) == 5
        assert len(calls) == 1
        assert [info.pointer.key for info in store.list(bucket)] == keys
        assert [info.pointer.key for info in store.list(bucket, limit=13)] == keys[:13]
        assert [info.pointer.key for info in store.list(bucket, limit=3)] == keys[:3]
        assert len(calls) == 1 + 3 + 2 + 1


def test_a_missing_bucket_is_distinguished_from_a_missing_object(good: S3Store, bucket: str):
    with pytest.raises(ObjectNotFoundError, match="the bucket does not exist"):
        good.read(Pointer("no-such-bucket-at-all", "k"))
    with pytest.raises(ObjectNotFoundError, match="it does not exist"):
        good.read(Pointer(bucket, "k"))


def test_a_body_that_ends_early_without_an_error_is_noticed(good: S3Store, client: Any, bucket: str):
    pointer = Pointer(bucket, "k")
    good.write(pointer, DATA)
    calls: list[object] = []

    def get(**arguments: Any) -> Any:
        calls.append(arguments)
        answer = client.get_object(**arguments)
        return {**answer, "Body": io.BytesIO(answer["Body"].read()[:1000])} if len(calls) == 1 else answer

    store = S3Store(Intercepting(client, "get_object", get), backoff=Backoff(sleep=lambda _: None))
    assert store.read(pointer) == DATA
    assert len(calls) == 2


def test_the_next_block_is_fetched_while_the_caller_works_on_the_last_one():
    fetching = threading.Event()

    def blocks() -> Generator[bytes, None, None]:
        yield b"1"
        fetching.set()
        yield b"2"

    stream = read_ahead(blocks())
    assert next(stream) == b"1"
    assert fetching.wait(30)
    assert list(stream) == [b"2"]


def test_a_stream_closed_while_a_block_is_fetched_ends_after_that_block():
    fetching, arrived, closed = threading.Event(), threading.Event(), threading.Event()

    def blocks() -> Generator[bytes, None, None]:
        try:
            yield b"1"
            fetching.set()
            arrived.wait(30)
            yield b"2"
        finally:
            closed.set()

    stream = read_ahead(blocks())
    next(stream)
    fetching.wait(30)
    threading.Timer(0.1, arrived.set).start()
    stream.close()
    assert closed.is_set()
