"""The same items in each format that a fork can read, with what each item is and where it is."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from airflow_allma.storage import ObjectStore, Pointer

__all__ = ["SOURCES", "SPLIT", "ItemSource", "WrittenItems", "item"]

Json = dict[str, Any]

SPLIT: Json = {"chunkBytes": 100, "maxChunks": 4}
"""Options of a flow with which 40 items of each format have several chunks."""


class WrittenItems(NamedTuple):
    """Items that were written.

    Attributes:
        pointer: the value of ``itemsPath``.
        inputs: each item as the reader returns it; of OBJECTS, its content.
        places: where each item is, as pages show it; None: in a list that planning writes.
    """

    pointer: Json
    inputs: Sequence[Json]
    places: Sequence[Json] | None


@dataclass(frozen=True, eq=False)
class ItemSource:
    """A format of items.

    Attributes:
        name: its name.
        reader: the fork's ``itemReader``.
        write: writes ``count`` items: store, bucket, count, version (any word), bytes of padding of each.
        at: what has the fields of an item, as expressions name it.
    """

    name: str
    reader: Json
    write: Callable[[ObjectStore, str, int, str, int], WrittenItems]
    at: str = "currentItem"

    def __str__(self) -> str:
        return self.name

    @property
    def label_path(self) -> str:
        """The ``itemLabelPath`` of the id."""
        return f"${self.at.removeprefix('currentItem')}.id"

    def fields(self, item: Any) -> Any:
        """Return the fields of an item as the reader returned it."""
        return item["content"] if self.at.endswith("content") else item


def item(number: int, version: str = "old", padding: int = 0) -> Json:
    """Return an item. Its line break and quotes make records of CSV longer than a line."""
    return {"n": number, "id": f"u-{number:04d}", "v": version, "p": 'a\n"b"' + "x" * padding}


def _items(count: int, version: str, padding: int) -> list[Json]:
    return [item(number, version, padding) for number in range(count)]


def _json_lines(items: Sequence[Json]) -> tuple[bytes, list[int]]:
    """Return lines, and where each begins."""
    data, begins = bytearray(b"\n"), []
    for one in items:
        begins.append(len(data))
        data += json.dumps(one).encode() + b"\n"
    return bytes(data), begins


def _csv(items: Sequence[Json]) -> tuple[bytes, list[int]]:
    """Return records, and where each begins."""
    text, begins = io.StringIO(newline=""), []
    rows = csv.DictWriter(text, item(0))
    rows.writeheader()
    for one in items:
        begins.append(text.tell())
        rows.writerow(one)
    return text.getvalue().encode(), begins


def _parquet(items: Sequence[Json]) -> bytes:
    """Return rows in about ten row groups."""
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(items)), file, row_group_size=-(-len(items) // 10))
    return file.getvalue()


def _as_text(items: Sequence[Json]) -> list[Json]:
    return [{name: str(value) for name, value in one.items()} for one in items]


def _write_csv(store: ObjectStore, bucket: str, count: int, version: str, padding: int) -> WrittenItems:
    items = _items(count, version, padding)
    data, begins = _csv(items)
    uri = store.write(Pointer(bucket, "m.csv"), data).pointer.uri
    places = [{"pointer": uri, "byte": begin} for begin in begins]
    return WrittenItems({"bucket": bucket, "key": "m.csv"}, _as_text(items), places)


def _write_parquet(store: ObjectStore, bucket: str, count: int, version: str, padding: int) -> WrittenItems:
    items = _items(count, version, padding)
    uri = store.write(Pointer(bucket, "m.parquet"), _parquet(items)).pointer.uri
    places = [{"pointer": uri, "row": number} for number in range(count)]
    return WrittenItems({"bucket": bucket, "key": "m.parquet"}, items, places)


def _write_objects(store: ObjectStore, bucket: str, count: int, version: str, padding: int) -> WrittenItems:
    items = _items(count, version, padding)
    for number, one in enumerate(items):
        store.write(Pointer(bucket, f"in/{number:04d}.json"), json.dumps(one).encode())
    return WrittenItems({"bucket": bucket, "prefix": "in/"}, items, None)


def _write_files(store: ObjectStore, bucket: str, count: int, version: str, padding: int) -> WrittenItems:
    """Write a quarter of the items into a file of each of four forms."""
    items = _items(count, version, padding)
    bounds = [count * quarter // 4 for quarter in range(5)]
    lines, rows, table, packed = (items[start:end] for start, end in itertools.pairwise(bounds))
    inputs = [*lines, *_as_text(rows), *table, *packed]
    places: list[Json] = []

    def write(name: str, data: bytes, unit: str, begins: Sequence[int]) -> None:
        uri = store.write(Pointer(bucket, f"in/{name}"), data).pointer.uri
        places.extend({"pointer": uri, unit: begin} for begin in begins)

    write("1.jsonl", *_with_unit(_json_lines(lines)))
    write("2.csv", *_with_unit(_csv(rows)))
    write("3.parquet", _parquet(table), "row", range(len(table)))
    plain, begins = _json_lines(packed)
    write("4.jsonl.gz", gzip.compress(plain, mtime=0), "byte", begins)
    return WrittenItems({"bucket": bucket, "prefix": "in/"}, inputs, places)


def _with_unit(written: tuple[bytes, list[int]]) -> tuple[bytes, str, list[int]]:
    return written[0], "byte", written[1]


def _write_manifest(store: ObjectStore, bucket: str, count: int, version: str, padding: int) -> WrittenItems:
    written = _write_files(store, bucket, count, version, padding)
    names = ("1.jsonl", "2.csv", "3.parquet", "4.jsonl.gz")
    store.write(
        Pointer(bucket, "query-manifest.csv"),
        "".join(f"s3://{bucket}/in/{name}\n" for name in names).encode(),
    )
    return written._replace(pointer={"bucket": bucket, "key": "query-manifest.csv"})


SOURCES = [
    ItemSource("csv", {}, _write_csv),
    ItemSource("parquet", {}, _write_parquet),
    ItemSource("objects", {"format": "OBJECTS", "read": "JSON"}, _write_objects, "currentItem.content"),
    ItemSource("lines", {"format": "OBJECTS", "read": "LINES"}, _write_files),
    ItemSource("manifest", {"format": "MANIFEST"}, _write_manifest),
]
