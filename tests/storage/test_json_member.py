"""The array inside of a large JSON document: the same elements as a decoder finds, in any blocks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage.json_member import member_elements

NAMES = st.sampled_from(["a", "rows", 'q"]}', "x y", "", "ä", "0"])
SCALARS = st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\[]{},:\n ä', max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=25,
)


def blocks_of(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def arrays_of(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    if isinstance(value, list):
        if path:
            yield path, value
        for index, element in enumerate(value):
            yield from arrays_of(element, (*path, str(index)))
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from arrays_of(member, (*path, name))


@given(VALUES, st.integers(1, 40), st.sampled_from([None, 1]))
def test_every_array_of_a_document_is_found(document, size, indent):
    data = json.dumps(document, indent=indent).encode()
    for path, expected in arrays_of(document):
        found = list(member_elements(blocks_of(data, size), path))
        assert [json.loads(element.data) for element in found] == expected
        assert all(data[element.offset :].startswith(element.data[:1]) for element in found)


@pytest.mark.parametrize(
    ("document", "path", "reason"),
    [
        (b'{"a":1}', "b", "there is no 'b'"),
        (b'{"a":{"b":[1]}}', "a", "an object, not an array"),
        (b'{"a":"[1]"}', "a", "no array"),
        (b'{"a":null}', "a", "no array"),
        (b'{"a":[[1]]}', "a.1", "there is no '1'"),
        (b"[1]", "a", "there is no 'a'"),
        (b"5", "a", "no array"),
        (b"", "a", "ends before it"),
        (b'{"a', "a", "ends before it"),
        (b'{"x":[1', "a", "ends before it"),
        (b'{"a":[1', "a", "cut off"),
        (b'{"a":[1}', "a", "does not close"),
        (b'{"\\u12":1,"a":[1]}', "a", "not valid JSON"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_where(document, path, reason):
    with pytest.raises(ObjectDecodeError, match=reason):
        list(member_elements([document], path.split("."), source="s3://b/k"))


def test_what_follows_the_array_is_not_read():
    def blocks() -> Iterator[bytes]:
        yield b'{"a":[1,2]'
        raise AssertionError

    assert [element.data for element in member_elements(blocks(), ["a"])] == [b"1", b"2"]


def test_a_name_or_element_that_is_too_long_is_an_error():
    with pytest.raises(ObjectDecodeError, match="byte 1 is longer than 100"):
        list(member_elements([b'{"' + b"x" * 200], ["a"], max_element_bytes=100))
    with pytest.raises(ObjectDecodeError, match="longer than 100"):
        list(member_elements([b'{"a":["' + b"x" * 200 + b'"]}'], ["a"], max_element_bytes=100))


def test_large_values_before_the_array_are_skipped_in_flat_memory():
    document = b'{"before":[' + b",".join([b'{"n":[1,2,"]"]}'] * 50_000) + b'],"a":[7]}'
    found = member_elements(blocks_of(document, 1000), ["a"], max_element_bytes=2000)
    assert [element.data for element in found] == [b"7"]


def test_a_long_string_in_tiny_blocks_takes_time_in_proportion_to_its_length():
    # gzip can have a member for each byte. A look at the whole string with every block would take minutes.
    document = b'{"before":"' + b"x" * 300_000 + b'","a":["' + b"y" * 300_000 + b'"]}'
    [element] = member_elements(blocks_of(document, 1), ["a"])
    assert element.data == b'"' + b"y" * 300_000 + b'"'
