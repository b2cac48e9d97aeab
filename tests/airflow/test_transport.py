"""What passes Airflow's transport and its databases, and what is shown as a JSON string instead."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.operators.transport import (
    from_json,
    is_unchanged,
    json_bytes,
    restore_key_order,
    xcom_safe,
)

HALF_PAIR = "\ud800"


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


REFUSED = {
    "U+0000": "a\0b",
    "U+0000 in a key": {"a\0": 1},
    "half a surrogate pair": HALF_PAIR,
    "half a surrogate pair in a key": {HALF_PAIR: 1},
    "integer above 64 bits": 2**64,
    "integer below 64 bits": -(2**63) - 1,
    "integer of 401 digits": 10**400,
    "float that comes back as a large integer": 1e19,
    "large negative float": -1e300,
    "NaN": math.nan,
    "infinity": -math.inf,
    "key of Airflow's serializer": {"__type": 1, "__var": 2},
    "class name": {"__classname__": "x"},
    "key that is too long for MySQL": {"k" * 70_000: 1},
    "deeper than MySQL's limit": nested(101),
    "deeper than the API server's limit": nested(255),
    "deeper than Python's stack": nested(900),
}

SENT = {
    "largest integer": 2**64 - 1,
    "smallest integer": -(2**63),
    "characters of four bytes": "\U0001f600",
    "characters that JSON escapes": '\x01\x1b\u2028"\\',
    "text about U+0000": "\\u0000",
    "sixty levels": nested(60),
    "empty key": {"": None},
    "nothing": None,
    "text that looks like JSON": '{"a": 1}',
}

CHANGED = {
    "longer key first": {"name": 1, "id": 2},
    "keys against the alphabet": {"b": 1, "a": 2},
    "longer key in UTF-8 first": {"é": 1, "z": 2},
    "inside of a list": [{"b": 1, "a": 2}],
    "large float without a fraction": 1e16,
    "negative zero": -0.0,
}

UNCHANGED = {
    "shorter key first": {"id": 2, "name": {"a": 1, "b": 2}},
    "upper case first": {"B": 1, "a": 2},
    "float without a fraction": 3.0,
    "small float": 5e-324,
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("around", [lambda v: v, lambda v: {"a": [1, v]}], ids=["alone", "inside"])
def test_a_value_with_a_part_that_does_not_pass_is_shown_as_a_json_string(value, around):
    text = xcom_safe(around(value))
    assert isinstance(text, str)
    assert xcom_safe(text) == text
    assert not is_unchanged(around(value))
    if not isinstance(value, float):
        assert from_json(text) == around(value)


@pytest.mark.parametrize("value", (SENT | CHANGED | UNCHANGED).values(), ids=SENT | CHANGED | UNCHANGED)
def test_a_value_that_passes_is_shown_as_it_is(value):
    assert xcom_safe(value) is value


@pytest.mark.parametrize("value", CHANGED.values(), ids=CHANGED)
def test_what_some_database_changes_is_not_unchanged(value):
    assert not is_unchanged({"a": value})


@pytest.mark.parametrize("value", (SENT | UNCHANGED).values(), ids=SENT | UNCHANGED)
def test_what_every_database_keeps_is_unchanged(value):
    assert is_unchanged(value)


def test_numbers_that_json_lacks_are_null():
    assert xcom_safe({"a": [math.nan, math.inf]}) == '{"a":[null,null]}'


texts = st.text(st.characters(codec=None), max_size=5) | st.sampled_from([HALF_PAIR, "\0", "\\ud800"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_every_json_value_comes_back_from_its_json(value):
    # Two halves that happen to be a pair become one character.
    expected = json.loads(json.dumps(value))
    assert from_json(json_bytes(value).decode()) == expected


@given(values)
def test_what_is_shown_passes_msgpack_and_json(value):
    fit = xcom_safe(value)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fit)) == fit
    text = json.dumps(fit)
    assert json.loads(text) == fit
    assert "\0" not in json.dumps(fit, ensure_ascii=False)


@given(st.dictionaries(texts, st.integers(0, 9), max_size=6), st.data())
def test_known_keys_come_back_in_their_order_from_a_database_that_sorts_them(value, data):
    known = data.draw(
        st.permutations(list(value)) | st.lists(st.sampled_from([*value, "other"]), unique=True)
    )
    if is_unchanged(value, known):
        stored = {key: value[key] for key in sorted(value, key=lambda key: (len(key.encode()), key.encode()))}
        assert list(restore_key_order(stored, known)) == list(value)


def test_keys_in_the_known_order_are_unchanged():
    value = {"surname": 1, "b": 2, "age": 3, "zz": {"a": 1}}
    assert is_unchanged(value, ["surname", "name", "b", "age"])
    assert not is_unchanged(value, ["b", "surname"])
    assert not is_unchanged({"surname": {"b": 1, "a": 2}}, ["surname"])
