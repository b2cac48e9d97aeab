"""Awkward inputs of public sources: what the readers of outside data make of them.

Each line of ``awkward_inputs.jsonl`` has a kind, the source of its form, a name, the input and what is right.
Bytes are written as Latin-1 (kind json) or in hexadecimal.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from airflow_allma.engine.content_encoding import BodyEncodingError, decode_body
from airflow_allma.engine.http import HttpResponse
from airflow_allma.engine.modules.csv_format import read_csv
from airflow_allma.engine.modules.dynamodb_types import from_dynamodb
from airflow_allma.engine.response_body import response_data
from airflow_allma.exceptions import PermanentStepError, StorageConfigurationError
from airflow_allma.storage import Pointer

ROWS = [json.loads(line) for line in Path(__file__).with_name("awkward_inputs.jsonl").open()]
MAX_BYTES = 100_000


def read_body(row, data):
    """Return what an HTTP answer becomes, in the form of ``right``."""
    content_type = row.get("content_type", "application/octet-stream")
    try:
        document = response_data(HttpResponse(200, {"content-type": content_type}, data), "GET http://h")
    except PermanentStepError as error:
        return {"error": error.message}
    return {"value": document.value, "warning": " ".join(document.warnings)}


def check_json(row):
    found, right = read_body(row, row["input"].encode("latin-1")), row["right"]
    if "error" in right:
        assert right["error"] in found["error"]
        return
    assert right.get("warning", "") in found["warning"]
    if "string" in right:
        assert found["value"] == right["string"]
    elif "depth" in right:
        depth, value = 0, found["value"]
        while value is not None:
            depth, value = depth + 1, value[0] if value else None
        assert depth == right["depth"]
    else:
        # As JSON: true is not 1, and 1.0 is not 1.
        assert json.dumps(found["value"]) == json.dumps(right["value"])
        assert bool(found["warning"]) is ("warning" in right)


def check_charset(row):
    assert read_body(row, bytes.fromhex(row["input"]))["value"] == row["right"]["text"]


def check_encoding(row):
    ((outcome, expected),) = row["right"].items()
    data, encoding = bytes.fromhex(row["input"]), row["encoding"]
    if outcome == "text":
        assert decode_body(data, encoding, max_bytes=MAX_BYTES).decode() == expected
        return
    with pytest.raises(BodyEncodingError) as caught:
        decode_body(data, encoding, max_bytes=MAX_BYTES)
    assert caught.value.is_transient is (outcome == "transient")
    assert expected in caught.value.reason


def check_csv(row):
    rows, dropped = read_csv(row["input"])
    assert {"rows": rows, "dropped": dropped} == row["right"]


def check_key(row):
    inner = {"bucket": "b", "key": row["input"]}
    if row["right"] == "kept":
        assert Pointer.parse(inner).inner() == inner
        assert Pointer.from_uri(Pointer.parse(inner).uri).key == row["input"]
    else:
        with pytest.raises(StorageConfigurationError):
            Pointer.parse(inner)


def check_dynamodb(row):
    assert json.dumps(from_dynamodb(with_bytes(row["input"]))) == json.dumps(row["right"]["value"])


def with_bytes(typed):
    """Return a typed value whose strings ``hex:...`` are bytes, as boto3 returns them."""
    if isinstance(typed, dict):
        return {name: with_bytes(value) for name, value in typed.items()}
    if isinstance(typed, list):
        return [with_bytes(value) for value in typed]
    is_bytes = isinstance(typed, str) and typed.startswith("hex:")
    return bytes.fromhex(typed.removeprefix("hex:")) if is_bytes else typed


CHECKS = {
    "json": check_json,
    "charset": check_charset,
    "encoding": check_encoding,
    "csv": check_csv,
    "s3-key": check_key,
    "dynamodb": check_dynamodb,
}


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['kind']}: {row['name']}"[:60] for row in ROWS])
def test_an_awkward_input_is_read_as_its_source_says(row):
    CHECKS[row["kind"]](row)


def test_there_are_at_least_three_hundred_of_them_and_none_twice():
    assert len(ROWS) >= 300
    assert {row["kind"] for row in ROWS} == CHECKS.keys()
    assert max(Counter((row["kind"], row["name"]) for row in ROWS).values()) == 1
