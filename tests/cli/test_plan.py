from __future__ import annotations

import bz2
import gzip
import io
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from airflow_allma.distributed.chunk_plan import manifest_chunks
from airflow_allma.storage import Pointer
from airflow_allma.storage.manifest_plan import plan_manifest
from airflow_allma.storage.memory import MemoryStore
from tests.support.cli import flow_document, run_cli, write_file
from tests.support.engine import compose, fork, noop, then

FAN = {"fan": fork(), "work": compose(inputMappings={"x": "$.currentItem"})}


class CountingStore(MemoryStore):
    """A store that records the names of its calls."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def head(self, pointer):
        self.asked.append("head")
        return super().head(pointer)

    def read(self, *args, **kwargs):
        self.asked.append("read")
        return super().read(*args, **kwargs)

    def stream(self, *args, **kwargs):
        self.asked.append("stream")
        return super().stream(*args, **kwargs)

    def write(self, *args, **kwargs):
        self.asked.append("write")
        return super().write(*args, **kwargs)


@pytest.fixture
def store(monkeypatch):
    found = CountingStore()
    monkeypatch.setattr("airflow_allma.cli.plan_command.open_store_option", lambda _given, **_: found)
    return found


def planned(folder, payload, steps=None, *options, **airflow):
    document = flow_document(steps or FAN, airflow=airflow)
    file = write_file(folder, "flow.json", document)
    return run_cli("plan", file, "--payload", json.dumps(payload), *options)


def forks_of(folder, payload, steps=None, *options, **airflow):
    result = planned(folder, payload, steps, "--json", *options, **airflow)
    assert result.code == 0, result.err
    return result.json["forks"]


def fork_of(*args, **kwargs):
    (found,) = forks_of(*args, **kwargs)
    return found


def test_a_short_list_is_planned_in_memory_with_a_map_index_per_item(tmp_path):
    found = fork_of(tmp_path, {"items": [1, 2, 3]})
    assert (found["mode"], found["mapIndexes"], found["bytes"]) == ("memory", {"b": 3}, 7)


def test_a_long_list_is_planned_in_chunks_of_its_items(tmp_path):
    found = fork_of(tmp_path, {"items": list(range(10))}, maxInMemoryItems=4, chunkConcurrency=7)
    assert found["chunks"] == ["items 0-2", "items 3-5", "items 6-9"]
    assert (found["mapIndexes"], found["concurrencyPerChunk"]) == ({"chunk": 3}, 7)
    assert found["reason"] == "more than max_in_memory_items (4)"


def test_a_list_that_would_be_written_first_is_planned_without_writing_it(tmp_path, store):
    options = {"maxInMemoryBytes": 20, "chunkBytes": 10, "offloadLocation": "s3://b/p"}
    payload = {"items": list(range(20))}
    found = fork_of(tmp_path, payload, None, "--store", "file:///x", **options)
    assert found["writtenFirst"]
    assert found["chunks"][0].startswith("items 0-")
    assert found["chunks"][-1].endswith("19")
    assert store.asked == []


@pytest.mark.parametrize(("limit", "at_a_time", "in_one"), [(10, 1, 10), (130, 3, 65)])
def test_max_concurrency_is_divided_over_the_concurrent_chunks(tmp_path, limit, at_a_time, in_one):
    steps = {**FAN, "fan": fork(config={"maxConcurrency": limit})}
    found = fork_of(tmp_path, {"items": list(range(10))}, steps, maxInMemoryItems=5)
    assert found["mapIndexes"] == {"chunk": 2}
    assert (found["chunksAtATime"], found["concurrencyPerChunk"]) == (at_a_time, in_one)


def test_numbers_that_paths_find_are_planned_and_shown(tmp_path):
    fan = fork(
        config={"maxConcurrency": "$.most", "toleratedFailureCount": "$.few"},
        itemReader={"maxItems": "$.many"},
    )
    payload = {"items": list(range(10)), "most": 5, "few": 2, "many": 9}
    found = fork_of(tmp_path, payload, {**FAN, "fan": fan}, maxInMemoryItems=3)
    assert (found["items"], found["maxItems"], found["toleratedFailureCount"]) == (9, 9, 2)
    assert found["mapIndexes"] == {"chunk": 3}
    assert (found["maxConcurrency"], found["concurrencyPerChunk"], found["chunksAtATime"]) == (5, 1, None)
    bad = fork_of(tmp_path, {**payload, "most": "5"}, {**FAN, "fan": fan})
    assert bad["mode"] == "decided when it runs"
    assert "aggregationConfig.maxConcurrency: $.most finds the string" in bad["reason"]


def test_the_batches_of_an_object_are_written_before_they_are_planned(tmp_path, store):
    store.write(Pointer("data", "users.jsonl"), b"1\n2\n3\n")
    steps = {**FAN, "fan": fork(itemBatcher={"maxItemsPerBatch": 2})}
    payload = {"items": {"bucket": "data", "key": "users.jsonl"}}
    found = fork_of(tmp_path, payload, steps, "--store", "file:///x")
    assert found["chunks"] is None
    assert "itemBatcher" in found["reason"]
    assert fork_of(tmp_path, {"items": [1, 2, 3]}, steps)["mapIndexes"] == {"b": 2}


def test_planning_a_manifest_needs_two_requests_and_shows_the_planners_chunks(tmp_path, store):
    pointer = Pointer("data", "users.jsonl")
    store.write(pointer, b'{"id": 1}\n' * 1_700_000)
    plan = plan_manifest(store, pointer, range_bytes=3_000_000, max_ranges=200)
    real = [chunk.label for chunk in manifest_chunks(plan, store)]
    store.asked.clear()
    payload = {"items": {"bucket": "data", "key": "users.jsonl"}}
    found = fork_of(tmp_path, payload, None, "--store", "file:///x", chunkBytes=3_000_000)
    assert store.asked == ["head", "read"]
    assert found["chunks"] == real
    assert sum(found["chunkBytes"]) == found["bytes"] == 17_000_000
    assert found["planning"] == {"requests": 2, "readBytes": 64 << 10, "writesFirst": False}
    assert len(real) == 6
    assert not found["atMost"]


def test_the_plan_of_a_small_manifest_shows_the_maximum_number_of_chunks(tmp_path, store):
    store.write(Pointer("data", "a.jsonl"), b"1\n2\n3\n")
    store.asked.clear()
    payload = {"items": {"bucket": "data", "key": "a.jsonl"}}
    result = planned(tmp_path, payload, None, "--store", "file:///x", chunkBytes=1)
    assert store.asked == ["head", "read"]
    assert "map indexes of chunk: at most 6" in result.out
    assert "planning: 3 requests, 12 bytes read" in result.out
    assert "bytes 0-0, 1 bytes" in result.out


@pytest.mark.parametrize(
    "case",
    [
        ("a.json", b"[1]", {}, "one JSON array"),
        ("a", gzip.compress(b"1"), {}, "JSON Lines compressed with gzip"),
        ("a.csv.bz2", bz2.compress(b"a\n1"), {}, "CSV compressed with bzip2"),
        ("a.json", b'{"a":[1]}', {"itemsAt": "$.a"}, "an array in a JSON document"),
        ("a.csv", b"a\n1", {"csv": {"encoding": "utf-16"}}, "CSV"),
    ],
)
def test_what_cannot_be_split_is_shown_as_written_first(tmp_path, store, case):
    key, content, reader, shown = case
    store.write(Pointer("data", key), content)
    store.asked.clear()
    steps = {**FAN, "fan": {**fork(), "itemReader": reader}}
    found = fork_of(tmp_path, {"items": {"bucket": "data", "key": key}}, steps, "--store", "file:///x")
    assert store.asked == ["head", "read"]
    assert (found["chunks"], found["mostChunks"], found["format"]) == (None, 200, shown)
    assert found["planning"]["writesFirst"]
    assert "writes it to the offload location first" in found["reason"]
    assert "no offload_location is set" in found["reason"]


def test_the_plan_of_csv_has_its_ranges_and_the_pass_that_finds_its_records(tmp_path, store):
    content = b"a,b\n" + b"1,2\n" * 20
    store.write(Pointer("data", "a.csv"), content)
    payload = {"items": {"bucket": "data", "key": "a.csv"}}
    found = fork_of(tmp_path, payload, None, "--store", "file:///x", chunkBytes=30)
    assert (found["format"], found["mapIndexes"], found["atMost"]) == ("CSV", {"chunk": 3}, True)
    assert found["planning"]["readBytes"] == 3 * len(content)


def test_the_plan_of_parquet_has_the_rows_of_each_chunk_from_the_footer(tmp_path, store):
    file = io.BytesIO()
    parquet.write_table(pa.table({"n": list(range(100))}), file, row_group_size=25)
    store.write(Pointer("data", "a.parquet"), file.getvalue())
    payload = {"items": {"bucket": "data", "key": "a.parquet"}}
    found = fork_of(tmp_path, payload, None, "--store", "file:///x", chunkBytes=1)
    assert (found["format"], found["items"], len(found["chunkBytes"])) == ("Parquet", 100, 4)
    assert found["planning"]["readBytes"] < 2 * len(file.getvalue())


@pytest.mark.parametrize(("count", "least"), [(9, False), (10_050, True)])
def test_the_plan_of_a_prefix_looks_at_ten_pages(tmp_path, store, count, least):
    for number in range(count):
        store.write(Pointer("data", f"in/{number:06d}"), b"{}")
    store.asked.clear()
    steps = {**FAN, "fan": {**fork(), "itemReader": {"format": "OBJECTS"}}}
    payload = {"items": {"bucket": "data", "prefix": "in/"}}
    found = fork_of(tmp_path, payload, steps, "--store", "file:///x", offloadLocation="s3://b/p")
    assert store.asked == []
    assert (found["items"], found["hasMore"]) == (min(count, 10_000), least)
    assert found["planning"]["requests"] == (10 if least else 1)
    result = planned(tmp_path, payload, steps, "--store", "file:///x")
    assert (f"at least {found['items']} items" in result.out) is least


@pytest.mark.parametrize(
    ("items", "before", "known"),
    [
        ("$.items", noop(), True),
        ("$.initialContextData.items", compose(), True),
        ("$.flow_variables.items", compose(outputMappings={"$.items": "$"}), True),
        ("$.items", compose(outputMappings={"$.items": "$"}), False),
        ("$.items", compose(outputMappings={"$['items'].x": "$"}), False),
        ("$.items", compose(outputMappings={"$": "$"}), False),
        ("$.steps_output.before.list", compose(), False),
        ("$..items", noop(), False),
        ("$", noop(), False),
    ],
)
def test_items_are_predicted_unless_an_earlier_step_can_write_them(tmp_path, items, before, known):
    steps = {"before": {**before, **then("fan")}, **FAN, "fan": fork(items=items)}
    document = flow_document(steps, flowVariables={"items": [1, 2]})
    file = write_file(tmp_path, "flow.json", document)
    result = run_cli("plan", file, "--payload", '{"items": [1, 2]}', "--json")
    (found,) = result.json["forks"]
    assert (found["mode"] == "memory") is known, found
    if known:
        assert found["mapIndexes"] == {"b": 2}
    else:
        assert found["mode"] == "decided when it runs"
        assert "step before runs before it" in found["reason"]


def test_items_stored_in_an_object_are_not_read(tmp_path, store):
    steps = {**FAN, "fan": fork(items="$.data.items")}
    payload = {"data": {"_s3_output_pointer": {"bucket": "b", "key": "k.json"}}}
    found = fork_of(tmp_path, payload, steps, "--store", "file:///x")
    assert found["mode"] == "decided when it runs"
    assert "b/k.json" in found["reason"]
    assert store.asked == []


def test_a_fork_in_a_loop_runs_inside_the_loops_task(tmp_path):
    steps = {
        "fan": fork(**then("again")),
        "work": noop(),
        "again": noop(transitions=[{"condition": "$.more", "nextStepInstanceId": "fan"}]),
    }
    found = fork_of(tmp_path, {"items": [1]}, steps)
    assert found["mode"] == "inside a task"


def test_the_printed_plan_has_tasks_forks_and_the_sources_of_settings(tmp_path, store):
    store.write(Pointer("data", "a.jsonl"), b"x" * (17 << 20))
    payload = {"items": {"bucket": "data", "key": "a.jsonl"}}
    out = planned(tmp_path, payload, None, "--store", "file:///x", maxChunks=12).out
    assert "fan.aggregate (aggregate)" in out
    assert "map indexes of chunk: 12" in out
    assert "... and 2 more, the last: bytes" in out
    assert "max_chunks = 12 (the flow's airflow object)" in out
    assert "chunk_bytes = 1048576 (default)" in out


def test_a_missing_manifest_exits_with_2_and_is_named(tmp_path):
    (tmp_path / "store").mkdir()
    payload = {"items": {"bucket": "data", "key": "no.jsonl"}}
    result = planned(tmp_path, payload, None, "--store", f"file://{tmp_path}/store")
    assert (result.code, result.out) == (2, "")
    assert "data/no.jsonl" in result.err


def test_a_missing_store_is_not_created(tmp_path):
    result = planned(tmp_path, {}, None, "--store", f"file://{tmp_path}/no")
    assert (result.code, (tmp_path / "no").exists()) == (2, False)
    assert "is not a folder" in result.err


def test_a_manifest_in_a_percent_encoded_offload_location_is_planned(tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "m.jsonl").write_text('{"n": 1}\n' * 5)
    payload = {"items": {"bucket": "file://", "key": f"{folder}/m.jsonl".removeprefix("/")}}
    found = fork_of(tmp_path, payload, offloadLocation=f"file://{tmp_path}/a%20b")
    assert found["chunks"] == ["bytes 0-44"]


def test_the_plan_of_files_has_chunks_by_their_sizes(tmp_path, store):
    for number in range(6):
        store.write(Pointer("data", f"in/{number}.jsonl"), b"1\n" * 100)
    store.asked.clear()
    steps = {**FAN, "fan": {**fork(), "itemReader": {"format": "OBJECTS", "read": "LINES"}}}
    payload = {"items": {"bucket": "data", "prefix": "in/"}}
    options = {"offloadLocation": "s3://b/p", "chunkBytes": 400}
    found = fork_of(tmp_path, payload, steps, "--store", "file:///x", **options)
    assert store.asked == []
    assert found["format"] == "6 files below a prefix"
    assert (found["chunks"], found["chunkBytes"]) == (["files 0-1", "files 2-3", "files 4-5"], [400] * 3)


@pytest.mark.parametrize("kind", ["inventory", "athena"])
def test_the_plan_of_a_manifest_reads_the_manifest_only(tmp_path, store, kind):
    files = [{"key": f"in/{number}.csv", "size": 300} for number in range(4)]
    inventory = {"destinationBucket": "arn:aws:s3:::data", "fileFormat": "CSV", "fileSchema": "Bucket, Key"}
    content = json.dumps({**inventory, "files": files}).encode()
    if kind == "athena":
        content = b"".join(b"s3://data/in/%d.csv\n" % number for number in range(4))
    store.write(Pointer("data", "m/manifest.json"), content)
    store.asked.clear()
    steps = {**FAN, "fan": {**fork(), "itemReader": {"format": "MANIFEST"}}}
    payload = {"items": {"bucket": "data", "key": "m/manifest.json"}}
    options = {"offloadLocation": "s3://b/p", "chunkBytes": 600}
    found = fork_of(tmp_path, payload, steps, "--store", "file:///x", **options)
    assert store.asked == ["head", "read", "stream"]
    assert found["format"] == "4 files of a manifest"
    # Athena's manifest does not know sizes.
    assert found["chunks"] == (None if kind == "athena" else ["files 0-1", "files 2-3"])


@pytest.mark.parametrize("loops", [True, False])
def test_the_plan_says_where_the_files_of_a_fork_will_be(tmp_path, loops):
    loop = noop(transitions=[{"condition": "$.more", "nextStepInstanceId": "fan"}])
    writer = {"resultWriter": {"location": "s3://results/shop"}}
    steps = {
        **FAN,
        "fan": fork(**writer, **(then("again") if loops else {})),
        **({"again": loop} if loops else {}),
    }
    assert fork_of(tmp_path, {"items": [1]}, steps)["resultsLocation"] == "s3://results/shop"
    assert "  results: files below s3://results/shop\n" in planned(tmp_path, {"items": [1]}, steps).out
