"""Small awkward CSV files: what each of them is read as, however it is cut.

A line of ``csv_cases.jsonl`` has a name, the file (``input``, in UTF-8, or ``hex``), options of ``csv``, key
and media type if they matter, and what is right: the items, or the error that it raises. An item that is
``{"error": ..., "byteOffset": ..., "lineNumber": ...}`` is an error of that row alone.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from airflow_allma.engine import ItemError
from airflow_allma.engine.readers import (
    Split,
    all_batches,
    count_items,
    parse_reader,
    plan_items,
    range_batches,
)
from airflow_allma.exceptions import AllmaError, PermanentStepError
from airflow_allma.storage import MemoryStore, Pointer

CASES = [json.loads(line) for line in Path(__file__).with_name("csv_cases.jsonl").open(encoding="utf-8")]
SPOOLED = Pointer("bucket", "rows.csv/spooled")


class ByteByByte(MemoryStore):
    def stream(self, pointer, start=0, end=None, *, if_match=None, block_bytes=0):
        return super().stream(pointer, start, end, if_match=if_match, block_bytes=1)


def stored(case, *, packed=False):
    data = bytes.fromhex(case["hex"]) if "hex" in case else case["input"].encode()
    store, pointer = ByteByByte(), Pointer("bucket", case.get("key", "rows.csv"))
    store.write(pointer, gzip.compress(data) if packed else data, content_type=case.get("type", "text/plain"))
    reader = {"csv": case.get("csv", {}), "format": "AUTO" if "key" in case else "CSV"}
    return store, pointer, parse_reader(reader)


def streamed(case, *, packed=False):
    return [item for batch in all_batches(*stored(case, packed=packed)) for item in batch.items]


def cut(case, range_bytes, *, packed=False):
    store, pointer, reader = stored(case, packed=packed)
    plan = plan_items(store, pointer, reader, Split(range_bytes, 1000, lambda *_: SPOOLED))
    found = [[item for batch in range_batches(store, one) for item in batch.items] for one in plan.ranges]
    assert [count_items(store, one) for one in plan.ranges] == [len(items) for items in found]
    return [item for items in found for item in items]


READINGS = {
    "stream": streamed,
    "one range": lambda case: cut(case, 1 << 20),
    "ranges of a record": lambda case: cut(case, 1),
    "ranges of 7 bytes": lambda case: cut(case, 7),
    "gzip in ranges of 7 bytes": lambda case: cut(case, 7, packed=True),
    "gzip as a stream": lambda case: streamed(case, packed=True),
}


def check(item, right):
    if "error" not in right:
        assert item == right
        return
    assert isinstance(item, ItemError)
    assert item.error.__class__ is PermanentStepError
    assert right["error"] in item.error.message
    details = item.error.details
    assert item.error.message.startswith(
        f"Line {details['lineNumber']}: The row at byte {details['byteOffset']} "
    )
    if "byteOffset" in right:
        assert details == {name: right[name] for name in ("byteOffset", "lineNumber")}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_an_awkward_file_is_read_as_its_case_says(case, reading):
    right = case["right"]
    if isinstance(right, dict):
        with pytest.raises(AllmaError) as caught:
            READINGS[reading](case)
        assert right["raises"].replace("rows.csv", "") in str(caught.value).replace(
            "rows.csv/spooled", ""
        ).replace("rows.csv", "")
        return
    items = READINGS[reading](case)
    assert len(items) == len(right)
    for item, expected in zip(items, right, strict=True):
        check(item, expected)


def test_there_are_many_cases_and_none_twice():
    assert len(CASES) >= 100
    assert len({case["name"] for case in CASES}) == len(CASES)
