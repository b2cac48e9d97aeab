from __future__ import annotations

import gzip
import json
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.exceptions import ObjectDecodeError, StorageConfigurationError
from airflow_allma.storage.compression import Compression, decompress
from airflow_allma.storage.decoding import BOM, is_json
from airflow_allma.storage.json_array import array_elements
from airflow_allma.storage.manifest_format import ManifestFormat, detect_format
from airflow_allma.storage.manifest_plan import plan_manifest
from airflow_allma.storage.manifest_ranges import ManifestRange
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.pointer import Pointer
from tests.storage.conftest import World
from tests.support.faulty_store import FaultyStore
from tests.support.lines import read_lines

AT = Pointer("bucket", "manifest")
SPOOL = Pointer("bucket", "spool/lines.jsonl")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('a"\\[]{},', max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(
    st.lists(VALUES, max_size=8),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
    st.integers(1, 40),
    st.sampled_from([b"", BOM, b" \r\n"]),
)
def test_array_elements_are_what_json_loads_returns(
    values, indent, ascii_only: bool, size: int, before: bytes
):
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    data = before + text + b" \n"
    found = list(array_elements(cut(data, size)))
    assert [json.loads(line.data) for line in found] == values
    assert all(b"\n" not in line.data for line in found)
    for line in found:
        assert data[line.offset :].startswith(line.data[:1])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1,,2]", "byte 3"),
        ("[,1]", "byte 1"),
        ("[1,]", "byte 3"),
        ("[1, ]", "byte 4"),
        ("[1,2", "ends before the array"),
        ('["a', "ends before the array"),
        ("[[1]", "ends before the array"),
        ("[1}", "does not close an object"),
        ("[1] 2", "byte 4"),
        ("[1]\n[2]", "one value per line"),
        ("{}", "must begin with"),
        ("", "ends before the array"),
        ("  ", "ends before the array"),
        (f'["{"x" * 200}"]', "longer than 100"),
        (f'["{"x" * 200}', "longer than 100"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_invalid_array_is_an_error_with_its_offset(text: str, reason: str, size: int):
    with pytest.raises(ObjectDecodeError) as caught:
        list(array_elements(cut(text.encode(), size), max_element_bytes=100, source="s3://b/k"))
    assert reason in str(caught.value)
    assert "s3://b/k" in str(caught.value)


def test_an_invalid_element_stays_invalid_and_leaves_the_others_alone():
    found = [line.data for line in array_elements([b'[1, NaN, "a\nb", {"x": 1 2}, "ok"]'])]
    assert [is_json(data) for data in found] == [True, False, False, False, True]


def test_a_large_array_is_split_with_little_memory():
    def blocks():
        yield b"["
        for number in range(30_000):
            yield b'%s{"id": %d, "tags": ["a", "b"]}' % (b"," if number else b"", number)
        yield b"]"

    tracemalloc.start()
    try:
        count = sum(1 for _ in array_elements(blocks()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 30_000
    assert peak < 200_000


@given(st.lists(st.binary(max_size=300), max_size=4), st.integers(1, 100), st.integers(0, 9))
def test_decompressing_yields_the_bytes_of_all_members(members: list[bytes], size: int, padding: int):
    gzipped = b"".join(gzip.compress(member) for member in members)
    padded = gzipped + b"\0" * (padding if members else 0)
    assert b"".join(decompress(cut(padded, size), "x")) == b"".join(members)


def test_decompressing_yields_small_blocks():
    gzipped = gzip.compress(b"\0" * 50_000_000)
    blocks = list(decompress([gzipped], "x"))
    assert sum(map(len, blocks)) == 50_000_000
    assert max(map(len, blocks)) <= 1 << 20


def test_decompression_takes_time_in_proportion_to_the_number_of_members():
    # zlib copies what follows a member: 4 MB for each of them would take longer than any test run can wait.
    members = (gzip.compress(b"") + b"\0") * 200_000 + gzip.compress(b"end")
    assert b"".join(decompress([members], "x")) == b"end"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(b"hello" * 100)[:-9], "not valid gzip: it is cut off"),
        (gzip.compress(b"hello") + b"garbage", "not valid gzip"),
        (gzip.compress(random.Random(1).randbytes(500))[:60] + b"\xff" * 300, "s3://b/k"),
    ],
)
def test_invalid_gzip_is_an_error(data: bytes, reason: str):
    with pytest.raises(ObjectDecodeError, match=reason):
        list(decompress(cut(data, 50), "s3://b/k"))


LINES, ARRAY = ManifestFormat(), ManifestFormat(is_array=True)
GZIP_LINES = ManifestFormat(compression=Compression.GZIP)
GZIP_ARRAY = ManifestFormat(is_array=True, compression=Compression.GZIP)


@pytest.mark.parametrize(
    ("key", "content", "expected"),
    [
        ("m", b'{"a":1}\n{"a":2}\n', LINES),
        ("m", b"", LINES),
        ("m", b"[1,2,3]", ARRAY),
        ("m", BOM + b"\n [1,\n2]", ARRAY),
        ("m.json", b"[\n  1,\n  2\n]\n", ARRAY),
        ("m", b"[1,2]\n[3,4]\n", LINES),
        ("m.json", b"[1,2]\n[3,4]\n", LINES),
        ("m.jsonl", b"[1,2]\n", LINES),
        ("m.jsonl", b"[\n1,\n2]\n", ARRAY),
        ("m.json", b"[" + b"1," * 100_000 + b"1]", ARRAY),
        ("m.jsonl", b"[" + b"1," * 100_000 + b"1]\n[2]", LINES),
        ("m.gz", gzip.compress(b"[1,2,3]"), GZIP_ARRAY),
        ("m.jsonl.gz", gzip.compress(b"[1,2,3]"), GZIP_LINES),
        ("m", gzip.compress(b'{"a":1}\n' * 100_000), GZIP_LINES),
        ("m", gzip.compress(b"") * 2 + gzip.compress(b"[\n1\n]"), GZIP_ARRAY),
        ("m", gzip.compress(b"\n") + b"\0" * 9 + gzip.compress(b"[1,2]"), GZIP_ARRAY),
        ("m", gzip.compress(b"[1,") + b"\x1f\x8bnonsense", GZIP_ARRAY),
    ],
)
def test_the_format_of_a_manifest_is_detected(key: str, content: bytes, expected: ManifestFormat):
    store = MemoryStore()
    store.write(Pointer("bucket", key), content)
    assert detect_format(store, Pointer("bucket", key))[1] == expected


ITEMS = [{"id": number, "text": "x" * (number % 97), "list": [1, [2]]} for number in range(3000)]
AS_LINES = b"".join(json.dumps(item).encode() + b"\n" for item in ITEMS)


@pytest.mark.parametrize(
    "content",
    [
        AS_LINES,
        BOM + AS_LINES.replace(b"\n", b"\r\n\r\n"),
        json.dumps(ITEMS).encode(),
        json.dumps(ITEMS, indent=2).encode(),
        gzip.compress(AS_LINES),
        gzip.compress(json.dumps(ITEMS, indent=2).encode()),
        gzip.compress(AS_LINES[:1000]) + gzip.compress(AS_LINES[1000:]),
    ],
    ids=["lines", "crlf", "array", "indented array", "gzip lines", "gzip array", "gzip members"],
)
def test_every_format_of_a_manifest_has_the_same_items_in_order(world: World, content: bytes):
    world.store.write(world.at("m"), content, content_type="binary/octet-stream")
    plan = plan_manifest(
        world.store, world.at("m"), range_bytes=20_000, max_ranges=7, spool_to=world.at("spool/m.jsonl")
    )
    assert len(plan.ranges) == 7
    found = [
        json.loads(line.data)
        for planned in plan.ranges
        for line in read_lines(
            world.store, ManifestRange.from_dict(json.loads(json.dumps(planned.to_dict())))
        )
    ]
    assert found == ITEMS


def test_an_element_with_a_byte_order_mark_fails_in_the_converted_array_too():
    store = MemoryStore()
    store.write(AT, b"[" + BOM + b"1, 2]")
    plan = plan_manifest(store, AT, range_bytes=100, max_ranges=1, spool_to=SPOOL)
    assert [is_json(line.data) for line in read_lines(store, plan.ranges[0])] == [False, True]


def test_planning_lines_costs_one_head_and_one_short_read_whatever_the_size():
    memory = MemoryStore()
    memory.write(AT, AS_LINES * 50)
    store = FaultyStore(memory)
    plan = plan_manifest(store, AT, range_bytes=1 << 20, max_ranges=200)
    assert [operation for operation, _ in store.calls] == ["head", "read"]
    assert plan.lines == memory.head(AT)
    assert {(one.pointer, one.etag) for one in plan.ranges} == {(AT, plan.lines.etag)}


def test_an_empty_manifest_has_no_ranges():
    store = MemoryStore()
    store.write(AT, b"")
    plan = plan_manifest(store, AT, range_bytes=1 << 20, max_ranges=200)
    assert plan.ranges == ()


@pytest.mark.parametrize("content", [b"[1,2]", gzip.compress(b"1\n2")])
def test_what_cannot_be_split_needs_a_location_to_spool(content: bytes):
    store = MemoryStore()
    store.write(AT, content)
    with pytest.raises(StorageConfigurationError, match="offload_location"):
        plan_manifest(store, AT, range_bytes=10, max_ranges=2)


def test_a_manifest_that_is_gzip_by_its_first_bytes_only_is_an_error():
    store = MemoryStore()
    store.write(AT, gzip.compress(b"1")[:10] + b"\xff" * 100)
    with pytest.raises(ObjectDecodeError, match="not valid gzip"):
        plan_manifest(store, AT, range_bytes=10, max_ranges=2, spool_to=SPOOL)


def test_decompressed_lines_keep_the_numbers_that_they_have_in_the_manifest():
    store = MemoryStore()
    lines = BOM + b'{"a":1}\r\n\r\n\n \n{"a":2}\nbroken'
    store.write(AT, gzip.compress(lines))
    plan = plan_manifest(store, AT, range_bytes=10, max_ranges=2, spool_to=SPOOL)
    assert plan.lines == store.head(SPOOL)
    assert store.read(SPOOL) == lines


def test_spooling_a_large_array_writes_it_in_several_batches():
    store = MemoryStore()
    store.write(AT, b"[" + b",".join(b'"%01000d"' % number for number in range(3000)) + b"]")
    plan = plan_manifest(store, AT, range_bytes=1 << 20, max_ranges=200, spool_to=SPOOL)
    assert len(plan.ranges) > 1
    assert store.read(SPOOL) == b"".join(b'"%01000d"\n' % number for number in range(3000))


def test_a_broken_manifest_leaves_no_spooled_object():
    store = MemoryStore()
    store.write(AT, b"[1,2,3")
    with pytest.raises(ObjectDecodeError, match="s3://bucket/manifest"):
        plan_manifest(store, AT, range_bytes=10, max_ranges=2, spool_to=SPOOL)
    assert [info.pointer for info in store.list("bucket")] == [AT]
