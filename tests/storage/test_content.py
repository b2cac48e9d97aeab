from __future__ import annotations

import base64
import gzip
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.exceptions import (
    ObjectChangedError,
    ObjectDecodeError,
    ObjectNotFoundError,
    StorageConfigurationError,
)
from airflow_allma.storage.content import encode_value, load_content, store_value
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.pointer import Pointer
from tests.storage.conftest import World
from tests.support.faulty_store import FaultyStore

PNG = b"\x89PNG\r\n\x1a\n\0\0"
IN_BASE64 = "base64"


@pytest.mark.parametrize(
    ("key", "content_type", "data", "expected"),
    [
        ("k", "application/json", b'{"a": 1}', {"a": 1}),
        ("k", "application/json; charset=utf-8", b"null", None),
        ("k", "application/vnd.api+json", b"[1]", [1]),
        ("k", "application/json", b"not json", "not json"),
        ("k", "application/json", b"\xef\xbb\xbf[1]", [1]),
        ("k", "application/json", b"", ""),
        ("k", "text/plain", b"123", 123),
        ("k", "text/plain", "grüß".encode(), "grüß"),
        ("k", "text/plain; charset=iso-8859-1", "grüß".encode("latin-1"), "grüß"),
        ("k", "text/plain; charset=zip", "grüß".encode(), "grüß"),
        ("k", "text/plain", b"\xff\xfe\x00", IN_BASE64),
        ("k", "text/csv", b"a,b\n1,2\n", "a,b\n1,2\n"),
        ("k", "text/plain", b"1\n2\n3\n", "1\n2\n3\n"),
        ("k", "text/plain", b'{"a":1}\n\n[2]\n', [{"a": 1}, [2]]),
        ("k", "text/plain", b'{"a":1}\nx\n', '{"a":1}\nx\n'),
        ("k", "application/xml", b"<a/>", "<a/>"),
        ("k", "application/x-ndjson", b"1\n2\n", [1, 2]),
        ("k", "application/x-jsonlines", b'{"a":1}', [{"a": 1}]),
        ("k", "application/jsonl", b"", []),
        ("k.jsonl", "binary/octet-stream", b"1\r\n\r\n2", [1, 2]),
        ("k.jsonl", "text/plain", b"1", [1]),
        ("k.json", "binary/octet-stream", b"{}", {}),
        ("k.json", "application/octet-stream", b"{}", {}),
        ("k", "application/octet-stream", b"{}", IN_BASE64),
        ("k", "binary/octet-stream", b'{"a":1}', {"a": 1}),
        ("k", "binary/octet-stream", b"text", "text"),
        ("k", "binary/octet-stream", PNG, IN_BASE64),
        ("k", "binary/octet-stream", b"a\0b", IN_BASE64),
        ("k.png", "binary/octet-stream", b"text", IN_BASE64),
        ("k", "image/png", PNG, IN_BASE64),
        ("k.json.gz", "application/gzip", gzip.compress(b"{}"), {}),
        ("k.jsonl.gz", "binary/octet-stream", gzip.compress(b"1"), [1]),
        ("k", "application/x-gzip", gzip.compress(b"[1]"), [1]),
        ("k", "application/json", gzip.compress(b"[1]"), [1]),
        ("k", "application/json", b'{"a": "\\ud83d", "id": 5}', {"a": "\ufffd", "id": 5}),
        ("k", "application/json", b'{"a": "\xe9", "id": 5}', {"a": "\ufffd", "id": 5}),
        ("k", "application/json; charset=latin1", b'{"a": "\xe9"}', {"a": "é"}),
        ("k.json", "binary/octet-stream", '{"a": "é"}'.encode("utf-16"), {"a": "é"}),
        ("k", "application/json; charset=utf-16be", '["é"]'.encode("utf-16-be"), ["é"]),
        ("k", "application/json", b"9" * 400, 10**400 - 1),
        ("k", "text/plain; charset=punycode", b"abc-", "abc-"),
    ],
)
def test_content_is_loaded_by_type_then_name_then_bytes(
    key: str, content_type: str, data: bytes, expected: Any
):
    store = MemoryStore()
    store.write(Pointer("b", key), data, content_type=content_type)
    if expected is IN_BASE64:
        expected = base64.b64encode(data).decode()
    assert load_content(store, Pointer("b", key)) == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a": 1e400}', "the number 1e400 is out of range"),
        (b'{"a":' * 1500 + b"1" + b"}" * 1500, "it is nested too deeply"),
        (b"9" * 5000, "out of range"),
        (b'{"a": 1}\n{"a": -1e999}\n', "the number -1e999 is out of range"),
        (gzip.compress(b"[" * 1500 + b"]" * 1500), "it is nested too deeply"),
    ],
)
def test_json_that_no_value_can_hold_is_an_error_and_never_a_string(data: bytes, reason: str):
    store = MemoryStore()
    store.write(Pointer("b", "k"), data, content_type="application/json")
    with pytest.raises(ObjectDecodeError, match=f"s3://b/k is JSON that cannot be read: .*{reason}"):
        load_content(store, Pointer("b", "k"))


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        (b'{"a": "\\ud83d"}', "half of a surrogate pair"),
        (b'{"a": "\xe9"}', "is not valid UTF-8"),
        (b'{"a": ', "is not JSON, although it is named so"),
        (b'{"a": 1}', None),
        (b"", None),
    ],
)
def test_what_is_lost_of_an_object_is_a_warning_in_the_log(
    caplog: pytest.LogCaptureFixture, data: bytes, warning: str | None
):
    store = MemoryStore()
    store.write(Pointer("b", "k.json"), data)
    load_content(store, Pointer("b", "k.json"))
    if warning is None:
        assert caplog.text == ""
    else:
        assert "s3://b/k.json" in caplog.text
        assert warning in caplog.text


def test_the_error_about_json_lines_names_the_invalid_line():
    store = MemoryStore()
    store.write(Pointer("b", "k.jsonl"), b"\xef\xbb\xbf1\nNaN\n")
    with pytest.raises(ObjectDecodeError, match=r"byte 5 of s3://b/k.jsonl .*NaN"):
        load_content(store, Pointer("b", "k.jsonl"))


@pytest.mark.parametrize("data", [b"x" * 101, gzip.compress(b"x" * 101)])
def test_the_error_about_a_large_object_says_what_to_use_instead(data: bytes):
    store = MemoryStore()
    store.write(Pointer("b", "k"), data, content_type="text/plain")
    assert load_content(store, Pointer("b", "k"), max_bytes=101) == "x" * 101
    with pytest.raises(ObjectDecodeError, match="JSON Lines manifest"):
        load_content(store, Pointer("b", "k"), max_bytes=100)


def test_an_object_that_is_too_large_is_not_read():
    memory = MemoryStore()
    memory.write(Pointer("b", "k"), b"x" * 101)
    store = FaultyStore(memory)
    with pytest.raises(ObjectDecodeError):
        load_content(store, Pointer("b", "k"), max_bytes=100)
    assert [operation for operation, _ in store.calls] == ["head"]


def test_an_object_that_changes_while_it_is_loaded_is_an_error():
    memory = MemoryStore()
    memory.write(Pointer("b", "k"), b"1")

    def replace(operation: str, pointer: Pointer, number: int) -> None:
        if operation == "read":
            memory.write(pointer, b"2")

    with pytest.raises(ObjectChangedError):
        load_content(FaultyStore(memory, replace), Pointer("b", "k"))


def test_a_pointer_can_be_passed_as_the_data_contains_it(world: World):
    world.store.write(world.at("k.json"), b"[1]", content_type="application/json")
    inner = {"bucket": world.bucket, "key": "k.json"}
    assert load_content(world.store, inner) == [1]
    assert load_content(world.store, {"_s3_output_pointer": inner}) == [1]
    with pytest.raises(StorageConfigurationError):
        load_content(world.store, {"bucket": world.bucket})
    with pytest.raises(ObjectNotFoundError):
        load_content(world.store, {**inner, "key": "gone"})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON)
def test_a_stored_value_is_loaded_unchanged(value: Any):
    store = MemoryStore()
    pointer = store_value(store, OffloadLocation("b", "p"), value, "dag", "run", "step")
    assert load_content(store, pointer) == value


def test_a_stored_value_is_below_the_location_in_every_store(world: World):
    location = OffloadLocation(world.bucket, "off")
    pointer = store_value(world.store, location, {"b": 1, "a": [1, 2]}, "dag", "run:1", "step")
    assert pointer.key.startswith("off/dag/run%3A1/step/")
    assert world.store.read(pointer) == b'{"b":1,"a":[1,2]}'
    assert load_content(world.store, pointer.wrap()) == {"b": 1, "a": [1, 2]}


def test_the_value_of_a_pointer_never_changes():
    store, location = MemoryStore(), OffloadLocation("b")
    first = store_value(store, location, [1], "d", "r", "s")
    second = store_value(store, location, [2], "d", "r", "s")
    assert store_value(store, location, [1], "d", "r", "s") == first != second
    assert load_content(store, first) == [1]


@pytest.mark.parametrize("value", ["\ud800", object(), {1: {(): 2}}])
def test_what_is_not_a_json_value_is_not_stored(value: object):
    with pytest.raises(ObjectDecodeError, match="cannot be written as JSON"):
        encode_value(value)
