"""OBJECTS with read JSON or TEXT: the contents of the objects in their items."""

from __future__ import annotations

import bz2
import gzip
import json
import threading
import time

import pytest

from airflow_allma.engine import EngineSettings, ItemError
from airflow_allma.engine.readers import Split, all_batches, plan_items, range_batches, range_items
from airflow_allma.engine.readers.find_reader import reader_of
from airflow_allma.exceptions import ObjectNotFoundError, StorageUnavailableError, TransientStepError
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import MemoryStore, ObjectPrefix, Pointer, S3Store
from tests.distributed.test_local_run import LOCATION, runner
from tests.support.engine import compose, fork, run
from tests.support.faulty_store import FaultyStore, fail_when
from tests.support.moto import EndpointClients

PREFIX = ObjectPrefix("data", "in/")
JSON = ItemReader(format="OBJECTS", read="JSON")
TEXT = ItemReader(format="OBJECTS", read="TEXT")


def filled(contents, store=None, bucket="data"):
    store = store or MemoryStore()
    for name, data in contents.items():
        store.write(Pointer(bucket, f"in/{name}"), data)
    return store


def planned(store, options=JSON, *, range_bytes=400, **split):
    return plan_items(
        store,
        PREFIX,
        options,
        Split(range_bytes, 100, lambda name, end: LOCATION.pointer(name, ending=end), **split),
    )


def read_all(store, plan):
    return [one.item for lines in plan.ranges for one in range_items(store, lines)]


def contents(items):
    return [item.error.message if isinstance(item, ItemError) else item["content"] for item in items]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_the_content_of_each_object_is_in_its_item(pack):
    values = [{"n": number, "text": "ä" * number} for number in range(20)]
    store = filled({f"{n:02}": pack(json.dumps(value).encode()) for n, value in enumerate(values)})
    plan = planned(store)
    assert len(plan.ranges) > 2
    items = read_all(store, plan)
    assert contents(items) == values
    assert list(items[3]) == ["bucket", "key", "size", "etag", "lastModified", "storageClass", "content"]
    streamed = list(all_batches(store, PREFIX, JSON))
    assert [item for batch in streamed for item in batch.items] == items


def test_text_is_a_string_without_its_byte_order_mark():
    store = filled({"a": b"", "b": "\ufeffgrün\r\n".encode(), "c": b"[1]"})
    assert contents(read_all(store, planned(store, TEXT))) == ["", "grün\r\n", "[1]"]


def test_large_contents_make_more_ranges():
    store = filled({str(number): b'"%s"' % (b"x" * 1000) for number in range(9)})
    assert [lines.items for lines in planned(store, range_bytes=3000).ranges] == [3, 3, 3]


BAD = {
    "bad": (b'{"n": ', "s3://data/in/bad is not JSON", "set itemReader.read to TEXT"),
    "cut": (gzip.compress(b"[1]" * 100)[:-9], "s3://data/in/cut is not valid gzip", "cut off"),
    "empty": (b"", "s3://data/in/empty is not JSON", "LINES"),
    "large": (b'"' + b"x" * (16 << 20) + b'"', "has more than 16 MiB", "Remove itemReader.read"),
    "packed": (gzip.compress(b" " * (17 << 20)), "has more than 16 MiB", "Remove itemReader.read"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_object_that_cannot_be_read_fails_alone(name):
    data, message, cure = BAD[name]
    store = filled({"a": b"1", name: data, "z": b"2"})
    items = read_all(store, planned(store))
    first, bad, last = contents(items)
    assert (first, last) == (1, 2)
    assert message in bad
    assert cure in bad
    assert items[1].error.details["object"] == f"s3://data/in/{name}"


def test_text_that_is_not_utf_8_fails_alone():
    store = filled({"a": b"ok", "b": b"caf\xe9", "c": b"ok"})
    bad = contents(read_all(store, planned(store, TEXT)))[1]
    assert bad.startswith("s3://data/in/b is not text in UTF-8: byte 3 is invalid. Convert")


def test_objects_that_vanish_or_change_after_planning_fail_alone():
    store = filled(dict.fromkeys("abcd", b'"old"'))
    plan = planned(store)
    store.write(Pointer("data", "in/b"), b'"new"')
    del store._objects["data", "in/c"]
    first, changed, gone, last = contents(read_all(store, plan))
    assert (first, last) == ("old", "old")
    assert "s3://data/in/b has changed" in changed
    assert "s3://data/in/c does not exist" in gone
    assert all("plan it again to list it anew" in message for message in (changed, gone))


def test_an_object_that_vanishes_between_listing_and_reading_fails_alone():
    store = filled(dict.fromkeys("abc", b'"old"'))

    def vanish(operation, pointer, number):
        if operation == "read" and pointer.key == "in/b":
            raise ObjectNotFoundError(f"{pointer} does not exist.")

    batches = list(all_batches(FaultyStore(store, vanish), PREFIX, JSON))
    assert [isinstance(item, ItemError) for batch in batches for item in batch.items] == [False, True, False]


def test_a_store_that_does_not_respond_fails_the_whole_range():
    store = filled(dict.fromkeys("abc", b"1"))
    plan = planned(store)
    hook = fail_when(lambda operation, pointer, number: pointer.key == "in/b")
    with pytest.raises(StorageUnavailableError):
        read_all(FaultyStore(store, hook), plan)
    with pytest.raises(TransientStepError):
        list(all_batches(FaultyStore(store, hook), PREFIX, JSON))


class SlowStore(MemoryStore):
    """Reads slowly and out of order; records how many reads and bytes were in flight."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.guard = threading.Lock()

    def read(self, pointer, start=0, end=None, *, if_match=None):
        if pointer.bucket != "data":
            return super().read(pointer, start, end, if_match=if_match)
        with self.guard:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.001 * (hash(pointer.key) % 5))
        with self.guard:
            self.now -= 1
        return super().read(pointer, start, end, if_match=if_match)


def test_many_objects_are_loaded_at_a_time_and_stay_in_order():
    store = filled({f"{number:03}": b"%d" % number for number in range(300)}, SlowStore())
    items = read_all(store, planned(store, range_bytes=1 << 20))
    assert contents(items) == list(range(300))
    assert 4 < store.most <= 16


def test_the_bytes_that_are_loaded_at_a_time_are_bounded():
    data = b'"%s"' % (b"x" * (15 << 20))
    store = filled({f"{number:03}": data for number in range(12)}, SlowStore())
    seen = [len(content) for content in contents(read_all(store, planned(store, range_bytes=1 << 40)))]
    assert seen == [15 << 20] * 12
    assert store.most <= 4


def test_reading_can_end_early():
    store = filled({f"{number:03}": b"1" for number in range(200)}, SlowStore())
    (lines,) = planned(store, range_bytes=1 << 20).ranges
    batches = range_batches(store, lines)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("allma-objects")]


def test_one_item_is_found_again_by_its_offset():
    store = filled({"a": b"1", "b": b"[2]", "c": b'"%s"' % (b"x" * 5000)})
    (lines,) = planned(store, range_bytes=1 << 20).ranges
    offsets = [one.offset for one in range_items(store, lines)]
    reader = reader_of(lines)
    place = reader.find(store, lines, offsets[1], 1000)
    assert place.value["content"] == [2]
    assert place.where == {"pointer": lines.pointer.uri, "byte": offsets[1]}
    assert reader.find(store, lines, offsets[2], 1000) is None
    assert reader.details(lines, offsets[1]) == {"byteOffset": offsets[1]}
    assert reader.count(store, lines) == 3


@pytest.mark.parametrize("chunked", [True, False])
def test_a_fork_over_contents_is_the_fork_over_a_list_of_them(chunked):
    store = filled({f"{n:02}": json.dumps({"n": n}).encode() for n in range(30)} | {"07": b"nope"})
    steps = {
        "fan": fork(itemReader={"format": "OBJECTS", "read": "JSON"}, config={"failOnBranchError": False}),
        "work": compose(inputMappings={"n": "$.currentItem.content.n"}),
    }
    settings = EngineSettings(offload_location=LOCATION if chunked else None)
    fork_runner = runner(chunk_bytes=1500) if chunked else None
    ran = run(steps, {"items": PREFIX.inner()}, store=store, settings=settings, fork_runner=fork_runner)
    joined = ran.outputs["fan"]["aggregatedData"]
    assert "s3://data/in/07 is not JSON" in joined[7]["error"]["errorMessage"]
    assert [one for one in joined if "error" not in one] == [{"n": n} for n in range(30) if n != 7]


def test_objects_in_s3_are_listed_by_pages_and_read(moto_endpoint, monkeypatch):
    monkeypatch.setattr("airflow_allma.storage.s3._PAGE_SIZE", 10)
    clients = EndpointClients(moto_endpoint)
    clients.client("s3").create_bucket(
        Bucket="listed-objects", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    store = filled({f"{n:04}": b"%d" % n for n in range(35)}, S3Store(clients), "listed-objects")
    split = Split(100_000, 100, lambda name, end: Pointer("listed-objects", f"lists/{name}{end}"))
    plan = plan_items(store, ObjectPrefix("listed-objects", "in/"), JSON, split)
    items = read_all(store, plan)
    assert contents(items) == list(range(35))
    assert items[0]["storageClass"] == "STANDARD"
    assert items[0]["lastModified"].endswith("Z")
