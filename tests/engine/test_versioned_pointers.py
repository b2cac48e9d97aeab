"""Pointers with a version and a region: every read uses that version and a client of that region."""

from __future__ import annotations

import gzip
import itertools
import json

import pytest

from airflow_allma.engine.readers import range_items
from airflow_allma.storage import OffloadLocation, Pointer, S3Store, load_content, plan_manifest
from tests.support.engine import compose, fork, run
from tests.support.moto import EndpointClients, moto_endpoint

__all__ = ["moto_endpoint"]

_numbers = itertools.count()
REGION = "us-west-2"
OLD = [{"n": number} for number in range(20)]
WORK = compose(inputMappings={"n": "$.currentItem.n"})


def as_lines(items):
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def as_array(items):
    return json.dumps(items).encode()


FORMATS = pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("m.jsonl", as_lines),
        ("m.json", as_array),
        ("m.jsonl.gz", lambda items: gzip.compress(as_lines(items))),
        ("m.json.gz", lambda items: gzip.compress(as_array(items))),
    ],
)


@pytest.fixture
def versions(moto_endpoint):
    """Return a function that writes two versions and returns a pointer to the first, and clients."""
    client = EndpointClients(moto_endpoint).client("s3", REGION)
    bucket = f"versioned-{next(_numbers)}"
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def write(key, encoded):
        version = client.put_object(Bucket=bucket, Key=key, Body=encoded(OLD))["VersionId"]
        client.put_object(Bucket=bucket, Key=key, Body=encoded([{"n": "new"}]))
        clients = EndpointClients(moto_endpoint)
        return Pointer(bucket, key, version, REGION), clients

    return write


@FORMATS
@pytest.mark.parametrize("form", [Pointer.wrap, Pointer.inner])
def test_a_fork_reads_the_version_in_its_pointer(versions, key, encoded, form):
    pointer, clients = versions(key, encoded)
    ran = run({"fan": fork(), "work": WORK}, {"items": form(pointer)}, store=S3Store(clients))
    assert ran.outputs["fan"]["aggregatedData"] == OLD
    assert {region for _, region in clients.made} == {REGION}


@FORMATS
def test_a_step_reads_the_version_in_its_pointer(versions, key, encoded):
    pointer, clients = versions(key, encoded)
    read = compose(inputMappings={"last": "$.far[19].n", "all": "$.far.length"})
    ran = run({"read": read}, {"far": pointer.wrap()}, store=S3Store(clients))
    assert ran.outputs["read"] == {"last": 19, "all": 20}
    assert {region for _, region in clients.made} == {REGION}


@FORMATS
def test_chunks_are_planned_and_read_from_the_version_in_the_pointer(versions, key, encoded):
    pointer, clients = versions(key, encoded)
    spool = OffloadLocation(pointer.bucket, "spool", REGION).pointer("lines", ending=".jsonl")
    store = S3Store(clients)
    plan = plan_manifest(store, pointer, range_bytes=50, max_ranges=9, spool_to=spool)
    assert len(plan.ranges) > 1
    assert plan.lines.pointer.version_id is not None
    found = [line.item for chunk in plan.ranges for line in range_items(store, chunk)]
    assert found == OLD
    assert {region for _, region in clients.made} == {REGION}


def test_a_pointer_without_a_version_is_read_at_the_version_that_head_found(versions):
    pointer, clients = versions("m.jsonl", as_lines)
    store = S3Store(clients)
    current = Pointer(pointer.bucket, pointer.key, region=REGION)
    head = store.head

    def head_then_replaced(requested):
        info = head(requested)
        store.write(current, as_lines([{"n": "newer"}]))
        return info

    store.head = head_then_replaced
    assert load_content(store, current) == [{"n": "new"}]
