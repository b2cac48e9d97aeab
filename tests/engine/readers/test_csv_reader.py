"""The CSV reader between a store and a fork: limits, bad files, what it reads and writes, and flows."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random

import pytest

from airflow_allma.engine import EngineSettings, ItemError
from airflow_allma.engine.readers import Split, all_batches, plan_items, range_batches
from airflow_allma.engine.readers.csv_form import CsvForm
from airflow_allma.engine.readers.csv_records import read_records
from airflow_allma.engine.readers.find_reader import reader_of
from airflow_allma.exceptions import (
    AllmaError,
    ObjectChangedError,
    ObjectDecodeError,
    StorageConfigurationError,
)
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import LocalStore, MemoryStore, Pointer, S3Store
from airflow_allma.storage.jsonl import MAX_LINE_BYTES
from tests.support.engine import compose, fork, program_of, run
from tests.support.moto import EndpointClients

OBJECT = Pointer("bucket", "rows.csv")
SPOOLED = Pointer("bucket", "spooled.csv")
MANY = b"id,name\r\n" + b"".join(b'%d,"name, %d"\r\n' % (number, number) for number in range(20_000))
PLAIN = MANY.replace(b'"', b"").replace(b", ", b" ")


class CountingStore(MemoryStore):
    """A store that counts the bytes that are read."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def read(self, pointer, start=0, end=None, *, if_match=None):
        data = super().read(pointer, start, end, if_match=if_match)
        self.count += len(data)
        return data

    def stream(self, pointer, start=0, end=None, *, if_match=None, block_bytes=1 << 20):
        for block in super().stream(pointer, start, end, if_match=if_match, block_bytes=block_bytes):
            self.count += len(block)
            yield block


def stored(data, pointer=OBJECT):
    store = CountingStore()
    store.write(pointer, data)
    return store


def reader(**csv_options):
    return ItemReader.model_validate({"format": "CSV", "csv": csv_options})


def plan(store, range_bytes=1 << 30, *, spools=True, **csv_options):
    spool = (lambda name, ending: Pointer("bucket", f"spooled/{name}{ending}")) if spools else None
    return plan_items(store, OBJECT, reader(**csv_options), Split(range_bytes, 100, spool))


def items_of(store, ranges):
    return [item for one in ranges for batch in range_batches(store, one) for item in batch.items]


@pytest.mark.parametrize("limit", [10, 131_072, 1 << 30])
def test_fields_may_be_longer_than_the_limit_of_the_csv_module(limit):
    rows = [{"a": "x" * 200_000, "b": "1"}, {"a": 'say "hi"\r\n' * 20_000, "b": "2"}, {"a": "3", "b": "4"}]
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ["a", "b"])
    writer.writeheader()
    writer.writerows(rows)
    store = stored(out.getvalue().encode())
    before = csv.field_size_limit(limit)
    try:
        assert items_of(store, plan(store, 100_000).ranges) == rows
        assert csv.field_size_limit() == limit
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize("block_bytes", [700, 50_000, 1 << 20])
@pytest.mark.parametrize("limit", [30, 131_072])
def test_many_rows_of_all_kinds_keep_their_places(limit, block_bytes):
    chance = random.Random(7)
    cells = ["1", "", "two", '"a ""b"""', '"x\r\ny"', '"\n\n"', '"' + "long," * 10 + '"', "\u00e9", '5"']
    text, expected = "", []
    for number in range(3000):
        # Stretches with and without line breaks, longer than what is read at once.
        kinds = cells if number // 400 % 2 else cells[:4]
        row = f"{number},{chance.choice(kinds)},{chance.choice(kinds)}"
        if number % 100 == 50:
            text += "\n"
        expected.append((len(text.encode()), len(list(io.StringIO(text, newline=""))), row))
        text += row + chance.choice(["\n", "\r\n", "\r"])
    data = text.encode()
    blocks = [data[at : at + block_bytes] for at in range(0, len(data), block_bytes)]
    before = csv.field_size_limit(limit)
    try:
        found = [
            (offset, batch.line + line, row)
            for batch in read_records(blocks, CsvForm())
            for offset, line, row in zip(batch.offsets[:-1], batch.lines[:-1], batch.rows, strict=True)
            if row
        ]
    finally:
        csv.field_size_limit(before)
    rows = [next(csv.reader(io.StringIO(row, newline=""))) for _, _, row in expected]
    assert found == [(offset, line, row) for (offset, line, _), row in zip(expected, rows, strict=True)]


@pytest.mark.parametrize(
    ("data", "byte"),
    [
        (b"a,b\n1,2\n" + b"x" * 20, 8),
        (b"a,b\n1,2\n" + b"x" * 20 + b"\n3,4\n", 8),
        (b'a,b\n1,2\n3,4\n"' + b"\n" * 20 + b'"\n', 12),
        (b'a,b\n"' + b"1\n" * 20, 4),
        (b"x" * 20, 0),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 5, 100])
def test_a_record_that_is_too_long_is_an_error_with_its_byte(data, byte, block_bytes):
    blocks = [data[at : at + block_bytes] for at in range(0, len(data), block_bytes)]
    with pytest.raises(
        ObjectDecodeError, match=f"row at byte {byte} of s3://b/k is longer than 16 bytes. Look for"
    ):
        list(read_records(blocks, CsvForm(), source="s3://b/k", max_record_bytes=16))
    assert [batch.rows for batch in read_records(blocks, CsvForm(quote=""), max_record_bytes=100)]


def test_a_record_of_more_than_16_mib_is_an_error_of_planning_or_reading():
    store = stored(b"a\n1\n" + b"x" * (MAX_LINE_BYTES + 1) + b"\n2\n")
    (lines,) = plan(store).ranges
    with pytest.raises(
        ObjectDecodeError, match=r"row at byte 4 of s3://bucket/rows.csv is longer than 16777216 bytes"
    ):
        items_of(store, [lines])
    store = stored(b"a\n1\n" + b"x" * (5 * MAX_LINE_BYTES // 2))
    with pytest.raises(ObjectDecodeError, match=r"row at byte 20971522 of s3://bucket/rows.csv is longer"):
        plan(store, MAX_LINE_BYTES * 2, quote="")
    store = stored(b'"a"\n1\n' + b'"' * (MAX_LINE_BYTES + (2 << 20)))
    with pytest.raises(ObjectDecodeError, match=r"row at byte 6 of s3://bucket/rows.csv is longer"):
        plan(store, MAX_LINE_BYTES)


def test_a_batch_has_at_most_256_items_and_is_yielded_before_the_rest_is_read():
    store = stored(MANY)
    (lines,) = plan(store).ranges
    store.count = 0
    batches = range_batches(store, lines)
    assert len(next(batches).items) == 256
    assert store.count < len(MANY)
    assert max(len(batch.items) for batch in batches) == 256


def test_one_range_and_files_without_quotes_are_not_read_to_be_planned():
    store = stored(MANY)
    plan(store)
    assert store.count < len(MANY)
    store = stored(PLAIN * 5)
    assert len(plan(store, 200_000, header=["id", "name"], quote="").ranges) > 5
    assert store.count < len(PLAIN * 5) / 2
    ids = [item["id"] for item in items_of(store, plan(store, 200_000, quote="").ranges)]
    assert len(ids) == 100_004
    assert [int(one) for one in ids if one != "id"] == list(range(20_000)) * 5


def test_ranges_keep_close_to_their_targets():
    store = stored(MANY)
    sizes = [one.range.end - one.range.start for one in plan(store, 10_000).ranges]
    assert len(sizes) == len(MANY) // 10_000 + 1
    assert max(sizes) - min(sizes) < 60
    assert items_of(store, plan(store, 10_000).ranges) == list(
        csv.DictReader(io.StringIO(MANY.decode(), newline=""))
    )


def test_what_a_range_says_of_its_reader_is_small_and_json():
    store = stored(MANY)
    for one in plan(store, 100_000).ranges:
        assert one.reader == {
            "format": "CSV",
            "delimiter": ",",
            "quote": '"',
            "encoding": "utf-8",
            "header": 9,
        }
    (only,) = plan(store, header=["n", "m"], delimiter=";", quote="", encoding="latin1").ranges
    assert json.loads(json.dumps(only.reader)) == {
        "format": "CSV",
        "delimiter": ";",
        "quote": "",
        "encoding": "iso8859-1",
        "header": ["n", "m"],
    }


@pytest.mark.parametrize("range_bytes", [50_000, 1 << 30])
def test_an_object_that_changes_is_an_error(range_bytes):
    store = stored(MANY)
    for lines in plan(store, range_bytes).ranges:
        store.write(OBJECT, MANY + b"1,2\n")
        for call in (
            lambda one: items_of(store, [one]),
            lambda one: reader_of(one).count(store, one),
            lambda one: reader_of(one).find(store, one, one.range.start, 1000),
        ):
            with pytest.raises(ObjectChangedError):
                call(lines)


@pytest.mark.parametrize(
    ("data", "options", "kind"),
    [
        (gzip.compress(MANY), {}, "CSV compressed with gzip"),
        (MANY.decode().encode("utf-16"), {"encoding": "utf-16"}, "CSV in utf-16"),
    ],
)
def test_what_must_be_converted_needs_a_place_or_a_stream(data, options, kind):
    store = stored(data)
    with pytest.raises(StorageConfigurationError, match=kind) as caught:
        plan(store, spools=False, **options)
    assert "Set offload_location" in str(caught.value)
    expected = items_of(stored(MANY), plan(stored(MANY)).ranges)
    planned = plan(store, 100_000, **options)
    assert planned.lines.pointer == Pointer("bucket", "spooled/rows.csv")
    assert len(planned.ranges) > 2
    assert items_of(store, planned.ranges) == expected
    assert store.read(planned.lines.pointer) == MANY
    batches = all_batches(store, OBJECT, reader(**options))
    assert [item for batch in batches for item in batch.items] == expected
    assert [info.pointer.key for info in store.list("bucket")] == ["rows.csv", "spooled/rows.csv"]


def test_a_bomb_is_an_error_and_gigabytes_of_blank_lines_are_no_rows():
    packed = gzip.compress(b"a,b\n" + b"\n" * (65 << 20) + b"1,2\n")
    store = stored(packed)
    with pytest.raises(ObjectDecodeError, match="unpacks to more than 200 times"):
        plan(store)
    batches = all_batches(store, OBJECT, reader(), max_unpack_ratio=0)
    assert [item for batch in batches for item in batch.items] == [{"a": "1", "b": "2"}]


def test_damaged_gzip_is_an_error():
    store = stored(gzip.compress(MANY)[:-20])
    with pytest.raises(ObjectDecodeError, match="is not valid gzip"):
        plan(store)
    with pytest.raises(AllmaError, match="is not valid gzip"):
        list(all_batches(store, OBJECT, reader()))


def test_one_row_is_found_again_by_its_byte():
    data = b'\xef\xbb\xbfa,b\n1,2\n"3\n",4\n5\n\n6,"7"'
    store = stored(data)
    for range_bytes in (1, 1 << 20):
        for lines in plan(store, range_bytes).ranges:
            for batch in range_batches(store, lines):
                for offset, item in zip(batch.offsets, batch.items, strict=True):
                    found = reader_of(lines).find(store, lines, offset, 1000)
                    assert found.where == {"pointer": "s3://bucket/rows.csv", "byte": offset}
                    assert reader_of(lines).details(lines, offset) == {"byteOffset": offset}
                    if isinstance(item, ItemError):
                        assert "has 1 field, but the header has 2 names" in found.value.error.message
                    else:
                        assert found.value == item
    (lines,) = plan(store).ranges
    assert reader_of(lines).find(store, lines, 11, 6) is None
    assert reader_of(lines).find(store, lines, 11, 7).value == {"a": "3\n", "b": "4"}
    assert reader_of(lines).find(store, lines, len(data) - 5, 5).value == {"a": "6", "b": "7"}


def test_an_unclosed_quote_is_named_whether_or_not_planning_sees_it():
    data = MANY + b'5,"6\r\n' + MANY
    data = data.removesuffix(b'"\r\n') + b'""\r\n'
    store = stored(data.replace(b'\r\n5,"6', b"\r\n5,6"))
    opened = data.rindex(b'"name') - 1
    message = f"The quote at byte {opened} of s3://bucket/rows.csv is not closed"
    with pytest.raises(ObjectDecodeError, match=message):
        items_of(store, plan(store).ranges)


def test_csv_in_s3_and_in_a_folder_is_read_as_from_memory(moto_endpoint, tmp_path):
    clients = EndpointClients(moto_endpoint)
    clients.client("s3").create_bucket(
        Bucket="csv", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    pointer = Pointer("csv", "rows.csv")
    for data in (b"", b"a,b", b"a,b\n", MANY, gzip.compress(MANY), b"a,b\n" + b"1\n" * 20):
        read = []
        for store in (MemoryStore(), S3Store(clients), LocalStore(tmp_path)):
            store.write(pointer, data)
            split = Split(100_000, 100, lambda *_: Pointer("csv", "spooled"))
            ranges = plan_items(store, pointer, reader(), split).ranges
            counts = [reader_of(one).count(store, one) for one in ranges]
            batches = all_batches(store, pointer, reader(quote=""))
            streamed = [str(item) for batch in batches for item in batch.items]
            read.append((list(map(str, items_of(store, ranges))), counts, streamed))
        assert read[0] == read[1] == read[2]


FLOW = {"fan": fork(itemReader={"format": "AUTO"}), "work": compose(inputMappings={"v": "$.currentItem"})}


@pytest.mark.parametrize(
    "data", [MANY[:5000].rpartition(b"\r\n")[0], gzip.compress(PLAIN[:5000].rpartition(b"\r")[0])]
)
def test_a_fork_over_csv_gives_what_the_same_list_gives(data):
    store = stored(data)
    rows = [item for batch in all_batches(store, OBJECT, reader()) for item in batch.items]
    assert len(rows) > 100
    by_list = run(program_of(FLOW), {"items": rows}, store=stored(b""))
    by_pointer = run(program_of(FLOW), {"items": OBJECT.inner()}, store=store)
    assert by_pointer.status == "COMPLETED"
    assert by_pointer.outputs == by_list.outputs
    assert by_pointer.outputs["fan"]["aggregatedData"][7] == {"v": rows[7]}


def test_a_bad_row_of_a_fork_fails_alone_and_a_bad_header_fails_the_step():
    steps = {**FLOW, "fan": fork(config={"failOnBranchError": False})}
    settings = EngineSettings()
    ran = run(
        program_of(steps), {"items": OBJECT.inner()}, store=stored(b"a,b\n1,2\n3\n4,5\n"), settings=settings
    )
    first, bad, last = ran.outputs["fan"]["aggregatedData"]
    assert (first, last) == ({"v": {"a": "1", "b": "2"}}, {"v": {"a": "4", "b": "5"}})
    assert bad["error"]["errorMessage"].startswith(
        "Line 3: The row at byte 8 of s3://bucket/rows.csv has 1 field"
    )
    assert {**bad["error"]["errorDetails"], "lineNumber": 3, "byteOffset": 8} == bad["error"]["errorDetails"]
    ran = run(program_of(steps), {"items": OBJECT.inner()}, store=stored(b"a,a\n1,2\n"))
    assert ran.status == "FAILED"
    assert "has the name 'a' twice. Rename one of the fields" in ran.error["errorMessage"]


def test_an_encoding_without_its_byte_order_mark_is_an_error_that_says_what_to_set():
    store, at = MemoryStore(), Pointer("data", "rows.csv")
    store.write(at, "a,b\n1,2\n".encode("utf-16-le"))
    options = ItemReader(csv={"encoding": "utf-32"})
    split = Split(1000, 10, lambda name, end: Pointer("spool", name + end))
    with pytest.raises(ObjectDecodeError, match=r"rows\.csv is not valid utf-32: .* such as utf-16-le"):
        plan_items(store, at, options, split)
