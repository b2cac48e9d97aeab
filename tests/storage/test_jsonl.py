from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_allma.exceptions import ObjectChangedError, ObjectDecodeError
from airflow_allma.storage.decoding import BOM, decode_line
from airflow_allma.storage.jsonl import Line, LineBatch, read_line_batches, split_lines
from airflow_allma.storage.manifest_ranges import ByteRange, ManifestRange, plan_ranges
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.pointer import Pointer
from tests.storage.conftest import World
from tests.support.faulty_store import FaultyStore
from tests.support.lines import read_lines

AT = Pointer("bucket", "manifest.jsonl")


def expected_lines(content: bytes) -> list[Line]:
    """The plain way: byte by byte, all at once."""
    found, start = [], 0
    while start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        begin = 3 if start == 0 and content.startswith(BOM) else start
        data = content[begin:end]
        if data.strip():
            found.append(Line(begin, data.removesuffix(b"\r")))
        start = end + 1
    return found


def lines_of_ranges(content: bytes, range_bytes: int, max_ranges: int, block_bytes: int) -> list[Line]:
    store = MemoryStore()
    info = store.write(AT, content)
    return [
        line
        for number, byte_range in enumerate(plan_ranges(len(content), range_bytes, max_ranges))
        for line in read_lines(
            store, ManifestRange(number, AT, info.etag, info.size, byte_range), block_bytes=block_bytes
        )
    ]


PIECES = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b" ", b"\t", b"{}", b"12", b'"\xc3\xbc\xe2\x82\xac"', BOM, b"x" * 40, b"\n\n\n"]
)
ANYTHING = st.text(max_size=4).map(lambda text: text.encode(errors="replace")) | st.binary(max_size=4)
# Short lines and short ranges: most boundaries should be on a line break or next to one.
SHORT_LINES = st.sampled_from([b"1", b"12", b"{}", b"", b"\xc3\xbc"]).map(lambda line: line + b"\n")
CONTENTS = st.lists(PIECES | ANYTHING | SHORT_LINES | SHORT_LINES, min_size=1, max_size=40).map(b"".join)


@settings(max_examples=500)
@given(CONTENTS, st.integers(1, 9) | st.integers(1, 60), st.integers(1, 50), st.integers(1, 200))
@example(b"", 1, 1, 1)
@example(b"\n", 1, 9, 1)
@example(b'{"a":1}', 1, 50, 1)
@example(BOM, 1, 9, 1)
@example(BOM + b"\n1", 1, 9, 1)
@example(BOM + b"{}", 1, 9, 1)
@example(b"1\r\n2\r\n", 3, 9, 2)
@example(b"x" * 100 + b"\n1\n2", 7, 50, 5)
def test_the_lines_of_all_ranges_are_the_lines_of_the_object_in_order_each_once(
    content: bytes, chunk_bytes: int, max_chunks: int, block_bytes: int
):
    assert lines_of_ranges(content, chunk_bytes, max_chunks, block_bytes) == expected_lines(content)


@pytest.mark.parametrize(
    "content",
    [
        b"1\n2\n3\n\n4\r\n5",
        BOM + b"1\n\n22\r\n3\n",
        "ü\n€€\n\n\U0001f600\n".encode(),
        b"\n\r\n1\n \n\n",
        b"1\n" * 12,
        b"12\n" * 8 + b"3",
        b"x" * 20 + b"\n1\n2\n" + b"y" * 20,
    ],
)
def test_no_boundary_of_a_range_or_a_block_loses_or_repeats_a_line(content: bytes):
    expected = expected_lines(content)
    for chunk_bytes in range(1, len(content) + 2):
        for block_bytes in (1, 2, 3, 5, 8, 100):
            assert lines_of_ranges(content, chunk_bytes, 99, block_bytes) == expected, (
                chunk_bytes,
                block_bytes,
            )


@given(CONTENTS, st.integers(1, 30))
def test_an_offset_and_a_length_find_the_line_again(content: bytes, block_bytes: int):
    store = MemoryStore()
    store.write(AT, content)
    for line in read_lines(store, AT, block_bytes=block_bytes):
        assert store.read(AT, line.offset, line.offset + len(line.data)) == line.data


@given(CONTENTS, st.integers(1, 12), st.integers(1, 12))
def test_a_line_belongs_to_the_range_in_which_it_starts(content: bytes, range_bytes: int, block_bytes: int):
    store = MemoryStore()
    info = store.write(AT, content)
    for number, (start, end) in enumerate(plan_ranges(len(content), range_bytes, 1000)):
        planned = ManifestRange(number, AT, info.etag, info.size, ByteRange(start, end))
        for line in read_lines(store, planned, block_bytes=block_bytes):
            # The mark is not part of the first line, but that line begins before it.
            begin = 0 if line.offset == 3 and content.startswith(BOM) else line.offset
            assert start < begin <= end or start == begin == 0


@given(
    st.integers(0, 10**12),
    st.integers(1, 10**9),
    st.integers(1, 300),
)
def test_a_plan_covers_the_object_without_gaps_in_even_ranges(size: int, range_bytes: int, max_ranges: int):
    ranges = plan_ranges(size, range_bytes, max_ranges)
    assert len(ranges) <= max_ranges
    assert [0, *(end for _, end in ranges)] == [*(start for start, _ in ranges), size]
    lengths = {end - start for start, end in ranges}
    assert all(length > 0 for length in lengths)
    assert max(lengths, default=0) - min(lengths, default=0) <= 1
    if len(ranges) < max_ranges:
        assert max(lengths, default=0) <= range_bytes


@pytest.mark.parametrize("arguments", [(-1, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_plan_with_impossible_arguments_is_rejected(arguments: tuple[int, int, int]):
    with pytest.raises(ValueError, match="cannot plan ranges"):
        plan_ranges(*arguments)


def test_every_store_returns_the_same_lines_of_every_range(world: World):
    lines = [json.dumps({"id": number, "text": "ü€" * (number % 50)}).encode() for number in range(20_000)]
    lines[7000] = b'"' + b"long" * 200_000 + b'"'
    content = b"\n".join(lines)
    info = world.store.write(world.at("m.jsonl"), content)
    found = []
    for number, byte_range in enumerate(plan_ranges(info.size, 100_000, 200)):
        planned = ManifestRange(number, info.pointer, info.etag, info.size, byte_range)
        found += [line.data for line in read_lines(world.store, planned, block_bytes=64 << 10)]
    assert found == lines


def test_every_read_is_conditional_on_the_planned_etag(world: World):
    info = world.store.write(world.at("m"), b"1\n2\n3\n")
    planned = ManifestRange.whole(info)
    world.store.write(world.at("m"), b"4\n5\n6\n7\n")
    with pytest.raises(ObjectChangedError, match="planned") as caught:
        list(read_lines(world.store, planned))
    assert info.etag in str(caught.value)


def test_a_manifest_replaced_in_the_middle_of_a_range_is_an_error_that_names_both_etags():
    memory = MemoryStore()
    long_line = b"x" * 300_000
    info = memory.write(AT, b"1\n" + long_line + b"\n2\n")

    def replace_at_second_stream(operation: str, pointer: Pointer, number: int) -> None:
        if number == 1:
            memory.write(pointer, b"3\n" * 300_000)

    store = FaultyStore(memory, replace_at_second_stream)
    planned = ManifestRange(0, AT, info.etag, info.size, ByteRange(0, 2))
    with pytest.raises(ObjectChangedError) as caught:
        list(read_lines(store, planned))
    assert info.etag in str(caught.value)
    assert memory.head(AT).etag in str(caught.value)


def test_a_range_reads_little_more_than_its_own_bytes():
    memory = MemoryStore()
    info = memory.write(AT, b"123456789\n" * 100_000)
    requested = []

    class Counting(MemoryStore):
        def stream(self, pointer, start=0, end=None, **options):
            requested.append((start, end))
            return memory.stream(pointer, start, end, **options)

    planned = ManifestRange(1, AT, info.etag, info.size, ByteRange(200_005, 300_005))
    assert len(list(read_lines(Counting(), planned))) == 10_000
    assert requested == [(200_005, 300_005 + 32_768)]


def test_a_range_in_the_middle_of_a_long_line_owns_nothing_and_does_not_read_on():
    memory = MemoryStore()
    info = memory.write(AT, b"x" * 1_000_000 + b"\n1")
    store = FaultyStore(memory)
    planned = ManifestRange(1, AT, info.etag, info.size, ByteRange(1000, 2000))
    assert list(read_lines(store, planned, block_bytes=1000)) == []
    assert [operation for operation, _ in store.calls] == ["stream"]


@pytest.mark.parametrize("block_bytes", [3, 10, 1000])
def test_a_line_over_the_limit_is_an_error_that_names_its_offset(block_bytes: int):
    store = MemoryStore()
    store.write(AT, b"1\n22\n" + b"3" * 50 + b"\n4\n")
    assert [line.data for line in read_lines(store, AT, max_line_bytes=50, block_bytes=block_bytes)][1:3] == [
        b"22",
        b"3" * 50,
    ]
    with pytest.raises(ObjectDecodeError, match=r"byte 5 of s3://bucket/manifest.jsonl is longer than 49"):
        list(read_lines(store, AT, max_line_bytes=49, block_bytes=block_bytes))


def test_batches_hold_the_same_lines_and_none_is_empty():
    store = MemoryStore()
    store.write(AT, b"1\n\n\n\n\n\n\n2\n3\n")
    batches = list(read_line_batches(store, AT, block_bytes=2))
    assert all(len(batch.offsets) == len(batch.lines) > 0 for batch in batches)
    assert list(itertools.chain(*(batch.lines for batch in batches))) == [b"1", b"2", b"3"]


def test_lines_are_yielded_before_the_stream_has_ended():
    def blocks():
        yield b"1\n2"
        raise AssertionError("read further than needed")

    assert next(split_lines(blocks())) == LineBatch([0], [b"1"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"NaN", "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "Infinity is not a JSON number"),
        (b'"\\ud800"', "surrogate"),
        (b'"\\uDC00 x"', "surrogate"),
        (BOM + b"1", "byte order mark"),
        (b'"\xff"', "not UTF-8"),
        (b"1 2", "trailing characters"),
        (b"{", "truncated"),
        (b"1e999", "out of range"),
        (b"[" * 100_000, "nested too deeply"),
        (b"", "truncated"),
    ],
)
def test_what_is_not_json_is_an_error_that_names_offset_and_reason(data: bytes, reason: str):
    with pytest.raises(ObjectDecodeError) as caught:
        decode_line(data, 4711, "s3://b/k")
    assert "byte 4711 of s3://b/k" in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "text", ["12345678901234567890123", "1.5", '"\\ud83d\\ude00"', "null", ' {"a": [1]} ']
)
def test_valid_json_is_decoded_exactly(text: str):
    assert decode_line(text.encode()) == json.loads(text)
