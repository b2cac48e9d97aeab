"""Several files as one manifest: OBJECTS with read LINES."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.distributed.chunk_plan import manifest_chunks
from airflow_allma.engine import EngineSettings, ItemError
from airflow_allma.engine.readers import (
    Split,
    all_batches,
    first_ranges,
    is_counted_by_range,
    offset_in,
    plan_items,
    range_items,
)
from airflow_allma.engine.readers.find_reader import reader_of
from airflow_allma.engine.readers.known_parts import _ranges
from airflow_allma.exceptions import StorageUnavailableError
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import ManifestRange, MemoryStore, ObjectPrefix, Pointer
from tests.distributed.test_local_run import LOCATION, runner
from tests.engine.readers.test_objects_contents import SlowStore
from tests.support.engine import compose, fork, run
from tests.support.faulty_store import FaultyStore, fail_when

PREFIX = ObjectPrefix("data", "in/")
LINES = ItemReader(format="OBJECTS", read="LINES")


def filled(contents):
    store = MemoryStore()
    for name, data in contents.items():
        store.write(Pointer("data", f"in/{name}"), data)
    return store


def planned(store, options=LINES, *, range_bytes=5000, max_ranges=100, target=PREFIX):
    split = Split(range_bytes, max_ranges, lambda name, end: LOCATION.pointer(name, ending=end))
    plan = plan_items(store, target, options, split)
    ranges = tuple(ManifestRange.from_dict(lines.to_dict()) for lines in plan.ranges)
    assert ranges == plan.ranges
    return plan


def read_all(store, plan):
    found = []
    for lines in plan.ranges:
        items = list(range_items(store, lines))
        assert [one.number for one in items] == list(range(len(items)))
        offsets = [one.offset for one in items]
        assert offsets == sorted(set(offsets))
        found += [one.item for one in items]
    return found


def streamed(store, options=LINES, target=PREFIX):
    batches = list(all_batches(store, target, options))
    assert [batch.first for batch in batches] == [
        sum(len(before.items) for before in batches[:number]) for number in range(len(batches))
    ]
    return [item for batch in batches for item in batch.items]


def jsonl(values):
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["lines", "array", "gzip"])), max_size=12),
    st.integers(1, 9000),
    st.integers(1, 6),
)
def test_any_split_gives_the_items_of_all_files_once_in_order(files, range_bytes, max_ranges):
    contents, expected = {"-other": b"", "": b""}, []
    for number, (count, kind) in enumerate(files):
        values = [{"file": number, "n": item, "pad": "x" * (item % 7 * 30)} for item in range(count)]
        data = json.dumps(values).encode() if kind == "array" else jsonl(values)
        contents[f"{number:03}"] = gzip.compress(data) if kind == "gzip" else data
        expected += values
    store = filled(contents)
    plan = planned(store, range_bytes=range_bytes, max_ranges=max_ranges)
    assert len(plan.ranges) <= max_ranges
    assert read_all(store, plan) == expected
    assert streamed(store) == expected
    assert [reader_of(lines).count(store, lines) for lines in plan.ranges] == [
        len(list(range_items(store, lines))) for lines in plan.ranges
    ]


def test_large_files_are_split_and_small_ones_are_grouped():
    store = filled({"a.jsonl": jsonl(range(20_000)), **{f"b{n}": b"1\n" for n in range(7)}})
    plan = planned(store, range_bytes=20_000)
    labels = [chunk.label for chunk in manifest_chunks(plan, store)]
    assert labels[:2] == ["file 0", "file 0"]
    assert labels[-1].startswith("files ")
    assert labels[-1].endswith("-7")
    assert len(read_all(store, plan)) == 20_007


def test_planning_requests_nothing_of_small_files():
    store = FaultyStore(filled({f"{n:04}": b"%d\n" % n for n in range(500)} | {"z.jsonl.gz": b"x" * 9000}))
    plan = planned(store)
    assert {operation for operation, pointer in store.calls if pointer.bucket == "data"} == {"list"}
    assert manifest_chunks(plan, FaultyStore(store, fail_when(lambda *_: True)))


def test_files_of_several_formats_are_one_list():
    store = filled({"a.jsonl": b'{"n": 1}\n', "b.csv": b"n\n2\n", "c.json": b'[{"n": 3}]', "empty.csv": b""})
    assert read_all(store, planned(store)) == [{"n": 1}, {"n": "2"}, {"n": 3}] == streamed(store)


def test_files_without_a_name_of_their_format_are_csv_where_the_flow_describes_it():
    store = filled({"a": b"1;2\n", "b": b"3;4\n" * 3000})
    options = ItemReader(format="OBJECTS", read="LINES", csv={"header": ["x", "y"], "delimiter": ";"})
    expected = [{"x": "1", "y": "2"}] + [{"x": "3", "y": "4"}] * 3000
    plan = planned(store, options)
    assert len(plan.ranges) > 1
    assert read_all(store, plan) == expected == streamed(store, options)


def test_a_file_that_cannot_be_read_is_one_failed_item_and_others_run():
    cut = gzip.compress(jsonl(range(3000)))[:-9]
    store = filled({"a": b"1\n", "b": b"2\n", "c": cut, "d": b"4\n", "e": b"5\n"})
    plan = planned(store, range_bytes=1 << 20)
    store.write(Pointer("data", "in/b"), b"22\n")
    del store._objects["data", "in/d"]
    items = read_all(store, plan)
    failed = {
        item.error.details["object"][-1]: item.error.message for item in items if isinstance(item, ItemError)
    }
    assert list(failed) == ["b", "c", "d"]
    assert "has changed" in failed["b"]
    assert "plan the fork again" in failed["b"]
    assert "cut off" in failed["c"]
    assert "s3://data/in/d does not exist" in failed["d"]
    assert [item for item in items if not isinstance(item, ItemError)][-1] == 5


def test_a_large_file_that_vanishes_while_it_is_planned_is_a_failed_item():
    inner = filled({"a": b"1\n", "b": jsonl(range(9000)), "c": b"3\n"})

    def vanish(operation, pointer, number):
        if operation == "read" and pointer.key == "in/b":
            inner._objects.pop(("data", "in/b"), None)

    items = read_all(inner, planned(FaultyStore(inner, vanish), range_bytes=1000))
    assert items[0] == 1
    assert isinstance(items[1], ItemError)
    assert items[2] == 3


def test_a_store_that_does_not_respond_is_an_error_of_the_whole_range():
    store = filled({"a": b"1\n", "b": b"2\n", "c": jsonl(range(9000))})
    plan = planned(store)
    broken = FaultyStore(store, fail_when(lambda operation, pointer, number: pointer.key == "in/b"))
    with pytest.raises(StorageUnavailableError):
        read_all(broken, plan)
    with pytest.raises(StorageUnavailableError):
        planned(FaultyStore(store, fail_when(lambda operation, pointer, number: pointer.key == "in/c")))


def test_a_manifest_among_the_files_is_a_failed_item():
    manifest = json.dumps({"fileFormat": "CSV", "files": []}).encode()
    store = filled({"a": b"1\n", "manifest.json": manifest})
    one, bad = read_all(store, planned(store))
    assert one == 1
    assert "in/manifest.json is a manifest of S3 Inventory among other files" in bad.error.message


def test_the_place_of_an_item_is_its_file_and_the_byte_in_it():
    store = filled(
        {"a": b"1\n2\n", "b.gz": gzip.compress(b"3\n44\n5\n"), "c.csv": b"n\n6\n", "d": jsonl(range(3000))}
    )
    for lines in planned(store, range_bytes=8000).ranges:
        items = list(range_items(store, lines))
        reader = reader_of(lines)
        for one in items[:6]:
            details = reader.details(lines, one.offset)
            assert offset_in(details) == one.offset
            place = reader.find(store, lines, one.offset, 1 << 20)
            assert place.value == one.item
            assert place.where["pointer"] == details["object"]
            assert place.where["byte"] == details["byteOffset"]
            if one.item == 44:
                assert (details["object"], details["byteOffset"]) == ("s3://data/in/b.gz", 2)
        assert reader.find(store, lines, items[0].offset, 10) is None
    _ranges.clear()
    assert reader.details(lines, 7) == {"itemOffset": 7}


def test_the_first_items_are_counted_file_by_file():
    store = filled({f"{n:03}": jsonl([n] * 10) for n in range(30)})
    plan = planned(store, range_bytes=20_000)
    kept = first_ranges(store, plan.ranges, 25)
    items = [one.item for lines in kept for one in range_items(store, lines)]
    assert items == [0] * 10 + [1] * 10 + [2] * 5


@pytest.mark.parametrize("chunked", [True, False])
def test_a_fork_over_files_is_the_fork_over_the_list_of_their_items(chunked):
    values = [{"n": number} for number in range(60)]
    store = filled(
        {f"{n:02}.jsonl": jsonl(values[n : n + 10]) for n in range(0, 60, 10)} | {"30a": b"nope\n"}
    )
    steps = {
        "fan": fork(itemReader={"format": "OBJECTS", "read": "LINES"}, config={"failOnBranchError": False}),
        "work": compose(inputMappings={"n": "$.currentItem.n"}),
    }
    settings = EngineSettings(offload_location=LOCATION if chunked else None)
    fork_runner = runner(chunk_bytes=9000) if chunked else None
    ran = run(steps, {"items": PREFIX.inner()}, store=store, settings=settings, fork_runner=fork_runner)
    joined = ran.outputs["fan"]["aggregatedData"]
    assert [one for one in joined if "error" not in one] == values
    error = joined[40]["error"]
    assert "Line 1: " in error["errorMessage"]
    assert "s3://data/in/30a" in error["errorMessage"]
    assert error["errorDetails"]["object"] == "s3://data/in/30a"
    assert error["errorDetails"]["byteOffset"] == 0


@pytest.mark.parametrize("waits", [{}, {"delay": {"milliseconds": 1}}])
@pytest.mark.parametrize("chunked", [True, False])
def test_the_error_of_an_item_names_its_file_and_place(chunked, waits, monkeypatch):
    monkeypatch.setattr("airflow_allma.engine.readers.known_parts._MAX_STREAMED", 5)
    store = filled({f"{n:02}.csv": b"n\n%d\n" % n for n in range(20)} | {"30": b"[1]\n{}\n"})
    steps = {
        "fan": fork(itemReader={"format": "OBJECTS", "read": "LINES"}, config={"failOnBranchError": False}),
        "work": compose(outputValidation={"requiredFields": ["$.none"]}, **waits),
    }
    settings = EngineSettings(offload_location=LOCATION if chunked else None)
    fork_runner = runner(chunk_bytes=9000) if chunked else None
    ran = run(steps, {"items": PREFIX.inner()}, store=store, settings=settings, fork_runner=fork_runner)
    details = [one["error"]["errorDetails"] for one in ran.outputs["fan"]["aggregatedData"]]
    last = details[-3:]
    assert [one["object"][-6:] for one in last] == ["19.csv", "/in/30", "/in/30"]
    assert [one["byteOffset"] for one in last] == [2, 0, 4]
    if chunked:
        assert [one["object"][13:15] for one in details[:-2]] == [f"{n:02}" for n in range(20)]


def test_small_files_are_read_with_one_request_each_several_at_a_time():
    store = SlowStore()
    for number in range(200):
        store.write(Pointer("data", f"in/{number:03}"), b"%d\n" % number)
    counted = FaultyStore(store)
    plan = planned(counted, range_bytes=1 << 20)
    counted.calls.clear()
    assert read_all(counted, plan) == list(range(200))
    assert [operation for operation, pointer in counted.calls if pointer.bucket == "data"] == ["read"] * 200
    assert 4 < store.most <= 16


def test_the_type_of_a_file_does_not_count_as_listings_do_not_name_it():
    store = filled({})
    store.write(Pointer("data", "1"), b"7\n8\n", content_type="text/csv")
    store.write(Pointer("data", "2"), b"[1, 2]", content_type="application/x-ndjson")
    manifest = Pointer("data", "manifest")
    store.write(manifest, b"s3://data/1\ns3://data/2\n")
    options = ItemReader(format="MANIFEST")
    assert read_all(store, planned(store, options, target=manifest)) == [7, 8, 1, 2]
    streamed = [item for batch in all_batches(store, manifest, options) for item in batch.items]
    assert streamed == [7, 8, 1, 2]


def test_only_files_are_not_counted_by_the_bytes_of_their_range():
    store = filled({"1.jsonl": b"1\n2\n"})
    [files] = planned(store).ranges
    [objects] = planned(store, ItemReader(format="OBJECTS")).ranges
    [lines] = planned(store, ItemReader(), target=Pointer("data", "in/1.jsonl")).ranges
    assert [is_counted_by_range(one) for one in (files, objects, lines)] == [False, True, True]
