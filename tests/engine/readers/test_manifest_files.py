"""MANIFEST: the files that manifests of S3 Inventory and Athena list."""

from __future__ import annotations

import gzip
import json

import pytest

from airflow_allma.engine import EngineSettings, ItemError
from airflow_allma.engine.readers import plan_items, range_items
from airflow_allma.exceptions import ObjectDecodeError, PermanentStepError
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import MemoryStore, Pointer, S3Store
from tests.distributed.test_local_run import LOCATION, runner
from tests.engine.readers.test_files_as_one import planned, read_all, streamed
from tests.support.engine import compose, fork, run
from tests.support.faulty_store import FaultyStore
from tests.support.moto import EndpointClients

INVENTORY = Pointer("inventory", "shop/daily/2026-03-01T01-00Z/manifest.json")
ATHENA = Pointer("results", "queries/1234-manifest.csv")
MANIFEST = ItemReader(format="MANIFEST")
ROWS = [
    ("shop", "a%20b/c%2Bd+e.txt", "12"),
    ("shop", "gr%C3%BCn%22%2C.txt", "0"),
    ("shop", "plain.txt", "7"),
]
ITEMS = [
    {"Bucket": "shop", "Key": "a b/c+d e.txt", "Size": "12"},
    {"Bucket": "shop", "Key": 'grün",.txt', "Size": "0"},
    {"Bucket": "shop", "Key": "plain.txt", "Size": "7"},
]


def rows_csv(rows):
    return "".join(",".join(f'"{field}"' for field in row) + "\n" for row in rows).encode()


def inventory(store=None, tables=None, **fields):
    """Write an inventory; ``tables`` are the rows of each of its files."""
    store = store or MemoryStore()
    entries = []
    for number, rows in enumerate([ROWS[:2], ROWS[2:]] if tables is None else tables):
        pointer = Pointer("inventory", f"shop/data/{number}.csv.gz")
        info = store.write(pointer, gzip.compress(rows_csv(rows)))
        entries.append({"key": pointer.key, "size": info.size, "MD5checksum": "f" * 32})
    manifest = {
        "sourceBucket": "shop",
        "destinationBucket": "arn:aws:s3:::inventory",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size",
        "files": entries,
        **fields,
    }
    store.write(INVENTORY, json.dumps(manifest).encode())
    return store


@pytest.mark.parametrize("options", [MANIFEST, ItemReader()], ids=["named", "found out"])
def test_the_rows_of_an_inventory_have_the_names_of_its_schema_and_decoded_keys(options):
    store = inventory()
    assert read_all(store, planned(store, options, target=INVENTORY)) == ITEMS
    assert streamed(store, options, INVENTORY) == ITEMS


def test_an_inventory_is_split_into_its_files_without_a_request_for_each():
    store = FaultyStore(
        inventory(tables=[[("shop", f"k{n}-{m}", "1") for m in range(200)] for n in range(30)])
    )
    plan = planned(store, MANIFEST, target=INVENTORY)
    assert 4 < len(plan.ranges) < 30
    assert {pointer for _, pointer in store.calls if "data/" in pointer.key} == set()
    assert len(read_all(store, plan)) == 6000


def test_an_inventory_in_parquet_has_the_rows_of_its_files():
    parquet = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    store = MemoryStore()
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({"bucket": ["shop"], "key": ["a%20+b"], "size": [3]}), sink)
    info = store.write(Pointer("inventory", "shop/data/x.parquet"), sink.getvalue().to_pybytes())
    entry = {"key": "shop/data/x.parquet", "size": info.size}
    schema = "message s3.inventory { required binary bucket (UTF8); }"
    inventory(store, fileFormat="Parquet", fileSchema=schema, tables=[])
    manifest = json.loads(store.read(INVENTORY)) | {"files": [entry]}
    store.write(INVENTORY, json.dumps(manifest).encode())
    expected = [{"bucket": "shop", "key": "a%20+b", "size": 3}]
    assert read_all(store, planned(store, MANIFEST, target=INVENTORY)) == expected
    columns = ItemReader(format="MANIFEST", columns=["key"])
    assert streamed(store, columns, INVENTORY) == [{"key": "a%20+b"}]


def athena(lines, contents):
    store = MemoryStore()
    for key, data in contents.items():
        store.write(Pointer("results", key), data)
    store.write(ATHENA, lines)
    return store


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("form", ["{}\n", '"{}"\r\n', "\n{}\n\n"])
def test_a_manifest_of_athena_lists_files_of_any_format(pack, form):
    contents = {
        "t/1.gz": gzip.compress(b'{"n":1}\n{"n":2}\n'),
        "t/2": b'{"n":3}\n',
        "t/3.csv": b"n\n4\n",
        "t/4 +%20": b'{"n":5}\n',
        "t/empty": b"",
    }
    lines = "".join(form.format(f"s3://results/{key}") for key in contents)
    store = athena(pack(lines.encode()), contents)
    expected = [{"n": 1}, {"n": 2}, {"n": 3}, {"n": "4"}, {"n": 5}]
    assert read_all(store, planned(store, MANIFEST, target=ATHENA)) == expected
    assert streamed(store, MANIFEST, ATHENA) == expected


def test_files_without_names_of_formats_are_csv_where_the_flow_says_so():
    store = athena(b"s3://results/t/1\n", {"t/1": b"1\x012\n"})
    options = ItemReader(format="MANIFEST", csv={"header": ["a", "b"], "delimiter": "\x01", "quote": ""})
    assert read_all(store, planned(store, options, target=ATHENA)) == [{"a": "1", "b": "2"}]


def test_an_empty_manifest_has_no_items():
    assert planned(athena(b"", {}), MANIFEST, target=ATHENA).ranges == ()
    assert planned(inventory(tables=[]), MANIFEST, target=INVENTORY).ranges == ()


def test_a_file_that_is_gone_is_one_failed_item():
    store = athena(b"s3://results/t/1\ns3://results/t/2\ns3://none/t\n", {"t/1": b"1\n"})
    for items in (
        read_all(store, planned(store, MANIFEST, target=ATHENA)),
        streamed(store, MANIFEST, ATHENA),
    ):
        assert items[0] == 1
        assert [item.error.details["object"] for item in items[1:]] == ["s3://results/t/2", "s3://none/t"]
        assert "does not exist" in items[1].error.message
    store = inventory()
    del store._objects["inventory", "shop/data/0.csv.gz"]
    gone, *others = read_all(store, planned(store, MANIFEST, target=INVENTORY))
    assert "s3://inventory/shop/data/0.csv.gz does not exist" in gone.error.message
    assert others == ITEMS[2:]


BAD_INVENTORIES = [
    (
        {"fileFormat": "ORC"},
        ["fileFormat of s3://inventory/", "'ORC', which cannot be read", "CSV or Apache Parquet"],
    ),
    ({"fileFormat": None}, ["'None', which cannot be read"]),
    ({"destinationBucket": "inventory"}, ["destinationBucket of", "is inventory", "arn:aws:s3:::"]),
    ({"destinationBucket": "arn:aws:s3:us-east-1:1:accesspoint/x"}, ["must be the ARN of the bucket"]),
    ({"destinationBucket": "arn:aws:s3:::a/b"}, ["must be the ARN of the bucket"]),
    ({"destinationBucket": "arn:aws:s3:::.."}, ["files[0] of", "not a bucket's name"]),
    ({"destinationBucket": None}, ["is null"]),
    ({"fileSchema": None}, ["fileSchema of", "'Bucket, Key, Size'"]),
    ({"fileSchema": "Bucket, , Key"}, ["fileSchema of"]),
    ({"fileSchema": "Key, Key"}, ["each once"]),
    (
        {"files": {}},
        ["is not a manifest of S3 Inventory, which has fileFormat and files", "it has sourceBucket"],
    ),
    ({"files": ["x"]}, ["files[0] of", "is not a file", '{"key": "data/1.csv.gz", "size": 2048}']),
    ({"files": [{"key": "k", "size": 1}, {"key": 5}]}, ["files[1] of"]),
    ({"files": [{"key": "k", "size": -1}]}, ["files[0] of"]),
    ({"files": [{"key": "k", "size": True}]}, ["files[0] of"]),
    ({"files": [{"key": "a\nb", "size": 1}]}, ["files[0] of", "control characters"]),
]


@pytest.mark.parametrize(("fields", "messages"), BAD_INVENTORIES)
def test_a_bad_inventory_is_an_error_with_its_place_and_cure(fields, messages):
    store = inventory(**{"fileFormat": "CSV", **fields})
    with pytest.raises(ObjectDecodeError) as raised:
        planned(store, MANIFEST, target=INVENTORY)
    assert all(message in str(raised.value) for message in messages), raised.value
    with pytest.raises(PermanentStepError):
        streamed(store, MANIFEST, INVENTORY)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"s3://results/t/1\nt/2\n",
            "line 2 of s3://results/queries/1234-manifest.csv is 't/2', not the URI",
        ),
        (b"https://results/t/1\n", "line 1 of"),
        (b"s3://results\n", "line 1 of"),
        (b"\xff\n", "line 1 of"),
        (b"s3://results/\n", "does not name an object"),
        (b"s3:///k\n", "does not name an object"),
        (b"s3://re sults/../k\x00\n", "control characters"),
        (b'{"fileFormat": ', "is not valid JSON"),
        (b"{}", "it has no fields"),
    ],
)
def test_a_bad_manifest_of_athena_is_an_error_with_its_line(data, message):
    with pytest.raises(ObjectDecodeError) as raised:
        planned(athena(data, {}), MANIFEST, target=ATHENA)
    assert message in str(raised.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_manifest_is_bounded(pack):
    with pytest.raises(ObjectDecodeError, match="is larger than 64 MiB"):
        planned(athena(pack(b"\n" * ((64 << 20) + 1)), {}), MANIFEST, target=ATHENA)


def test_a_manifest_of_manifests_fails_that_item():
    store = inventory()
    store.write(ATHENA, f"{INVENTORY.uri}\n".encode())
    (item,) = read_all(store, planned(store, MANIFEST, target=ATHENA))
    assert isinstance(item, ItemError)
    assert "is a manifest of S3 Inventory among other files" in item.error.message


def test_another_manifest_json_is_what_it_holds():
    store = MemoryStore()
    store.write(INVENTORY, b'{"files": [1]}\n{"files": [2]}\n')
    assert streamed(store, ItemReader(), INVENTORY) == [{"files": [1]}, {"files": [2]}]


@pytest.mark.parametrize("chunked", [True, False])
def test_a_fork_over_an_inventory_is_the_fork_over_the_list_of_its_rows(chunked):
    store = inventory(tables=[[("shop", f"k{n}-{m}", "1") for m in range(10)] for n in range(6)])
    steps = {
        "fan": fork(itemReader={"format": "MANIFEST"}),
        "work": compose(inputMappings={"k": "$.currentItem.Key"}),
    }
    settings = EngineSettings(offload_location=LOCATION if chunked else None)
    fork_runner = runner(chunk_bytes=9000) if chunked else None
    ran = run(steps, {"items": INVENTORY.inner()}, store=store, settings=settings, fork_runner=fork_runner)
    assert ran.outputs["fan"]["aggregatedData"] == [{"k": f"k{n}-{m}"} for n in range(6) for m in range(10)]


def test_an_inventory_in_s3_is_read(moto_endpoint):
    clients = EndpointClients(moto_endpoint)
    store = S3Store(clients)
    for bucket in ("inventory", "inventory-lists"):
        clients.client("s3").create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
    inventory(store)
    from airflow_allma.engine.readers import Split

    plan = plan_items(
        store, INVENTORY, ItemReader(), Split(1 << 20, 10, lambda n, e: Pointer("inventory-lists", n + e))
    )
    items = [one.item for lines in plan.ranges for one in range_items(store, lines)]
    assert items == ITEMS
