"""OBJECTS: the objects below a prefix as items, listed and split."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.distributed.fork_decision import ForkDecision, ForkMode, decide_fork
from airflow_allma.engine import EngineSettings, classify_items
from airflow_allma.engine.readers import Split, all_batches, plan_items, range_items
from airflow_allma.exceptions import StorageConfigurationError, StorageError
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import LocalStore, ManifestRange, MemoryStore, ObjectInfo, ObjectPrefix, Pointer
from airflow_allma.storage.line_groups import LineGroups
from tests.distributed.test_local_run import LOCATION, runner
from tests.support.engine import compose, fork, program_of, run
from tests.support.faulty_store import FaultyStore

OBJECTS = ItemReader(format="OBJECTS")
PREFIX = ObjectPrefix("data", "in/")
KEYS = ["in/a", "in/b/c.json", "in/z/y/x", "in/ä"]


def spool(name, ending):
    return LOCATION.pointer(name, ending=ending)


def filled(store, contents):
    for key, data in contents.items():
        store.write(Pointer("data", key), data)
    return store


def planned(store, prefix=PREFIX, options=OBJECTS, *, range_bytes=150, max_ranges=100):
    return plan_items(store, prefix, options, Split(range_bytes, max_ranges, spool))


def read_all(store, plan):
    saved = [ManifestRange.from_dict(lines.to_dict()) for lines in plan.ranges]
    ranges = [list(range_items(store, lines)) for lines in saved]
    for lines, found in zip(saved, ranges, strict=True):
        assert [one.number for one in found] == list(range(len(found)))
        assert lines.items in {len(found), None}
        assert found
    return [one.item for found in ranges for one in found]


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_each_object_below_the_prefix_is_an_item_in_key_order(kind, tmp_path):
    (tmp_path / "data").mkdir()
    store = MemoryStore() if kind == "memory" else LocalStore(tmp_path)
    filled(store, {key: key.encode() for key in reversed([*KEYS, "im", "in2/x", "out/x"])})
    plan = planned(store)
    assert len(plan.ranges) > 1
    items = read_all(store, plan)
    assert [item["key"] for item in items] == KEYS
    info = store.head(Pointer("data", "in/a"))
    first = {**items[0], "lastModified": datetime.fromisoformat(items[0]["lastModified"])}
    assert abs(first.pop("lastModified") - info.last_modified).total_seconds() < 0.01
    assert first == {"bucket": "data", "key": "in/a", "size": 4, "etag": info.etag, "storageClass": None}
    streamed = [item for batch in all_batches(store, PREFIX, OBJECTS) for item in batch.items]
    assert streamed == items


def test_an_empty_prefix_is_the_whole_bucket_and_markers_of_folders_are_left_out():
    store = filled(MemoryStore(), {"a": b"1", "in/": b"", "in/empty": b"", "in/named/": b"content"})
    items = read_all(store, planned(store, ObjectPrefix("data")))
    assert [item["key"] for item in items] == ["a", "in/empty", "in/named/"]


@pytest.mark.parametrize("contents", [{"other": b""}, {"other": b"", "in/": b""}])
def test_no_object_is_no_item_and_a_warning(contents, caplog):
    store = filled(MemoryStore(), contents)
    assert planned(store).ranges == ()
    assert list(all_batches(store, PREFIX, OBJECTS)) == []
    assert caplog.text.count("No object is below s3://data/in/: the fork has no items") == 2


def test_a_bucket_that_does_not_exist_is_an_error():
    with pytest.raises(StorageError, match="'data' does not exist"):
        planned(MemoryStore())


def test_a_plan_needs_a_place_for_the_list():
    store = filled(MemoryStore(), {"in/a": b""})
    with pytest.raises(StorageConfigurationError, match=r"Set \[allma\] offload_location"):
        plan_items(store, PREFIX, OBJECTS, Split(100, 10))


def test_ten_thousand_objects_are_split_into_ranges_that_know_their_items():
    store = filled(MemoryStore(), {f"in/{number:05}": b"" for number in range(10_000)})
    plan = planned(store, range_bytes=10_000, max_ranges=37)
    assert 30 < len(plan.ranges) <= 37
    assert sum(lines.items for lines in plan.ranges) == 10_000
    assert [item["key"][3:] for item in read_all(store, plan)] == [f"{n:05}" for n in range(10_000)]


class ManyObjects(MemoryStore):
    """Lists any number of objects, page by page, and counts those that were asked for."""

    def __init__(self, count):
        super().__init__()
        self.count, self.asked = count, 0

    def list(self, bucket, prefix="", limit=None):
        for number in range(self.count):
            self.asked += 1
            pointer = Pointer(bucket, f"{prefix}part-{number:09}.json")
            yield ObjectInfo(pointer, number, f'"{number:032x}"', None, None, datetime.now(UTC))


def test_a_fork_with_few_items_lists_no_more_than_these():
    store = ManyObjects(1_000_000)
    options = ItemReader(format="OBJECTS", maxItems=5)
    assert len(read_all(store, planned(store, options=options))) == 5
    assert store.asked < 1000


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 80)), max_size=60),
    st.integers(1, 400),
    st.integers(1, 12),
)
def test_groups_of_lines_own_each_line_once(lines, range_bytes, max_ranges):
    groups = LineGroups(range_bytes, max_ranges)
    starts, position = [], 0
    for size, weight in lines:
        starts.append(position)
        groups.add(size, weight)
        position += size
    found = groups.groups()
    assert len(found) <= max_ranges
    owned = []
    for group in found:
        start, end = group.range
        own = [n for n, at in enumerate(starts) if start < at <= end or at == start == 0]
        assert own == list(range(group.first, group.first + group.lines))
        assert group.weight == sum(lines[number][1] for number in own)
        owned += own
    assert owned == list(range(len(lines)))
    if len(found) > 1:
        assert min(group.weight for group in found[:-1]) >= range_bytes


FLOW = {
    "fan": fork(itemReader={"format": "OBJECTS"}),
    "work": compose(inputMappings={"k": "$.currentItem.key"}),
}


@pytest.mark.parametrize("chunked", [True, False])
def test_a_fork_runs_once_an_object(chunked):
    store = filled(MemoryStore(), dict.fromkeys(KEYS, b"x"))
    fork_runner = runner(chunk_bytes=150) if chunked else None
    settings = EngineSettings(offload_location=LOCATION if chunked else None)
    ran = run(FLOW, {"items": PREFIX.inner()}, store=store, settings=settings, fork_runner=fork_runner)
    assert ran.outputs["fan"]["aggregatedData"] == [{"k": key} for key in KEYS]
    assert any("objects" in key for _, key in store._objects) is chunked


@pytest.mark.parametrize(
    "found", [{"bucket": "b", "key": "k"}, {"bucket": "b"}, "s3://b/p/", 5, {"bucket": "b", "prefix": 1}]
)
def test_what_is_not_a_prefix_is_an_error_that_says_what_to_write(found):
    ran = run(FLOW, {"items": found}, store=MemoryStore())
    assert ran.status == "FAILED"
    message = ran.error["errorMessage"]
    assert 'OBJECTS, which needs a prefix; write {"bucket": ..., "prefix": ...}' in message
    assert "itemsPath" in message


@pytest.mark.parametrize("found", [[], [1, {"bucket": "b", "key": "k"}]])
def test_a_list_stays_a_list(found):
    assert classify_items(found, OBJECTS).values == found


@pytest.mark.parametrize("prefix", ["in/", ""])
def test_a_prefix_without_the_reader_is_one_value_with_advice(prefix):
    value = {"bucket": "data", "prefix": prefix}
    for reader in (None, ItemReader(), ItemReader(format="CSV")):
        found = classify_items(value, reader)
        assert found.values == [value]
        assert 'itemReader to {"format": "OBJECTS"}' in found.doubt


@pytest.mark.parametrize(
    "value",
    [
        {"bucket": "", "prefix": "p"},
        {"bucket": "a/b", "prefix": "p"},
        {"bucket": "..", "prefix": ""},
        {"bucket": "b", "prefix": "p\n"},
        {"bucket": "b\0", "prefix": "p"},
        {"bucket": "b", "prefix": "\ud800"},
        {"bucket": "b", "prefix": "x" * 1025},
        {"bucket": "file://", "prefix": "a/../../etc/"},
        {"bucket": "file://", "prefix": "../"},
    ],
)
def test_identifiers_of_a_prefix_are_checked_as_those_of_pointers(value):
    with pytest.raises(StorageConfigurationError):
        classify_items(value, OBJECTS)
    assert classify_items(value).values == [value]


def test_a_decision_keeps_the_prefix():
    program = program_of(FLOW)
    items = classify_items(PREFIX.inner(), OBJECTS)
    decision = decide_fork(program.steps["fan"].fork, items, runner().settings)
    assert decision.reason == "the items are the objects below a prefix"
    restored = ForkDecision.from_dict(decision.to_dict())
    assert (restored.mode, restored.pointer) == (ForkMode.CHUNKS, PREFIX)


@pytest.mark.parametrize(
    ("bucket", "prefix", "warns"), [("bucket", "", 1), ("bucket", "in/", 0), ("data", "", 0)]
)
def test_an_offload_location_below_the_prefix_is_a_warning(bucket, prefix, warns, caplog):
    store = MemoryStore()
    store.write(Pointer(bucket, "in/a"), b"1")
    assert read_all(store, planned(store, ObjectPrefix(bucket, prefix)))[0]["key"] == "in/a"
    assert caplog.text.count("The offload location is below s3://bucket/, so") == warns


def test_nothing_is_read_of_the_objects():
    store = FaultyStore(filled(MemoryStore(), dict.fromkeys(KEYS, b"x")))
    list(all_batches(store, PREFIX, OBJECTS))
    assert {operation for operation, _ in store.calls} == {"list"}
