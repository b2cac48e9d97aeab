from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.flow.json_scan import MAX_DEPTH, JsonNode, JsonSyntaxError, line_and_column, scan

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
LAYOUTS = st.sampled_from(
    [{}, {"indent": 2}, {"indent": "\t"}, {"ensure_ascii": False}, {"separators": (",", ":")}]
)
# Texts that are nearly JSON find more than texts that are not.
JSON_LIKE = st.text(alphabet='{}[]",:\\ \n\t0123456789.eE+-truefalsnNI/\'"', max_size=40)


def assert_every_value_is_where_the_scan_says(text: str, node: JsonNode, value: object) -> None:
    assert json.loads(text[node.start : node.end]) == value
    if isinstance(value, dict):
        assert list(node.members) == list(value)
        for key, (key_offset, member) in node.members.items():
            assert json.JSONDecoder().raw_decode(text, key_offset)[0] == key
            assert_every_value_is_where_the_scan_says(text, member, value[key])
    elif isinstance(value, list):
        assert len(node.elements) == len(value)
        for element, member in zip(node.elements, value, strict=True):
            assert_every_value_is_where_the_scan_says(text, element, member)


@given(value=JSON_VALUES, layout=LAYOUTS, space=st.sampled_from(["", " ", "\n\n", "\r\n\t"]))
def test_the_positions_agree_with_the_standard_decoder(value, layout, space):
    text = space + json.dumps(value, **layout) + space
    assert_every_value_is_where_the_scan_says(text, scan(text).root, json.loads(text))


def decodes(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False
    return True


def scans(text: str) -> bool:
    try:
        scan(text)
    except JsonSyntaxError:
        return False
    return True


@given(JSON_LIKE)
def test_the_scanner_accepts_what_the_decoder_accepts(text):
    assert scans(text) == decodes(text)


@given(value=JSON_VALUES, data=st.data())
def test_the_scanner_accepts_what_the_decoder_accepts_without_one_character(value, data):
    text = json.dumps(value)
    gone = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:gone] + text[gone + 1 :]
    assert scans(damaged) == decodes(damaged)


def error_of(text: str) -> JsonSyntaxError | None:
    try:
        scan(text)
    except JsonSyntaxError as error:
        return error
    return None


@given(st.text() | JSON_LIKE)
def test_an_error_is_inside_the_text(text):
    error = error_of(text)
    if error is not None:
        assert 0 <= error.offset <= len(text)
        line, column = line_and_column(text, error.offset)
        assert 1 <= line <= text.count("\n") + 1
        assert column >= 1


@given(st.text(alphabet="ab\n", min_size=1), st.data())
def test_line_and_column_lead_back_to_the_offset(text, data):
    offset = data.draw(st.integers(0, len(text)))
    line, column = line_and_column(text, offset)
    lines = text.split("\n")
    assert sum(len(one) + 1 for one in lines[: line - 1]) + column - 1 == offset


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_is_limited(opening):
    closing = "]" if opening == "[" else "}"
    deepest = opening * MAX_DEPTH + ("" if opening == "[" else "1") + closing * MAX_DEPTH
    assert scan(deepest)
    with pytest.raises(JsonSyntaxError, match="nested deeper"):
        scan(opening * 100_000)


def test_a_path_to_nothing_ends_at_the_last_value_that_exists():
    text = '{"a": {"b": [1, 2]}}'
    found = scan(text)
    assert text[found.offset(("a", "b", 1)) :].startswith("2")
    assert text[found.offset(("a", "b", 9, "c")) :].startswith("[1")
    assert text[found.offset(("a", "x")) :].startswith('{"b"')
    assert text[found.offset(("a", "b"), at_key=True) :].startswith('"b"')


def test_repeated_keys_are_found_at_any_depth_whatever_their_spelling():
    found = scan(r'{"a": [{"k": 1, "\u006b": 2}], "a": 3}')
    assert [path for path, _, _ in found.repeated] == [("a", 0, "k"), ("a",)]
