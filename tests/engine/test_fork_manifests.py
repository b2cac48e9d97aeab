"""Forks over items in objects: formats, invalid lines, labels."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine import ItemError, Services, classify_items, label_of, resolve_items
from airflow_allma.engine.readers import all_batches, range_items
from airflow_allma.exceptions import ObjectDecodeError, PermanentStepError, StorageConfigurationError
from airflow_allma.storage import MemoryStore, Pointer, plan_manifest
from airflow_allma.storage.jsonl import read_line_batches
from tests.support.engine import compose, fork, program_of, run
from tests.support.faulty_store import FaultyStore, fail_when

ITEMS = [{"id": 1, "n": "ä"}, [2], None, "four", 5]
LINES = b"".join(json.dumps(item).encode() + b"\n" for item in ITEMS)
ARRAY = json.dumps(ITEMS, indent=1).encode()
OBJECT = Pointer("bucket", "items")
WORK = compose(inputMappings={"v": "$.currentItem"})


def stored(data, pointer=OBJECT):
    store = MemoryStore()
    store.write(pointer, data)
    return store


@pytest.mark.parametrize("items", [OBJECT.wrap(), OBJECT.inner(), {**OBJECT.wrap(), "itemCount": 5}])
@pytest.mark.parametrize(
    "data", [LINES, LINES.rstrip(b"\n"), ARRAY, gzip.compress(LINES), gzip.compress(ARRAY)]
)
@pytest.mark.parametrize("waits", [{}, {"delay": {"milliseconds": 1}}])
def test_a_pointer_to_items_is_read_in_every_format(items, data, waits):
    ran = run({"fan": fork(), "work": {**WORK, **waits}}, {"items": items}, store=stored(data))
    assert ran.status == "COMPLETED"
    assert ran.outputs["fan"]["aggregatedData"] == [{"v": item} for item in ITEMS]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"[]", gzip.compress(b"")])
def test_an_object_without_items_is_an_empty_fork(data):
    ran = run({"fan": fork(), "work": WORK}, {"items": OBJECT.inner()}, store=stored(data))
    assert ran.outputs["fan"] == {"aggregatedData": []}


def test_nested_pointers_to_items_are_resolved():
    store = stored(LINES)
    store.write(Pointer("bucket", "out.json"), json.dumps({"manifest": OBJECT.wrap()}).encode())
    payload = {"out": Pointer("bucket", "out.json").wrap()}
    ran = run({"fan": fork(items="$.out.manifest"), "work": WORK}, payload, store=store)
    assert len(ran.outputs["fan"]["aggregatedData"]) == 5


def test_an_invalid_line_fails_only_its_item_with_its_line_and_byte():
    data = b'{"id": 1}\n\nnot json\n{"id": 2}\n{"id": \n'
    config = {"failOnBranchError": False}
    ran = run({"fan": fork(config=config), "work": WORK}, {"items": OBJECT.inner()}, store=stored(data))
    first, second, third, fourth = ran.outputs["fan"]["aggregatedData"]
    assert (first, third) == ({"v": {"id": 1}}, {"v": {"id": 2}})
    details = second["error"]["errorDetails"]
    assert (details["lineNumber"], details["byteOffset"], details["itemIndex"]) == (3, 11, 1)
    assert second["error"]["errorMessage"].startswith("Line 3: ")
    assert str(OBJECT) in second["error"]["errorMessage"]
    assert (fourth["error"]["errorDetails"]["lineNumber"], fourth["error"]["errorDetails"]["byteOffset"]) == (
        5,
        30,
    )


LINE = st.sampled_from([b"1", b"", b"bad", b"{}\r", b"  ", b'"' + b"x" * 300 + b'"', b"x" * 300, b"{"])


@given(
    st.lists(LINE, max_size=30), st.booleans(), st.sampled_from([b"", b"\xef\xbb\xbf"]), st.integers(1, 400)
)
def test_an_invalid_line_of_compressed_data_is_named_by_its_number(lines, ends, mark, block):
    data = mark + b"\n".join(lines) + (b"\n" if ends else b"")
    expected, offset = [], len(mark)
    for number, line in enumerate(lines, 1):
        if line in {b"bad", b"{", b"x" * 300}:
            expected.append((number, offset))
        offset += len(line) + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_allma.storage.compression._OUTPUT_BYTES", block)
        batches = list(all_batches(stored(gzip.compress(data)), OBJECT))
    errors = [item.error for batch in batches for item in batch.items if isinstance(item, ItemError)]
    found = [(one.details["lineNumber"], one.details["byteOffset"]) for one in errors]
    assert found == expected
    assert all(
        one.message.startswith(f"Line {number}: ") for one, (number, _) in zip(errors, found, strict=True)
    )


@pytest.mark.parametrize("waits", [{}, {"delay": {"milliseconds": 1}}])
@pytest.mark.parametrize("data", [b"1\n2\n\n3\n", gzip.compress(b"1\n2\n\n3\n"), b"[1,2, 3]"])
def test_the_error_of_an_item_names_its_first_byte(data, waits):
    config = {"failOnBranchError": False}
    picky = compose(outputValidation={"requiredFields": ["$.v"]}, **waits)
    ran = run({"fan": fork(config=config), "work": picky}, {"items": OBJECT.inner()}, store=stored(data))
    details = [one["error"]["errorDetails"] for one in ran.outputs["fan"]["aggregatedData"]]
    assert [one["itemIndex"] for one in details] == [0, 1, 2]
    assert [one["byteOffset"] for one in details] == ([1, 3, 6] if data.startswith(b"[") else [0, 2, 5])


def test_an_invalid_line_fails_every_branch_of_its_item_once():
    branches = [{"branchId": name, "stepInstanceId": "work"} for name in "ab"]
    for selection, failures in (("all", 2), ("first", 1)):
        config = {"strategy": "NONE", "failOnBranchError": False}
        fan = fork(config=config, parallelBranches=branches, branchSelection=selection)
        ran = run({"fan": fan, "work": WORK}, {"items": OBJECT.inner()}, store=stored(b"nope\n1\n"))
        assert ran.outputs["fan"]["failedBranchCount"] == failures


@pytest.mark.parametrize("data", [gzip.compress(b"1\nnot json\n"), b"[1, nul]"])
def test_an_invalid_member_of_compressed_data_or_an_array_is_an_error_that_names_the_object(data):
    ran = run({"fan": fork(), "work": WORK}, {"items": OBJECT.inner()}, store=stored(data))
    assert ran.status == "FAILED"
    assert str(OBJECT) in ran.error["errorMessage"]


DEEP = b"[" * 1500 + b"]" * 1500


@pytest.mark.parametrize(
    ("data", "bad"),
    [
        (DEEP + b'\n{"a":1}\n', 0),
        (b'{"a":1}\n' + DEEP + b"\n", 1),
        (gzip.compress(DEEP + b'\n{"a":1}\n'), 0),
        (b"[" * 2000 + b'\n{"a":1}\n', 0),
        (gzip.compress(b'{"a":' * 2000 + b'\n{"a":1}\n'), 0),
        (b"[1,\n" + DEEP + b"\n,2]", 1),
        (gzip.compress(b"[" + DEEP + b",\n2]"), 0),
        (b"[1e400]\n[2]\n", 0),
        (b'"\\ud800"\n[2]\n', 0),
        (b'{"a":NaN}\n[2]\n', 0),
        (b"\xff\xfe[\x001\x00]\x00\n[2]\n", 0),
    ],
)
def test_a_first_line_that_cannot_be_read_fails_alone_as_any_other(data, bad):
    config = {"failOnBranchError": False}
    ran = run({"fan": fork(config=config), "work": WORK}, {"items": OBJECT.inner()}, store=stored(data))
    assert ran.status == "COMPLETED"
    failed = ["error" in one for one in ran.outputs["fan"]["aggregatedData"]]
    assert failed == [index == bad for index in range(len(failed))]
    assert len(failed) > 1
    message = ran.outputs["fan"]["aggregatedData"][bad]["error"]["errorMessage"]
    assert str(OBJECT) in message
    assert "at byte" in message


@pytest.mark.parametrize("content", [b"\n", b"[]\r\n"])
def test_gzip_that_unpacks_to_too_much_is_an_error_that_names_object_setting_and_ratio(content):
    packed = gzip.compress(content * ((65 << 20) // len(content)), 6)
    store = stored(packed)
    with pytest.raises(
        PermanentStepError, match=r"s3://bucket/items unpacks to more than 200 times"
    ) as caught:
        for _ in all_batches(store, OBJECT):
            pass
    assert f"{len(packed)} bytes of gzip" in caught.value.message
    assert "[allma] max_unpack_ratio" in caught.value.message
    with pytest.raises(ObjectDecodeError, match="unpacks to more than 300 times"):
        plan_manifest(
            store,
            OBJECT,
            range_bytes=1 << 20,
            max_ranges=10,
            spool_to=Pointer("bucket", "lines"),
            max_unpack_ratio=300,
        )


@pytest.mark.parametrize("ratio", [0, 2000])
def test_a_higher_ratio_and_none_let_it_through(ratio):
    store = stored(gzip.compress(b"1\n" + b"\n" * (65 << 20) + b"2\n"))
    batches = all_batches(store, OBJECT, max_unpack_ratio=ratio)
    assert [item for batch in batches for item in batch.items] == [1, 2]


def test_a_small_object_may_have_any_ratio():
    store = stored(gzip.compress(b"1\n" + b"\n" * (1 << 20)))
    assert [item for batch in all_batches(store, OBJECT) for item in batch.items] == [1]


BLANKS = st.lists(st.sampled_from([b"\n", b"\n\n\n\n", b" ", b"1", b"\r\n", b"22\n", b"\t\n "]), max_size=30)


@given(BLANKS, st.integers(1, 7), st.integers(1, 12))
def test_blank_blocks_do_not_change_lines_and_offsets(pieces, block_bytes, range_bytes):
    data = b"".join(pieces)
    expected = []
    offset = 0
    for line in data.split(b"\n"):
        if line.strip():
            expected.append((offset, line.removesuffix(b"\r")))
        offset += len(line) + 1
    store = stored(data)
    plan = plan_manifest(store, OBJECT, range_bytes=range_bytes, max_ranges=100)
    batches = [
        batch for one in plan.ranges for batch in read_line_batches(store, one, block_bytes=block_bytes)
    ]
    assert [pair for batch in batches for pair in zip(*batch, strict=True)] == expected


def test_chunks_count_lines_from_the_start_of_the_object():
    lines = [b'"%d"' % number for number in range(50)]
    lines[40] = b"broken"
    store = stored(b"\n".join(lines))
    plan = plan_manifest(store, OBJECT, range_bytes=40, max_ranges=100)
    found = [line.item for chunk in plan.ranges for line in range_items(store, chunk)]
    assert [item for item in found if not isinstance(item, ItemError)] == [
        str(n) for n in range(50) if n != 40
    ]
    (broken,) = [item for item in found if isinstance(item, ItemError)]
    assert broken.error.details["lineNumber"] == 41


@pytest.mark.parametrize(
    ("payload", "services", "message"),
    [
        ({"items": {"bucket": "bucket", "key": "gone"}}, {"store": MemoryStore()}, "s3://bucket/gone"),
        ({"items": {"bucket": "bucket", "key": "gone"}}, {}, "no store is configured"),
        ({"items": {"bucket": "a/b", "key": "k"}}, {"store": MemoryStore()}, "'a/b' is not a bucket's name"),
        ({"items": {"_s3_output_pointer": {"bucket": "data", "key": ""}}}, {}, "itemsPath: A pointer"),
        ({"items": {"_s3_output_pointer": {"Bucket": "b", "Key": "k"}}}, {}, "it has no bucket"),
        ({"items": {"_s3_output_pointer": None}}, {}, "this one is null"),
        ({"items": {"bucket": "data", "key": ""}}, {}, "its key is empty"),
        ({"items": {"bucket": "b", "key": "k", "versionId": 7}}, {}, "versionId of a pointer must be"),
    ],
)
def test_items_that_cannot_be_read_fail_the_step_with_their_location(payload, services, message):
    ran = run({"fan": fork(), "work": WORK}, payload, **services)
    assert (ran.status, ran.error["errorName"]) == ("FAILED", "PermanentStepError")
    assert message in ran.error["errorMessage"]
    assert ran.error["errorDetails"]["failedStepInstanceId"] == "fan"


def test_items_that_cannot_be_found_fail_the_step():
    ran = run({"fan": fork(items="$.lists[$.no.such]"), "work": WORK}, {"lists": {}})
    assert "Step fan: itemsPath:" in ran.error["errorMessage"]


def test_a_store_that_fails_half_way_fails_the_fork_after_its_retries():
    store = FaultyStore(stored(LINES), fail_when(lambda operation, *_: operation == "stream"))
    ran = run({"fan": fork(), "work": WORK}, {"items": OBJECT.inner()}, store=store)
    assert (ran.status, ran.error["errorName"]) == ("FAILED", "TransientStepError")
    assert len(ran.fakes.sleeps) == 4


def test_reading_a_manifest_raises_step_errors():
    with pytest.raises(PermanentStepError, match="s3://bucket/items"):
        list(all_batches(MemoryStore(), OBJECT))


def test_a_pointer_with_an_invalid_name_is_not_an_ordinary_item():
    with pytest.raises(StorageConfigurationError, match="not a bucket's name"):
        classify_items({"bucket": "a/b", "key": "k"})


def test_a_fork_without_items_path_has_no_items():
    program = program_of({"fan": fork(itemsPath=None, parallelBranches=[])})
    assert asyncio.run(resolve_items(program.steps["fan"].fork, {}, Services())).values == []


@pytest.mark.parametrize(
    ("path", "item", "label"),
    [
        (None, {"id": 7, "name": "n"}, "7"),
        (None, {"id": "", "name": "n"}, "n"),
        (None, {"id": True, "key": "k"}, "k"),
        (None, {"id": {"x": 1}}, "3"),
        (None, "text", "3"),
        (None, {"id": "x" * 300}, "x" * 200),
        ("$.user.mail", {"user": {"mail": "a@b"}, "id": 1}, "a@b"),
        ("$.user.mail", {"user": {"mail": ""}, "id": 1}, "1"),
        ("$.user.mail", {"user": {"mail": False}, "id": 1}, "1"),
        ("$.user.mail", {"id": 1}, "1"),
        ("$.user[$.no.such]", {"id": 1}, "1"),
        ("$", 0, "0"),
        (None, {"id": "\x1b[31mRED\r\n::group::x\u202e"}, "\\x1b[31mRED\\r\\n::group::x\\u202e"),
        ("$", "a\x00b", "a\\x00b"),
        (None, {"name": "\x00" * 300}, "\\x00" * 50),
        (None, {"key": "half \ud83d"}, "half \\ud83d"),
    ],
)
def test_an_item_is_labeled_with_an_id_that_people_know(path, item, label):
    program = program_of({"fan": fork(itemLabelPath=path), "work": WORK})
    assert label_of(program.steps["fan"].fork, item, 3) == label
