"""JSON Lines and arrays as items: in ranges or streamed, plain or compressed, whole or a part."""

from __future__ import annotations

import bz2
import gzip
import json
from typing import Any

import pytest
from backports import zstd

from airflow_allma.engine.readers import Split, all_batches, first_ranges, plan_items, range_items
from airflow_allma.exceptions import ObjectDecodeError, PermanentStepError, StorageConfigurationError
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import MemoryStore, Pointer

ITEMS = [{"n": number, "text": "ä\n,]}" * (number % 5)} for number in range(300)]
LINES = "".join(json.dumps(item) + "\n" for item in ITEMS).encode()
DOCUMENT = json.dumps({"meta": {"rows": [1]}, "data": {"rows": ITEMS}, "end": [2]}).encode()
PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress, ".bz2": bz2.compress}
SPLIT = Split(2000, 50, lambda name, ending: Pointer("bucket", f"tmp/{name}{ending}"))

CASES: dict[str, tuple[str, bytes, dict[str, Any]]] = {
    "lines": ("a.jsonl", LINES, {}),
    "lines by format": ("a.dat", LINES, {"format": "JSONL"}),
    "array": ("a.json", json.dumps(ITEMS).encode(), {}),
    "array by format": ("a", json.dumps(ITEMS, indent=1).encode(), {"format": "JSON"}),
    "part of a document": ("a.json", DOCUMENT, {"itemsAt": "$.data.rows"}),
    "part of a document by format": ("a", DOCUMENT, {"format": "JSON", "itemsAt": "$.data['rows']"}),
}


def stored(key: str, data: bytes) -> tuple[MemoryStore, Pointer]:
    store, pointer = MemoryStore(), Pointer("bucket", key)
    store.write(pointer, data)
    return store, pointer


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("case", CASES)
def test_planned_and_streamed_items_are_the_same(case, ending):
    key, data, reader = CASES[case]
    options = ItemReader.model_validate(reader)
    store, pointer = stored(key + ending, PACK[ending](data))
    plan = plan_items(store, pointer, options, SPLIT)
    assert len(plan.ranges) > 5
    assert [one.item for lines in plan.ranges for one in range_items(store, lines)] == ITEMS
    assert [item for batch in all_batches(store, pointer, options) for item in batch.items] == ITEMS


@pytest.mark.parametrize("most", [0, 1, 50, 299, 300, 301, 10_000])
def test_the_first_items_are_counted_ranges(most):
    store, pointer = stored("a.jsonl", LINES)
    ranges = first_ranges(store, plan_items(store, pointer, ItemReader(), SPLIT).ranges, most)
    assert [one.item for lines in ranges for one in range_items(store, lines)] == ITEMS[:most]
    assert sum(lines.items or 0 for lines in ranges) == min(most, 300)
    assert all(lines.items for lines in ranges)


def test_without_an_offload_location_only_plain_lines_can_be_split():
    split = Split(2000, 50)
    for key, data, reader in (
        ("a.json", b"[1]", {}),
        ("a.jsonl.zst", zstd.compress(LINES), {}),
        ("a.json", DOCUMENT, {"itemsAt": "$.data.rows"}),
    ):
        store, pointer = stored(key, data)
        with pytest.raises(StorageConfigurationError, match="offload_location"):
            plan_items(store, pointer, ItemReader.model_validate(reader), split)


@pytest.mark.parametrize("path", ["$.data[*]", "$..rows", "$.data[?(@.x)]"])
def test_a_path_that_cannot_be_streamed_is_an_error(path):
    store, pointer = stored("a.json", DOCUMENT)
    with pytest.raises(StorageConfigurationError, match="only names and indexes"):
        plan_items(store, pointer, ItemReader.model_validate({"itemsAt": path}), SPLIT)


def test_a_path_to_nothing_is_an_error_that_names_object_and_path():
    store, pointer = stored("a.json", DOCUMENT)
    options = ItemReader.model_validate({"itemsAt": "$.data.lines"})
    with pytest.raises(ObjectDecodeError, match=r"s3://bucket/a.json has no array at \$.data.lines"):
        plan_items(store, pointer, options, SPLIT)
    with pytest.raises(PermanentStepError, match=r"has no array at \$.data.lines"):
        list(all_batches(store, pointer, options))


@pytest.mark.parametrize(
    ("reader", "field"),
    [({"columns": ["n"]}, "columns"), ({"csv": {"delimiter": ";"}}, "csv")],
)
def test_an_option_for_another_format_than_the_one_found_is_a_warning(reader, field, caplog):
    store, pointer = stored("a.jsonl", LINES)
    options = ItemReader.model_validate(reader)
    list(all_batches(store, pointer, options))
    plan_items(store, pointer, options, SPLIT)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2
    assert all(text.startswith(f"itemReader.{field} has no effect") for text in warnings)
