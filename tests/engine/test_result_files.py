"""The files of a ``resultWriter``: what succeeded and what failed, written once and replaced as a whole."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine import BranchResult, BranchStatus, join_results
from airflow_allma.engine.aggregate_stream import MAX_BUFFERED_ITEMS
from airflow_allma.engine.item_facts import ItemFacts
from airflow_allma.engine.readers import offset_name
from airflow_allma.engine.result_files import ResultFiles
from airflow_allma.engine.secrets import Secrets
from airflow_allma.exceptions import ObjectAccessDeniedError, StorageUnavailableError
from airflow_allma.flow.formats import is_location
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import (
    LocalStore,
    MemoryStore,
    ObjectPrefix,
    OffloadLocation,
    Pointer,
    S3Store,
)
from tests.support.engine import INFO, Fakes, compose, fork, noop, program_of, run, then
from tests.support.faulty_store import FaultyStore
from tests.support.moto import EndpointClients
from tests.support.result_files import read_manifest, read_results

WRITER = {"resultWriter": {"location": "s3://out/res"}}
FOLDER = "res/shop/run-1/fan"
PICKY = compose(inputMappings={"n": "$.currentItem.n"}, outputValidation={"requiredFields": ["$.n"]})
COUNTS = pytest.mark.parametrize("count", [0, 1, 40, MAX_BUFFERED_ITEMS + 1, 1000])
STRATEGIES = ["COLLECT_ARRAY", "MERGE_OBJECTS", "SUM", "NONE", "CUSTOM_MODULE"]


def items_of(count):
    """Return items of which every fifth fails, and every third has a name."""
    return [{"n": None if n % 5 == 4 else n, **({"id": f"i{n}"} if n % 3 == 0 else {})} for n in range(count)]


def expected_lines(items):
    lines = [
        {"index": n, "branch": "b", **({"label": item["id"]} if "id" in item else {}), "input": item}
        for n, item in enumerate(items)
    ]
    succeeded = [{**line, "output": {"n": line["input"]["n"]}} for line in lines]
    return [one for one in succeeded if one["output"]["n"] is not None], [
        line for line in lines if line["input"]["n"] is None
    ]


def fan(strategy="COLLECT_ARRAY", *, fails=False, **fields):
    config = {"strategy": strategy, "failOnBranchError": fails}
    if strategy == "CUSTOM_MODULE":
        config["customModuleIdentifier"] = "tests.support.aggregators:joined"
    return fork(config=config, **WRITER, **fields)


@COUNTS
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("fails", [True, False])
def test_files_have_each_result_with_its_item_whatever_becomes_of_the_fork(count, strategy, fails):
    store, items = MemoryStore(), items_of(count)
    ran = run({"fan": fan(strategy, fails=fails), "work": PICKY}, {"items": items}, store=store)
    assert ran.status == ("FAILED" if fails and count > 4 else "COMPLETED")
    written = read_results(store, "out", FOLDER)
    succeeded, failed = expected_lines(items)
    assert written.succeeded == succeeded
    assert [{k: v for k, v in line.items() if k != "error"} for line in written.failed] == failed
    assert {line["error"]["errorName"] for line in written.failed} <= {"ContentBasedRetryableError"}
    assert written.counts == {
        "items": count,
        "succeeded": len(succeeded),
        "failed": len(failed),
        "skipped": 0,
    }
    assert {**written.manifest, "counts": None, "files": None} == {
        "formatVersion": 1,
        "status": "COMPLETE",
        "flowId": "shop",
        "flowVersion": 1,
        "flowExecutionId": "run-1",
        "dagId": "shop",
        "runId": "run-1",
        "step": "fan",
        "bucket": "out",
        "counts": None,
        "files": None,
    }


@COUNTS
def test_the_output_of_a_fork_is_the_same_with_and_without_files(count):
    payload = {"items": items_of(count)}
    plain = {**fan(), "resultWriter": None}
    steps = {"fan": plain, "work": PICKY}
    expected = run(steps, payload)
    assert run({**steps, "fan": fan()}, payload, store=MemoryStore()).outputs == expected.outputs


@pytest.mark.parametrize("first", [True, False])
def test_skipped_branch_runs_are_counted_only(first):
    branches = [
        {"branchId": "even", "stepInstanceId": "work", "condition": "$.currentItem.even"},
        {"branchId": "all", "stepInstanceId": "work"},
    ]
    store = MemoryStore()
    items = [{"n": n, "even": n % 2 == 0} for n in range(4)]
    selection = {"branchSelection": "first"} if first else {}
    run({"fan": fan(parallelBranches=branches, **selection), "work": PICKY}, {"items": items}, store=store)
    written = read_results(store, "out", FOLDER)
    ran = [(one["index"], one["branch"]) for one in written.succeeded]
    both = [(0, "even"), (0, "all"), (1, "all"), (2, "even"), (2, "all"), (3, "all")]
    assert ran == ([(0, "even"), (1, "all"), (2, "even"), (3, "all")] if first else both)
    assert written.counts == {"items": 4, "succeeded": len(ran), "failed": 0, "skipped": 2}


def test_items_of_an_object_have_their_place_instead():
    store, pointer = MemoryStore(), Pointer("in", "m.jsonl")
    store.write(pointer, b'{"n":0,"id":"a"}\n{"n":null}\n{\n{"n":3}\n')
    run({"fan": fan(), "work": PICKY}, {"items": pointer.wrap()}, store=store)
    written = read_results(store, "out", FOLDER)
    assert written.manifest["source"] == {"bucket": "in", "key": "m.jsonl"}
    assert written.succeeded == [
        {"index": 0, "branch": "b", "label": "a", "place": {"byteOffset": 0}, "output": {"n": 0}},
        {"index": 3, "branch": "b", "place": {"byteOffset": 30}, "output": {"n": 3}},
    ]
    assert [(one["index"], one["place"]) for one in written.failed] == [
        (1, {"byteOffset": 17}),
        (2, {"byteOffset": 28, "lineNumber": 3}),
    ]


@pytest.mark.parametrize(
    ("pointer", "reader", "name"),
    [
        (Pointer("b", "k.jsonl"), {}, "byteOffset"),
        (Pointer("b", "k"), {"format": "CSV"}, "byteOffset"),
        (Pointer("b", "k.Parquet"), {}, "rowNumber"),
        (Pointer("b", "k"), {"format": "PARQUET"}, "rowNumber"),
        (Pointer("b", "k.parquet"), {"format": "JSONL"}, "byteOffset"),
        (Pointer("b", "manifest.json"), {"format": "MANIFEST"}, "itemOffset"),
        (ObjectPrefix("b", "k/"), {"format": "OBJECTS"}, "itemOffset"),
    ],
)
def test_offsets_are_called_by_what_a_format_counts(pointer, reader, name):
    assert offset_name(pointer, ItemReader.model_validate(reader)) == name


def test_null_is_an_output_and_an_input():
    store = MemoryStore()
    steps = {"fan": fork(config={"dataPath": "$.nothing"}, **WRITER), "work": noop()}
    run(steps, {"items": [None]}, store=store)
    [line] = read_results(store, "out", FOLDER).succeeded
    assert line == {"index": 0, "branch": "b", "input": None, "output": None}


@pytest.mark.parametrize("function", ["raising", "busy", "missing"])
def test_a_custom_module_that_raises_leaves_all_lines(function):
    config = {"strategy": "CUSTOM_MODULE", "customModuleIdentifier": f"tests.support.aggregators:{function}"}
    store = MemoryStore()
    payload = {"items": items_of(600)}
    ran = run(
        {"fan": fork(config={**config, "failOnBranchError": False}, **WRITER), "work": PICKY},
        payload,
        store=store,
    )
    assert ran.status == "FAILED"
    assert read_results(store, "out", FOLDER).counts["items"] == 600


def test_results_that_are_too_large_for_the_context_are_in_the_files_nevertheless():
    program = program_of({"fan": fan(), "work": PICKY})
    store = MemoryStore()
    services = Fakes().services(store=store)
    results = (BranchResult(n, 0, "b", output={"n": n}) for n in range(500))
    compiled = program.steps["fan"].fork
    with pytest.raises(Exception, match="max_inline_bytes"):
        join_results(compiled, results, services, None, max_inline_bytes=100, files=files_of(store, services))
    assert read_results(store, "out", "res").counts["succeeded"] == 500


def files_of(store, services=None, facts=None, **limits):
    folder = OffloadLocation("out", "res")
    heading = {"step": "fan", "bucket": "out"}
    return ResultFiles(store, folder, heading, facts or ItemFacts(), services or Fakes().services(), **limits)


def write(files, results):
    for _ in files.watch(results):
        pass
    files.finish()


STATUSES = st.lists(st.sampled_from(BranchStatus), max_size=30)


def results_of(statuses):
    return [
        BranchResult(n, 0, "b", status, *([n] if status is BranchStatus.OK else [None, {"errorName": "E"}]))
        for n, status in enumerate(statuses)
    ]


@given(st.lists(STATUSES, min_size=1, max_size=3), st.integers(1, 120), st.integers(1, 5))
def test_each_try_replaces_the_files_of_the_tries_before_it(tries, max_bytes, max_lines):
    store = MemoryStore()
    for statuses in tries:
        write(files_of(store, max_bytes=max_bytes, max_lines=max_lines), results_of(statuses))
        written = read_results(store, "out", "res")
        for name, status in (("succeeded", BranchStatus.OK), ("failed", BranchStatus.FAILED)):
            lines = getattr(written, name)
            assert [one["index"] for one in lines] == [n for n, s in enumerate(statuses) if s is status]
            for file in written.manifest["files"][name]:
                assert file["lines"] <= max_lines
                assert file["bytes"] <= max_bytes or file["lines"] == 1
        skipped = statuses.count(BranchStatus.SKIPPED)
        assert written.counts["skipped"] == skipped
        assert written.counts["items"] == len(statuses)


def test_tries_replace_files_in_s3_and_in_a_folder(moto_endpoint, tmp_path):
    clients = EndpointClients(moto_endpoint)
    location = {"LocationConstraint": "eu-central-1"}
    clients.client("s3").create_bucket(Bucket="result-files", CreateBucketConfiguration=location)
    for store in (S3Store(clients), LocalStore(tmp_path)):
        for count in (7, 3):
            folder = OffloadLocation("result-files", "res")
            heading = {"step": "fan", "bucket": "result-files"}
            services = Fakes().services()
            files = ResultFiles(store, folder, heading, ItemFacts(), services, max_lines=2)
            write(files, results_of([BranchStatus.OK] * count))
            written = read_results(store, "result-files", "res")
            assert [one["output"] for one in written.succeeded] == list(range(count))
        assert [info.size > 0 for info in store.list("result-files", "res/succeeded-")] == [
            True,
            True,
            False,
            False,
        ]


@given(st.integers(0, 40), st.booleans())
def test_a_manifest_of_a_killed_try_names_no_files_and_the_next_try_is_complete(stop, abandon):
    store = MemoryStore()
    write(files_of(store, max_lines=3), results_of([BranchStatus.OK] * 20))
    files = files_of(store, max_lines=3)
    for number, _ in enumerate(files.watch(results_of([BranchStatus.FAILED] * 41))):
        if number == stop:
            break
    if abandon:
        files.finish_after(KeyboardInterrupt())
    manifest = read_manifest(store, "out", "res")
    assert (manifest["status"], manifest["files"]) == ("WRITING", {})
    statuses = [BranchStatus.OK, BranchStatus.FAILED]
    write(files_of(store, max_lines=3), results_of(statuses))
    written = read_results(store, "out", "res")
    assert (len(written.succeeded), len(written.failed)) == (1, 1)


def test_results_that_cannot_be_read_leave_a_manifest_that_names_nothing():
    def broken():
        yield BranchResult(0, 0, "b", output=1)
        raise StorageUnavailableError("the results are gone")

    program = program_of({"fan": fan(), "work": PICKY})
    store = MemoryStore()
    services = Fakes().services(store=store)
    with pytest.raises(StorageUnavailableError, match=r"^the results are gone$"):
        join_results(program.steps["fan"].fork, broken(), services, None, files=files_of(store))
    assert read_manifest(store, "out", "res")["status"] == "WRITING"


@pytest.mark.parametrize("count", [40, 2000])
@pytest.mark.parametrize("refused", ["manifest", "succeeded-", "failed-"])
def test_a_location_that_refuses_fails_the_fork_and_is_named(count, refused):
    def refuse(operation, pointer, _number):
        if operation in {"write", "open_writer"} and f"/{refused}" in f"/{pointer.key}":
            raise ObjectAccessDeniedError("access is denied")

    store = FaultyStore(MemoryStore(), refuse)
    ran = run({"fan": fan(), "work": PICKY}, {"items": items_of(count)}, store=store)
    message = ran.error["errorMessage"]
    assert ran.error["errorName"] == "PermanentStepError"
    assert "Step fan" in message
    assert f"s3://out/{FOLDER}" in message
    assert "resultWriter.location" in message
    assert message.endswith("access is denied")


def test_a_failed_fork_keeps_its_own_error_if_its_files_cannot_be_written_either(caplog):
    def refuse(operation, pointer, _number):
        if operation == "open_writer" and "succeeded-" in pointer.key:
            raise ObjectAccessDeniedError("access is denied")

    store = FaultyStore(MemoryStore(), refuse)
    ran = run({"fan": fan(fails=True), "work": PICKY}, {"items": items_of(40)}, store=store)
    assert ran.error["errorName"] == "ParallelBranchExecutionError"
    [warning] = [record.message for record in caplog.records if "access is denied" in record.message]
    assert f"s3://out/{FOLDER}" in warning


def test_a_location_that_cannot_be_listed_is_written_with_a_warning(caplog):
    def refuse(operation, _pointer, _number):
        if operation in {"list", "head", "read"}:
            raise ObjectAccessDeniedError("access is denied")

    store = MemoryStore()
    items = {"items": items_of(40)}
    ran = run({"fan": fan(), "work": PICKY}, items, store=FaultyStore(store, refuse))
    assert ran.status == "COMPLETED"
    assert read_results(store, "out", FOLDER).counts["items"] == 40
    assert "manifest.json names those that count" in caplog.text


def test_without_a_store_the_fork_says_what_is_missing():
    ran = run({"fan": fan(), "work": PICKY}, {"items": [{"n": 1}]})
    assert "no store is configured for resultWriter.location" in ran.error["errorMessage"]


def test_a_fork_in_a_loop_has_a_folder_for_each_pass():
    steps = {
        "fan": fan(**then("again")),
        "work": PICKY,
        "again": noop(
            transitions=[{"condition": "$.items", "nextStepInstanceId": "fan", "maxTransitions": 2}],
            onError={"fallbackStepInstanceId": "last"},
        ),
        "last": noop(),
    }
    store = MemoryStore()
    run(steps, {"items": items_of(3)}, store=store)
    for folder in ("fan", "fan/pass=2", "fan/pass=3"):
        assert read_results(store, "out", f"res/shop/run-1/{folder}").counts["items"] == 3
    assert manifests(store) == 3


def manifests(store):
    return sum(info.pointer.key.endswith("/manifest.json") for info in store.list("out"))


def test_a_fork_in_a_branch_has_a_folder_for_each_item_of_the_fork_around_it():
    inner = {**fork("leaf", items="$.currentItem.rows"), **WRITER}
    steps = {"fan": fan(), "work": inner, "leaf": PICKY}
    items = [{"rows": items_of(n)} for n in (1, 2, 3)]
    store = MemoryStore()
    assert run(steps, {"items": items}, store=store).status == "COMPLETED"
    for number in range(3):
        folder = f"{FOLDER}/b/{number}/work"
        assert read_results(store, "out", folder).counts["items"] == number + 1
    assert read_results(store, "out", FOLDER).counts["items"] == 3
    assert manifests(store) == 4


@pytest.mark.parametrize("flow_execution_id", ["manual__2026-01-01T00:00:00+00:00", "a/b", "..", "ü"])
def test_identifiers_are_one_segment_of_the_key_each(flow_execution_id):
    store = MemoryStore()
    info = msgspec.structs.replace(INFO, flow_execution_id=flow_execution_id)
    run({"fan": fan(), "work": PICKY}, {"items": [{"n": 1}]}, store=store, info=info)
    [key] = [info.pointer.key for info in store.list("out") if info.pointer.key.endswith("manifest.json")]
    assert (
        key == OffloadLocation("out", "res").pointer("shop", flow_execution_id, "fan").key + "/manifest.json"
    )
    assert key.count("/") == 4


def test_secrets_in_the_names_of_items_are_masked():
    secrets = Secrets()
    secrets.masks.add(["hunter2-hunter2"])
    store = MemoryStore()
    items = [{"id": "key hunter2-hunter2", "n": 1}]
    run({"fan": fan(), "work": PICKY}, {"items": items}, store=store, secrets=secrets)
    [line] = read_results(store, "out", FOLDER).succeeded
    assert line["label"] == "key ***"


def test_files_of_a_hundred_thousand_results_need_little_memory(tmp_path):
    class Long(ItemFacts):
        input = "x" * 400

    count = 100_000
    store = LocalStore(tmp_path)
    files = files_of(store, facts=Long(), max_bytes=8 << 20)
    results = (
        BranchResult(n, 0, "b", *((BranchStatus.OK, n) if n % 2 else (BranchStatus.FAILED, None, {"e": n})))
        for n in range(count)
    )
    tracemalloc.start()
    try:
        write(files, results)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 4 << 20
    written = read_results(store, "out", "res")
    assert written.counts == {"items": count, "succeeded": count // 2, "failed": count // 2, "skipped": 0}
    assert len(written.manifest["files"]["failed"]) == 3


@given(
    st.one_of(
        st.from_regex(r"(s3|file)://[ -~]{0,30}", fullmatch=True),
        st.text(max_size=20).map(lambda text: f"s3://bucket/{text}"),
        st.text(max_size=20).map(lambda text: f"file:///{text}"),
    )
)
def test_every_location_that_is_accepted_at_load_can_be_used(location):
    if is_location(location):
        OffloadLocation.parse(location)


@pytest.mark.parametrize(
    ("location", "is_good"),
    [
        ("s3://bucket", True),
        ("s3://bucket/", True),
        ("s3://bucket/a/b c/", True),
        ("file:///tmp/results", True),
        ("s3://", False),
        ("s3:///prefix", False),
        ("S3://bucket/x", False),
        ("https://bucket/x", False),
        ("bucket/x", False),
        ("s3://bucket/{{initialContextData.day}}", False),
        ("s3://{{stage}}-bucket/x", False),
        ("s3://bucket/x\n", False),
        ("s3://bucket/" + "x" * 600, False),
        ("file:///", False),
        ("file:///a/../b", False),
        ("file:///a/%2E%2E/b", False),
        (" s3://bucket/x", False),
    ],
)
def test_locations(location, is_good):
    assert is_location(location) is is_good
