"""Rows of Parquet as items: each once and in order however they are stored and split, and in which form."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.items import ItemError
from airflow_allma.engine.readers import Split, all_batches, count_items, plan_items, range_batches
from airflow_allma.engine.readers.find_reader import reader_of
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import MemoryStore, Pointer
from airflow_allma.storage.manifest_ranges import ManifestRange

OBJECT = Pointer("bucket", "rows.parquet")


def stored(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    store = MemoryStore()
    store.write(OBJECT, out.getvalue())
    return store


def read_all(store, **options):
    batches = all_batches(store, OBJECT, ItemReader(**options))
    return [item for batch in batches for item in batch.items]


def plan(store, range_bytes=1 << 20, max_ranges=200, **options):
    return plan_items(store, OBJECT, ItemReader(**options), Split(range_bytes, max_ranges)).ranges


def read_ranges(store, ranges):
    """Return offset and item of each row, from ranges as another process gets them."""
    found = []
    for planned in ranges:
        lines = ManifestRange.from_dict(json.loads(json.dumps(planned.to_dict())))
        read = list(range_batches(store, lines))
        assert all(batch.items for batch in read)
        assert [batch.first for batch in read] == [
            sum(len(one.items) for one in read[:number]) for number in range(len(read))
        ]
        items = [item for batch in read for item in batch.items]
        assert len(items) == lines.items == count_items(store, lines)
        found.extend(pair for batch in read for pair in zip(batch.offsets, batch.items, strict=True))
    return found


SCALAR = st.none() | st.integers(-(2**63), 2**63 - 1)
WORDS = st.none() | st.text(max_size=5)
NESTED = st.none() | st.lists(
    st.none() | st.fixed_dictionaries({"a": SCALAR, "b": st.none() | st.lists(WORDS, max_size=3)}), max_size=3
)
ROW = st.fixed_dictionaries(
    {
        "n": SCALAR,
        "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "s": WORDS,
        "deep": NESTED,
        "map": st.none() | st.dictionaries(st.text(max_size=3), NESTED, max_size=3),
        "pair": st.none() | st.lists(SCALAR, min_size=2, max_size=2),
        "ok": st.none() | st.booleans(),
    }
)
DEEP = pa.list_(pa.struct({"a": pa.int64(), "b": pa.list_(pa.string())}))
SCHEMA = pa.schema(
    {
        "n": pa.int64(),
        "x": pa.float64(),
        "s": pa.string(),
        "deep": DEEP,
        "map": pa.map_(pa.string(), DEEP),
        "pair": pa.list_(pa.int64(), 2),
        "ok": pa.bool_(),
    }
)


@given(
    rows=st.lists(ROW, max_size=25),
    group=st.integers(1, 30),
    range_bytes=st.integers(1, 3000),
    max_ranges=st.integers(1, 9),
    batch=st.integers(1, 7),
    names=st.sets(st.sampled_from(SCHEMA.names)),
)
def test_each_row_is_an_item_once_and_in_order(*, rows, group, range_bytes, max_ranges, batch, names):
    store = stored(pa.Table.from_pylist(rows, SCHEMA), row_group_size=group)
    expected = [{name: row[name] for name in row if not names or name in names} for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_allma.engine.readers.read_parquet._BATCH_ROWS", batch)
        patch.setattr("airflow_allma.engine.readers.parquet_file._BLOCK_BYTES", 50)
        ranges = plan(store, range_bytes, max_ranges, columns=tuple(names))
        assert read_ranges(store, ranges) == list(enumerate(expected))
        assert read_all(store, columns=tuple(names)) == expected
    assert len(ranges) <= max_ranges
    assert [lines.number for lines in ranges] == list(range(len(ranges)))
    bounds = [(lines.range.start, lines.range.end) for lines in ranges]
    assert [end for _, end in bounds[:-1]] == [start for start, _ in bounds[1:]]


def test_row_groups_are_collected_into_ranges_by_their_bytes():
    store = stored(pa.table({"n": list(range(1000))}), row_group_size=100, compression="none")
    group = 1000
    assert len(plan(store, 10 << 20)) == 1
    assert len(plan(store, 1)) == 10
    assert len(plan(store, 1, 4)) == 4
    assert 2 <= len(plan(store, 3 * group)) <= 5
    assert {lines.size for lines in plan(store)} == {store.head(OBJECT).size}


MOMENT = datetime(2024, 1, 2, 3, 4, 5, 6, UTC)
FORMS = [
    (pa.int8(), -128, -128),
    (pa.uint64(), 2**64 - 1, 2**64 - 1),
    (pa.float32(), 0.5, 0.5),
    (pa.float16(), 0.5, 0.5),
    (pa.null(), None, None),
    (pa.string(), "ä\0", "ä\0"),
    (pa.large_string(), "ä", "ä"),
    (pa.string_view(), "ä", "ä"),
    (pa.dictionary(pa.int32(), pa.string()), "ä", "ä"),
    (pa.binary(), b"\xff\x00", "/wA="),
    (pa.binary(2), b"ab", "YWI="),
    (pa.large_binary(), b"ab", "YWI="),
    (pa.uuid(), bytes(range(16)), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
    (pa.json_(), '{"a":1}', '{"a":1}'),
    (pa.decimal128(10, 2), Decimal("-1.50"), "-1.50"),
    (pa.decimal128(38, 20), Decimal("1E-20"), "0.00000000000000000001"),
    (pa.decimal128(20, 10), Decimal(0), "0.0000000000"),
    (pa.decimal256(76, 2), Decimal("9" * 70 + ".25"), "9" * 70 + ".25"),
    (pa.date32(), date(2024, 1, 2), "2024-01-02"),
    (pa.date64(), date(1, 1, 1), "0001-01-01"),
    (pa.time32("s"), time(3, 4, 5), "03:04:05.000"),  # Parquet has no times and timestamps in seconds
    (pa.time32("ms"), time(3, 4, 5), "03:04:05.000"),
    (pa.time64("us"), time(3, 4, 5, 6), "03:04:05.000006"),
    (pa.time64("ns"), time(3, 4, 5, 6), "03:04:05.000006000"),
    (pa.timestamp("us"), datetime(2024, 1, 2, 3, 4, 5, 6), "2024-01-02T03:04:05.000006"),  # noqa: DTZ001
    (pa.timestamp("ns"), datetime(2024, 1, 2), "2024-01-02T00:00:00.000000000"),  # noqa: DTZ001
    (pa.timestamp("us", "UTC"), MOMENT, "2024-01-02T03:04:05.000006Z"),
    (pa.timestamp("us", "Europe/Paris"), MOMENT, "2024-01-02T03:04:05.000006Z"),
    (pa.timestamp("ms", "+02:00"), datetime(1969, 12, 31, tzinfo=UTC), "1969-12-31T00:00:00.000Z"),
    (pa.duration("us"), timedelta(days=1, microseconds=5), "PT86400.000005S"),
    (pa.duration("s"), timedelta(seconds=-90), "-PT90S"),
    (pa.map_(pa.string(), pa.int64()), [("a", 1), ("b", None)], {"a": 1, "b": None}),
    (
        pa.map_(pa.date32(), pa.int64()),
        [(date(2024, 1, 2), 1)],
        [{"key": "2024-01-02", "value": 1}],
    ),
    (pa.list_(pa.decimal128(5, 1)), [Decimal(1), None], ["1.0", None]),
    (pa.large_list(pa.binary()), [b"ab"], ["YWI="]),
    (pa.list_(pa.date32(), 1), [date(2024, 1, 2)], ["2024-01-02"]),
    (
        pa.struct({"t": pa.timestamp("s", "UTC")}),
        {"t": MOMENT.replace(microsecond=0)},
        {"t": "2024-01-02T03:04:05.000Z"},
    ),
]


@pytest.mark.parametrize(("kind", "value", "expected"), FORMS, ids=[str(form[0]) for form in FORMS])
def test_each_type_has_one_form_in_json(kind, value, expected):
    array = pa.array([None, value, value], kind)
    items = read_all(stored(pa.table({"v": array.slice(1), "w": array.slice(0, 2)})))
    assert items == [{"v": expected, "w": None}, {"v": expected, "w": expected}]
    assert msgspec.json.decode(msgspec.json.encode(items)) == items


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00", "9999-12-31T23:59:59"])
def test_timestamps_of_old_writers_keep_their_year(when):
    values = pa.array([datetime.fromisoformat(when)], pa.timestamp("us"))
    legacy = pa.table({"t": pa.array([0], pa.timestamp("ns"))})
    assert read_all(stored(legacy, use_deprecated_int96_timestamps=True)) == [
        {"t": "1970-01-01T00:00:00.000000"}
    ]
    assert read_all(stored(pa.table({"t": values}))) == [{"t": f"{when}.000000"}]


@pytest.mark.parametrize(
    ("kind", "values", "reason"),
    [
        (
            pa.float64(),
            [1.0, float("nan"), None, float("-inf")],
            "column 'v' of .*: NaN is not a JSON number",
        ),
        (pa.float16(), [1.0, float("inf"), None, float("inf")], "Infinity"),
        (pa.list_(pa.float32()), [[1.0], [0.0, float("nan")], None, [float("nan")]], r"column 'v\[1\]' of"),
        (
            pa.struct({"a": pa.list_(pa.float64())}),
            [None, {"a": [float("nan")]}, {"a": None}, {"a": [1.0, float("nan")]}],
            r"column 'v.a\[0\]' of",
        ),
        (pa.timestamp("us"), [1, -(2**63), None, 2**63 - 1], "out of range"),
    ],
)
def test_a_value_that_json_does_not_have_fails_only_its_row(kind, values, reason):
    stored_kind = pa.int64() if pa.types.is_timestamp(kind) else kind
    array = pa.array(values, stored_kind).cast(kind)
    items = read_all(stored(pa.table({"id": [0, 1, 2, 3], "v": array}), row_group_size=3))
    assert [isinstance(item, ItemError) for item in items] == [False, True, False, True]
    assert [items[number].error.details for number in (1, 3)] == [{"rowNumber": 1}, {"rowNumber": 3}]
    assert items[1].error.message.startswith("Row 1: column 'v")
    assert re.search(reason, items[1].error.message)


def test_strings_that_are_not_utf8_fail_only_their_row():
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 1, 3)))
    bad = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"ab\xff"))
    ok, failed = read_all(stored(pa.table({"s": bad, "m": pa.array([1, 2])})))
    assert ok == {"s": "a", "m": 1}
    assert "byte 1 of the string is not UTF-8" in failed.error.message


def test_a_row_is_found_again_by_its_number():
    table = pa.table({"n": list(range(50)), "x": [float("nan") if n == 7 else 0.5 for n in range(50)]})
    store = stored(table, row_group_size=20)
    [lines] = plan(store)
    reader = reader_of(lines)
    for row in (0, 19, 20, 49):
        place = reader.find(store, lines, row, 1 << 20)
        assert place.value == {"n": row, "x": 0.5}
        assert place.where == {"pointer": OBJECT.uri, "row": row}
        assert reader.details(lines, row) == {"rowNumber": row}
    assert isinstance(reader.find(store, lines, 7, 1 << 20).value, ItemError)
    assert reader.find(store, lines, 3, 10) is None
