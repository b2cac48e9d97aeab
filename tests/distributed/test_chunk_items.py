"""The files of a ``resultWriter`` of a fork in chunks: the same as of a fork on one event loop."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.distributed.local_run import ChunkedForkRunner
from airflow_allma.engine import EngineSettings
from airflow_allma.flow import AirflowOptions
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import MemoryStore, OffloadLocation, Pointer
from tests.support.engine import compose, fork, program_of, run
from tests.support.result_files import WrittenResults, read_results

SMALL = AirflowOptions(max_in_memory_items=2, chunk_bytes=40)
WORK = {"work": compose(inputMappings={"n": "$.currentItem.n"}, outputValidation={"requiredFields": ["$.n"]})}
BRANCHES = [
    {"branchId": "odd", "stepInstanceId": "work", "condition": "$.currentItem.odd"},
    {"branchId": "all", "stepInstanceId": "work"},
]
ITEM = st.fixed_dictionaries(
    {"n": st.none() | st.integers(0, 99), "odd": st.booleans()},
    optional={"id": st.text(max_size=3), "name": st.integers()},
)
ITEMS = st.lists(ITEM, max_size=20)
LINES = st.sampled_from([b"{", b"", b"[]"]) | ITEM.map(lambda item: json.dumps(item).encode())


def written(
    payload, store, config, *, chunked, offload=True, branches=BRANCHES, reader=None
) -> WrittenResults:
    fan = fork(
        parallelBranches=branches,
        config={"failOnBranchError": False, **config},
        resultWriter={"location": "s3://out"},
        itemReader=reader or {},
    )
    location = OffloadLocation("bucket", "offload") if offload else None
    ran = run(
        program_of({"fan": fan, **WORK}),
        payload,
        store=store,
        settings=EngineSettings(offload_location=location),
        fork_runner=ChunkedForkRunner(AllmaSettings.without_airflow(SMALL)) if chunked else None,
    )
    assert ran.status == "COMPLETED", ran.error
    return read_results(store, "out", "shop/run-1/fan")


@settings(deadline=None)
@given(ITEMS, st.booleans(), st.sampled_from(["COLLECT_ARRAY", "SUM", "NONE"]), st.sampled_from([1, 2]))
def test_the_items_of_a_list_have_the_same_files_in_every_mode(items, offload, strategy, branches):
    some = {"branches": BRANCHES[-branches:], "offload": offload}
    config, payload = {"strategy": strategy}, {"items": items}
    chunked = written(payload, MemoryStore(), config, chunked=True, **some)
    assert chunked == written(payload, MemoryStore(), config, chunked=False, **some)
    assert all(line["input"] == items[line["index"]] for line in chunked.succeeded + chunked.failed)


@settings(deadline=None)
@given(st.lists(LINES, max_size=20), st.sampled_from([1, 2]))
def test_the_items_of_an_object_have_the_same_files_in_every_mode(lines, branches):
    store = MemoryStore()
    store.write(Pointer("bucket", "m.jsonl"), b"".join(line + b"\n" for line in lines))
    payload = {"items": {"bucket": "bucket", "key": "m.jsonl"}}
    some = {"branches": BRANCHES[-branches:]}
    chunked = written(payload, store, {}, chunked=True, **some)
    assert chunked == written(payload, store, {}, chunked=False, **some)


@pytest.mark.parametrize("offload", [True, False])
def test_without_an_offload_location_only_errors_say_where_an_item_is(offload):
    store = MemoryStore()
    store.write(Pointer("bucket", "m.jsonl"), b'{"n":1,"id":"a"}\n{"n":null,"id":"b"}\n')
    payload = {"items": {"bucket": "bucket", "key": "m.jsonl"}}
    found = written(payload, store, {}, chunked=True, offload=offload, branches=BRANCHES[1:])
    known = {"label": "a", "place": {"byteOffset": 0}} if offload else {}
    assert found.succeeded == [{"index": 0, "branch": "all", **known, "output": {"n": 1}}]
    [failed] = found.failed
    assert failed["place"] == {"byteOffset": 17}
    assert ("label" in failed) is offload


def test_items_that_were_copied_before_they_were_split_have_their_place_in_the_copy():
    store = MemoryStore()
    store.write(Pointer("bucket", "m.json"), b'[{"n":1}, {"n":null}, {"n":3}]')
    payload = {"items": {"bucket": "bucket", "key": "m.json"}}
    found = written(payload, store, {}, chunked=True, branches=BRANCHES[1:])
    assert found.manifest["source"]["key"] == "m.json"
    for line in found.succeeded + found.failed:
        copy = Pointer.from_uri(line["place"]["object"])
        assert copy.key.startswith("offload/")
        item, _, _ = store.read(copy, line["place"]["byteOffset"]).partition(b"\n")
        assert json.loads(item) == {"n": [1, None, 3][line["index"]]}


SOURCES = {
    "csv": (
        {"c/m.csv": b"n,id\n1,a\n2,b,c\n3,d\n"},
        {"bucket": "bucket", "key": "c/m.csv"},
        {},
        ["a", "d", None],
    ),
    "prefix": (
        {f"c/{name}.json": b'{"n":%d,"id":"%b"}' % (n, name.encode()) for n, name in enumerate("abcd")},
        {"bucket": "bucket", "prefix": "c/"},
        {"format": "OBJECTS", "read": "JSON"},
        [f"c/{name}.json" for name in "abcd"],
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_items_of_other_formats_have_a_place_and_a_name_in_every_mode(source):
    objects, items, reader, labels = SOURCES[source]
    found = []
    for chunked in (True, False):
        store = MemoryStore()
        for key, data in objects.items():
            store.write(Pointer("bucket", key), data)
        some = {"branches": BRANCHES[1:], "reader": reader, "chunked": chunked}
        one = written({"items": items}, store, {"dataPath": "$.steps_output.work.n"}, **some)
        assert one.manifest["source"] == items
        assert all(line["place"] for line in one.succeeded + one.failed)
        found.append([without_places(line) for line in one.succeeded + one.failed])
    assert found[0] == found[1]
    assert [line.get("label") for line in found[0]] == labels


def without_places(line):
    return {key: value for key, value in line.items() if key not in {"place", "error"}}
