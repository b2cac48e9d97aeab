"""Parquet objects as a whole: what cannot be read and what to do then, what is read, and flows over them."""

from __future__ import annotations

import bz2
import gzip
import io
import random
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from airflow_allma.distributed.local_run import ChunkedForkRunner
from airflow_allma.engine.readers import Split, all_batches, plan_items, range_batches
from airflow_allma.engine.readers.parquet_values import RowReader, UnreadableColumnError
from airflow_allma.exceptions import (
    AllmaError,
    ObjectChangedError,
    ObjectDecodeError,
    StorageConfigurationError,
    StorageUnavailableError,
)
from airflow_allma.flow import AirflowOptions
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import LocalStore, MemoryStore, Pointer
from airflow_allma.storage.s3 import S3Store
from tests.support.engine import compose, fork, program_of, run
from tests.support.faulty_store import FaultyStore, fail_when
from tests.support.moto import EndpointClients, moto_endpoint

__all__ = ["moto_endpoint"]

OBJECT = Pointer("bucket", "rows.parquet")


def written(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def stored(data, pointer=OBJECT):
    store = MemoryStore()
    store.write(pointer, data)
    return store


def read_all(store, pointer=OBJECT, **options):
    return [item for batch in all_batches(store, pointer, ItemReader(**options)) for item in batch.items]


def plan(store, pointer=OBJECT, split=None, **options):
    return plan_items(store, pointer, ItemReader(**options), split or Split(1 << 20, 200)).ranges


ROWS = [{"name": "a" * (number % 7), "price": number / 2, "day": None} for number in range(1000)]
GOOD = written(pa.Table.from_pylist(ROWS), row_group_size=300, write_page_checksum=True)
DOUBLE = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
TWINS = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
BAD = {
    "empty": (b"", {}, "not Parquet: its 0 bytes .* Check the key"),
    "text": (b'{"a": 1}\n', {}, "not Parquet: .* Check the key, and itemReader.format"),
    "cut": (GOOD[:-100], {}, "is cut short: .* Write or copy it again"),
    "magic": (b"PAR1", {}, "is cut short"),
    "gzip": (gzip.compress(GOOD), {}, "compressed with gzip as a whole.* Store it without"),
    "bzip2": (bz2.compress(GOOD), {}, "compressed with bzip2 as a whole"),
    "encrypted": (b"PARE" + GOOD[4:-4] + b"PARE", {}, "encrypted footer.* Decrypt it"),
    "footer length": (GOOD[:-8] + b"\xff\xff\xff\x7fPAR1", {}, "its footer should have 2147483647 bytes"),
    "footer": (GOOD[:-300] + b"\xff" * 292 + GOOD[-8:], {}, "The footer of .* cannot be read as Parquet"),
    "typing error": (GOOD, {"columns": ("Prices",)}, "no column 'Prices'.*; did you mean 'price'"),
    "no such column": (GOOD, {"columns": ("zzz",)}, "no column 'zzz'.* It has 'name', 'price', 'day'"),
    "two columns": (written(DOUBLE), {}, "two columns named 'a'. Rename one"),
    "two fields": (written(pa.table({"s": TWINS})), {}, "column 's' has two fields named 'x'"),
    "type": (
        written(pa.table({"s": pa.ListArray.from_arrays([0, 1], pa.array([1], pa.bool8()))})),
        {},
        r"column 's\[\]' has the type 'arrow.bool8'.* itemReader.columns",
    ),
}


@pytest.mark.parametrize(("data", "options", "message"), BAD.values(), ids=BAD)
def test_an_object_that_cannot_be_read_says_why_and_what_to_do(data, options, message):
    store = stored(data)
    with pytest.raises(ObjectDecodeError, match=message) as found:
        plan(store, **options)
    assert str(OBJECT) in str(found.value)
    with pytest.raises(AllmaError, match=message):
        read_all(store, **options)


@pytest.mark.parametrize("key", ["rows.parquet", "rows.parquet.gz", "x.PARQ", "rows"])
def test_parquet_is_found_by_its_name_or_its_first_bytes(key):
    pointer = Pointer("bucket", key)
    [lines] = plan(stored(GOOD, pointer), pointer)
    assert (lines.items, lines.reader) == (1000, {"format": "PARQUET"})


def test_an_interval_has_no_form_in_json():
    # Arrow reads intervals, which it does not write, as bytes.
    schema = pa.schema({"a": pa.int64(), "i": pa.binary(12)})
    with pytest.raises(UnreadableColumnError, match="column 'i' has the type INTERVAL"):
        RowReader(pa, pc, schema, ["NONE", "INTERVAL"], [0, 1])
    assert RowReader(pa, pc, schema, ["NONE", "INTERVAL"], [0]).leaves == [0]


@pytest.mark.parametrize("table", [pa.table({"a": pa.array([], pa.int64())}), pa.table({})])
def test_an_object_without_rows_has_no_ranges(table):
    store = stored(written(table))
    assert plan(store) == ()
    assert read_all(store) == []


def test_ten_thousand_columns_are_read():
    table = pa.table({f"c{number}": [number, -number] for number in range(10_000)})
    store = stored(written(table, row_group_size=1))
    first, second = read_all(store)
    assert (len(first), first["c9999"], second["c9999"]) == (10_000, 9999, -9999)
    assert read_all(store, columns=("c9999",)) == [{"c9999": 9999}, {"c9999": -9999}]


def test_a_column_whose_name_begins_another_is_read_alone():
    table = pa.table({"a": [{"b": 1, "c": 2}], "a.b": [3], "A": [4]})
    store = stored(written(table))
    assert read_all(store, columns=("a",)) == [{"a": {"b": 1, "c": 2}}]
    assert read_all(store, columns=("a.b",)) == [{"a.b": 3}]


def test_damaged_bytes_raise_only_errors_of_this_package():
    chance = random.Random(1)
    messages = []
    for _ in range(150):
        data = bytearray(GOOD)
        for _ in range(chance.choice((1, 3, 20))):
            data[chance.randrange(4, len(data) - 8)] = chance.randrange(256)
        try:
            read_all(stored(bytes(data)))
        except AllmaError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all(str(OBJECT) in message for message in messages)


def test_an_object_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr("airflow_allma.engine.readers.read_parquet.FREE_BYTES", 1000)
    store = stored(written(pa.table({"n": [0] * 100_000}), use_dictionary=False, compression="zstd"))
    with pytest.raises(ObjectDecodeError, match=r"more than 20 times its size.* \[allma\] max_unpack_ratio"):
        plan(store, split=Split(1 << 20, 200, max_unpack_ratio=20))
    assert plan(store, split=Split(1 << 20, 200, max_unpack_ratio=0))


def test_without_the_package_an_error_says_what_to_install(monkeypatch):
    for name in ("pyarrow", "pyarrow.parquet", "pyarrow.compute"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(StorageConfigurationError, match=r"pip install 'airflow-allma\[parquet\]'"):
        plan(stored(GOOD))


def test_an_object_that_has_changed_since_it_was_planned_is_not_read():
    store = stored(GOOD)
    [lines] = plan(store)
    store.write(OBJECT, written(pa.table({"other": list(range(9))})))
    with pytest.raises(ObjectChangedError, match="has changed"):
        list(range_batches(store, lines))


@pytest.mark.parametrize("number", range(1, 5))
def test_a_store_that_fails_raises_its_own_error(number, monkeypatch):
    monkeypatch.setattr("airflow_allma.engine.readers.parquet_file._BLOCK_BYTES", 1000)
    [lines] = plan(stored(GOOD))
    reads = []

    def is_failing(operation, *_):
        reads.append(operation)
        return len(reads) == number

    with pytest.raises(StorageUnavailableError, match="failed on purpose"):
        list(range_batches(FaultyStore(stored(GOOD), fail_when(is_failing)), lines))


def test_only_the_named_columns_and_row_groups_are_read(monkeypatch):
    monkeypatch.setattr("airflow_allma.engine.readers.parquet_file._BLOCK_BYTES", 4096)
    letters = random.Random(1).randbytes(400_000).hex()
    table = pa.table({"big": [letters[n * 800 : (n + 1) * 800] for n in range(1000)], "n": list(range(1000))})
    store = CountingStore(stored(written(table, row_group_size=100, compression="none")))
    whole = store.head(OBJECT).size
    ranges = plan(store, split=Split(1, 200), columns=("n",))
    assert (len(ranges), store.bytes < whole / 5) == (10, True)
    store.bytes = 0
    [batch] = range_batches(store, ranges[3])
    assert batch.items == [{"n": n} for n in range(300, 400)]
    assert store.bytes < whole / 10


class CountingStore:
    """Counts the bytes that are read."""

    def __init__(self, store):
        self.store = store
        self.bytes = 0

    def head(self, pointer):
        return self.store.head(pointer)

    def read(self, *arguments, **options):
        data = self.store.read(*arguments, **options)
        self.bytes += len(data)
        return data


FLOW = {"fan": fork(), "work": compose(inputMappings={"v": "$.currentItem.price", "d": "$.currentItem.day"})}


@pytest.mark.parametrize("chunked", [True, False])
def test_a_fork_over_rows_gives_the_results_of_the_same_items_in_a_list(chunked):
    rows = [{**row, "day": f"2024-01-{1 + number % 28:02d}"} for number, row in enumerate(ROWS[:200])]
    table = pa.Table.from_pylist(rows)
    days = table["day"].cast(pa.date32())
    store = stored(written(table.set_column(2, "day", days), row_group_size=30))
    settings = AllmaSettings.without_airflow(AirflowOptions(max_in_memory_items=50, chunk_bytes=1000))
    runner = ChunkedForkRunner(settings) if chunked else None
    program = program_of(FLOW)
    read = run(program, {"items": OBJECT.inner()}, store=store, fork_runner=runner)
    listed = run(program, {"items": rows}, store=store)
    assert read.status == "COMPLETED"
    assert read.outputs == listed.outputs
    assert len(read.outputs["fan"]["aggregatedData"]) == 200


def test_the_error_of_a_row_names_it():
    store = stored(written(pa.table({"x": [1.0, float("nan"), 2.0]}), row_group_size=1))
    config = {"failOnBranchError": False}
    picky = compose(inputMappings={"y": "$.currentItem.x"}, outputValidation={"requiredFields": ["$.z"]})
    ran = run({"fan": fork(config=config), "work": picky}, {"items": OBJECT.inner()}, store=store)
    errors = [one["error"] for one in ran.outputs["fan"]["aggregatedData"]]
    assert "NaN is not a JSON number" in errors[1]["errorMessage"]
    settings = AllmaSettings.without_airflow(AirflowOptions(max_in_memory_items=1, chunk_bytes=1))
    runner = ChunkedForkRunner(settings)
    chunked = run(
        program_of({"fan": fork(config=config), "work": picky}),
        {"items": OBJECT.inner()},
        store=store,
        fork_runner=runner,
    )
    errors = [one["error"] for one in chunked.outputs["fan"]["aggregatedData"]]
    assert [one["errorDetails"]["rowNumber"] for one in errors] == [0, 1, 2]


def test_rows_are_read_from_s3_and_from_files(moto_endpoint, tmp_path):
    client = EndpointClients(moto_endpoint).client("s3")
    client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    for store in (S3Store(EndpointClients(moto_endpoint)), LocalStore(tmp_path)):
        store.write(OBJECT, GOOD)
        ranges = plan(store, split=Split(1, 3))
        items = [item for lines in ranges for batch in range_batches(store, lines) for item in batch.items]
        assert (len(ranges), items) == (3, ROWS)
        store.write(OBJECT, GOOD[:-1] + b"x")
        with pytest.raises(ObjectChangedError):
            list(range_batches(store, ranges[0]))
