"""Pointers: loaded only if something reads their content; large outputs become pointers."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from airflow_allma.engine import EngineSettings, PointerCache, Services, evaluate, pointer_loading
from airflow_allma.engine.http_fake import json_response
from airflow_allma.engine.pointer_cache import PointerNotLoaded
from airflow_allma.exceptions import PermanentStepError, TransientStepError
from airflow_allma.expressions import compile_path
from airflow_allma.storage import MemoryStore, OffloadLocation, Pointer
from tests.support.engine import Fakes, call, compose, fork, noop, run, then
from tests.support.faulty_store import FaultyStore, fail_when

FAR = Pointer("bucket", "far.json")
WAITS = [{}, {"delay": {"milliseconds": 1}}]
THRESHOLD = EngineSettings(offload_location=OffloadLocation.parse("s3://big/out"), output_offload_bytes=100)


def stored(**objects):
    store = MemoryStore()
    for name, value in objects.items():
        store.write(
            Pointer("bucket", f"{name}.json"), json.dumps(value).encode(), content_type="application/json"
        )
    return FaultyStore(store)


def read_keys(store):
    return [pointer.key for operation, pointer in store.calls if operation == "read"]


@pytest.mark.parametrize("waits", WAITS)
def test_a_pointer_is_loaded_once_and_only_if_something_reads_its_content(waits):
    store = stored(far={"a": {"b": 1}}, other={"c": 2})
    steps = {
        "pass": compose(inputMappings={"whole": "$.far"}, **waits, **then("read")),
        "read": compose(inputMappings={"b": "$.far.a.b", "again": "$.far.a"}, **waits, **then("twice")),
        "twice": compose(inputMappings={"b": "$.far.a.b"}, literals={"t": "{{far.a.b}}"}, **waits),
    }
    ran = run(steps, {"far": FAR.wrap(), "other": Pointer("bucket", "other.json").wrap()}, store=store)
    assert ran.outputs["pass"] == {"whole": FAR.wrap()}
    assert ran.outputs["read"] == {"b": 1, "again": {"b": 1}}
    assert ran.outputs["twice"] == {"b": 1, "t": "1"}
    assert read_keys(store) == ["far.json"]
    assert [one.step_id for one in ran.fakes.records] == ["pass", "read", "twice"]


def test_loading_makes_one_head_and_one_read():
    store = stored(far={"a": 1})
    steps = {"read": compose(inputMappings={"a": "$.far.a"})}
    ran = run(steps, {"far": FAR.wrap()}, store=store)
    assert ran.outputs["read"] == {"a": 1}
    assert [operation for operation, _ in store.calls] == ["head", "read"]


def test_concurrent_reads_share_one_load():
    store = stored(far={"a": 1})
    steps = {"fan": fork(), "work": compose(inputMappings={"a": "$.far.a"}, delay={"milliseconds": 1})}
    ran = run(steps, {"items": list(range(20)), "far": FAR.wrap()}, store=store)
    assert ran.outputs["fan"] == {"aggregatedData": [{"a": 1}] * 20}
    assert read_keys(store) == ["far.json"]


def test_a_fetch_that_one_caller_cancels_completes_for_the_others():
    begun, may_go_on = threading.Event(), threading.Event()

    def wait(operation, _pointer, _number):
        if operation == "read":
            begun.set()
            may_go_on.wait(timeout=10)

    store = FaultyStore(stored(far={"a": 1}), wait)

    async def fetch_twice():
        services = Services(store=store)
        cache = services.pointers
        first = asyncio.create_task(cache.fetch(FAR, store, services.in_thread))
        assert await asyncio.to_thread(begun.wait, 10)
        second = asyncio.create_task(cache.fetch(FAR, store, services.in_thread))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        may_go_on.set()
        await second
        return cache.load(FAR.inner())

    assert asyncio.run(fetch_twice()) == {"a": 1}
    assert read_keys(store) == ["far.json"]


def test_a_step_that_reads_too_many_pointers_fails(monkeypatch):
    monkeypatch.setattr(pointer_loading, "MAX_FETCHES", 20)
    items = {f"far{number}": {"x": number} for number in range(21)}
    pointers = [Pointer("bucket", f"{name}.json").wrap() for name in items]
    read = compose(inputMappings={"all": "$.list[*].x"})
    ran = run({"read": read}, {"list": pointers}, store=stored(**items))
    assert "reads more than 20 pointers" in ran.error["errorMessage"]
    ran = run({"read": read}, {"list": pointers[2:]}, store=stored(**items))
    assert len(ran.outputs["read"]["all"]) == 19


def test_a_failed_load_fails_every_branch_that_waits_for_it():
    steps = {"fan": fork(), "work": compose(inputMappings={"a": "$.far.a"}, delay={"milliseconds": 1})}
    ran = run(steps, {"items": [1, 2, 3], "far": FAR.wrap()}, store=stored())
    failures = ran.error["errorDetails"]["branchErrors"]
    assert [one["error"]["errorDetails"]["itemIndex"] for one in failures] == [0, 1, 2]


def test_writing_below_a_pointer_does_not_change_its_loaded_content():
    store = stored(far={"a": {"b": 1}})
    steps = {
        "write": compose(literals={"x": 2}, outputMappings={"$.far.a.b": "$.x"}, **then("other")),
        "other": compose(inputMappings={"near": "$.far.a.b", "far": "$.twin.a.b"}),
    }
    ran = run(steps, {"far": FAR.wrap(), "twin": FAR.wrap()}, store=store)
    assert ran.outputs["other"] == {"near": 2, "far": 1}


@pytest.mark.parametrize("condition", [{}, {"condition": "$.far.go"}])
@pytest.mark.parametrize("waits", WAITS)
def test_an_inline_branch_that_needs_a_pointer_continues_where_it_stopped(waits, condition):
    store = stored(far={"go": True, "n": 5}, near={"n": 6})
    steps = {
        "fan": fork(
            config={"dataPath": "$.end.n"},
            parallelBranches=[{"branchId": "b", "stepInstanceId": "first", **condition}],
        ),
        "first": compose(literals={"once": 1}, **waits, **then("second")),
        "second": compose(
            inputMappings={"n": "$.near.n"},
            transitions=[{"condition": "$.far.go", "nextStepInstanceId": "third"}],
        ),
        "third": compose(literals={"x": 1}, outputMappings={"$.end": "$.no.such"}),
    }
    near = Pointer("bucket", "near.json").wrap()
    payload = {"items": [1, 2], "far": FAR.wrap(), "near": near, "end": FAR.wrap()}
    ran = run(steps, payload, store=store)
    assert ran.outputs["fan"] == {"aggregatedData": [5, 5]}
    # Every step ran exactly once.
    ran_steps = sorted(one.step_id for one in ran.fakes.records)
    assert ran_steps == sorted(["first", "second", "third"] * 2 + ["fan"])


@pytest.mark.parametrize("waits", WAITS)
@pytest.mark.parametrize(
    ("pointer", "services", "message"),
    [
        (FAR.wrap(), {"store": MemoryStore()}, "s3://bucket/far.json"),
        (FAR.wrap(), {}, "reads s3://bucket/far.json, but no store is configured"),
        (
            {"_s3_output_pointer": {"bucket": "x"}},
            {"store": MemoryStore()},
            "needs a bucket and a key, both strings",
        ),
        (
            {"_s3_output_pointer": {"bucket": "a/b", "key": "k"}},
            {"store": MemoryStore()},
            "'a/b' is not a bucket",
        ),
    ],
)
def test_a_pointer_that_cannot_be_loaded_fails_the_step_with_its_location(pointer, services, message, waits):
    ran = run({"read": compose(inputMappings={"a": "$.far.a"}, **waits)}, {"far": pointer}, **services)
    assert (ran.status, ran.error["errorName"]) == ("FAILED", "PermanentStepError")
    assert message in ran.error["errorMessage"]


def test_unknown_fields_of_a_pointer_are_ignored():
    pointer = {"_s3_output_pointer": {**FAR.inner(), "etag": "x", "size": 5}}
    ran = run({"read": compose(inputMappings={"a": "$.far.a"})}, {"far": pointer}, store=stored(far={"a": 1}))
    assert ran.outputs["read"] == {"a": 1}


def test_an_unavailable_store_is_retried():
    store = FaultyStore(stored(far={"a": 1}), fail_when(lambda _operation, _pointer, number: number < 2))
    ran = run({"read": compose(inputMappings={"a": "$.far.a"})}, {"far": FAR.wrap()}, store=store)
    assert (ran.outputs["read"], ran.fakes.sleeps) == ({"a": 1}, [0.5, 1.0])
    store = FaultyStore(stored(far={"a": 1}), fail_when(lambda *_: True))
    ran = run({"read": compose(inputMappings={"a": "$.far.a"})}, {"far": FAR.wrap()}, store=store)
    assert (ran.error["errorName"], len(ran.fakes.sleeps)) == (TransientStepError.default_name, 4)


def cached(cache, *keys):
    def has(key):
        try:
            return cache.load({"bucket": "b", "key": key}) is not None
        except PointerNotLoaded:
            return False

    return [key for key in keys if has(key)]


def test_a_cache_evicts_the_least_recently_used_content():
    cache = PointerCache(max_bytes=10)
    for key in "abc":
        cache.put(Pointer("b", key), key, 4)
    assert cached(cache, "a", "b", "c") == ["b", "c"]
    cache.load({"bucket": "b", "key": "b"})
    cache.put(Pointer("b", "d"), "d", 4)
    assert cached(cache, "b", "c", "d") == ["b", "d"]
    cache.put(Pointer("b", "huge"), "huge", 1000)
    assert cached(cache, "b", "d", "huge") == ["huge"]


def test_putting_the_same_pointer_again_does_not_fill_the_cache():
    cache = PointerCache(max_bytes=10)
    for _ in range(100):
        cache.put(Pointer("b", "a"), "a", 4)
    cache.put(Pointer("b", "z"), "z", 4)
    assert cached(cache, "a", "z") == ["a", "z"]


def test_versions_of_an_object_are_cached_separately():
    cache = PointerCache()
    cache.put(Pointer("b", "k", version_id="1"), "old", 1)
    assert cache.load({"bucket": "b", "key": "k", "versionId": "1"}) == "old"
    with pytest.raises(PointerNotLoaded):
        cache.load({"bucket": "b", "key": "k"})


@pytest.mark.parametrize("step", [compose, call])
def test_a_step_that_needs_more_than_the_cache_can_hold_fails(step):
    store = stored(far={"a": 1}, near={"a": 1})
    payload = {"far": FAR.wrap(), "near": Pointer("bucket", "near.json").wrap()}
    fields = (
        {"url": "https://api.test/{{far.a}}{{near.a}}"}
        if step is call
        else {"literals": {"x": "{{far.a}}{{near.a}}"}}
    )
    ran = run({"read": step(**fields)}, payload, store=store, pointers=PointerCache(max_bytes=1))
    assert ran.status == "FAILED"
    assert "more than this process can hold at once" in ran.error["errorMessage"]


def test_evaluate_returns_at_once_if_no_pointer_is_needed():
    found = asyncio.run(evaluate(Fakes().services(), compile_path("$.a").find, {"a": 1}))
    assert found == 1


LARGE = {"text": "x" * 200, "id": 7}


def offloaded(ran, key="make"):
    return Pointer.parse(ran.outputs[key])


@pytest.mark.parametrize("waits", WAITS)
@pytest.mark.parametrize(
    ("size", "fields", "offloads"),
    [
        (10, {}, False),
        (200, {}, True),
        (10, {"forceS3Offload": True}, True),
        (200, {"disableS3Offload": True}, False),
    ],
)
def test_an_output_above_the_threshold_becomes_a_pointer_unless_the_step_disables_it(
    size, fields, offloads, waits
):
    store = MemoryStore()
    steps = {
        "make": compose(literals={"text": "x" * size}, **fields, **waits, **then("read")),
        "read": compose(inputMappings={"text": "$.steps_output.make.text.length"}),
    }
    ran = run(steps, store=store, settings=THRESHOLD)
    assert (offloaded(ran) is not None) is offloads
    assert ran.outputs["read"] == {"text": size}
    if offloads:
        assert offloaded(ran).bucket == "big"
        assert offloaded(ran).key.startswith("out/shop/run-1/make")


@pytest.mark.parametrize(("size", "offloads"), [(89, False), (90, True)])
def test_an_output_of_exactly_the_threshold_stays(size, offloads):
    # {"text":"..."} adds eleven bytes to the text.
    ran = run({"make": compose(literals={"text": "x" * size})}, store=MemoryStore(), settings=THRESHOLD)
    assert (offloaded(ran) is not None) is offloads


def test_values_of_an_offloaded_output_can_be_mapped():
    mappings = {"$.id": "$.id", "$.whole": "$", "$.from_input": "$.only", "$.method": "$._meta.method"}
    fakes = Fakes()
    fakes.http.route("GET", "https://api.test/x", json_response(LARGE))
    step = call(inputMappings={"only": "$.n"}, outputMappings={**mappings, "$.id": "$.data.id"})
    store = MemoryStore()
    ran = run({"make": step}, {"n": 1}, fakes=fakes, store=store, settings=THRESHOLD)
    assert (ran.context["id"], ran.context["from_input"], ran.context["method"]) == (7, 1, "GET")
    saved = json.loads(store.read(Pointer.parse(ran.context["whole"])))
    assert saved["data"] == LARGE
    assert "_meta" not in saved


def test_branches_return_offloaded_content_and_not_its_pointer():
    fan = fork(disableS3Offload=True)
    steps = {"fan": fan, "work": compose(literals=LARGE, **then("look")), "look": compose(literals=LARGE)}
    ran = run(steps, {"items": [1, 2]}, store=MemoryStore(), settings=THRESHOLD)
    assert ran.outputs["fan"] == {"aggregatedData": [LARGE, LARGE]}


def test_a_pointer_is_not_offloaded_again_but_data_that_looks_like_one_is():
    steps = {"make": compose(inputMappings={"_s3_output_pointer": "$.inner"}, forceS3Offload=True)}
    ran = run(steps, {"inner": FAR.inner()}, store=MemoryStore(), settings=THRESHOLD)
    assert ran.outputs["make"] == FAR.wrap()
    steps = {"make": compose(literals={"bucket": "not/a/bucket", "key": "x" * 200})}
    ran = run(steps, store=MemoryStore(), settings=THRESHOLD)
    assert offloaded(ran).bucket == "big"


@pytest.mark.parametrize("services", [{}, {"store": MemoryStore()}, {"settings": THRESHOLD}])
def test_a_forced_offload_without_a_location_is_an_error_that_names_the_setting(services):
    ran = run({"make": compose(literals=LARGE, forceS3Offload=True)}, **services)
    assert (ran.status, ran.error["errorName"]) == ("FAILED", PermanentStepError.default_name)
    assert "forceS3Offload" in ran.error["errorMessage"]
    assert "offload_location" in ran.error["errorMessage"]


def test_without_a_location_large_outputs_are_not_offloaded():
    assert run({"make": compose(literals=LARGE)}, store=MemoryStore()).outputs["make"] == LARGE


def test_a_store_that_rejects_an_output_fails_the_step():
    store = FaultyStore(MemoryStore(), fail_when(lambda *_: True))
    ran = run({"make": compose(literals=LARGE), "x": noop()}, store=store, settings=THRESHOLD)
    assert (ran.status, ran.error["errorName"]) == ("FAILED", "TransientStepError")
