"""JavaScript's view of JSON values. Every row can be checked in any JavaScript console."""

import copy
import datetime as dt
import math
import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions import NOTHING, copy_value, js_values

NAN = math.nan
A_LIST = [1]
AN_OBJECT = {"a": 1}

# left, right, left == right, left === right
EQUALITY = [
    (None, None, True, True),
    (NOTHING, NOTHING, True, True),
    (None, NOTHING, True, False),
    (None, 0, False, False),
    (None, False, False, False),
    (None, "", False, False),
    (None, [], False, False),
    (None, "null", False, False),
    (NOTHING, 0, False, False),
    (NOTHING, "undefined", False, False),
    (NOTHING, {}, False, False),
    (True, True, True, True),
    (True, 1, True, False),
    (True, 2, False, False),
    (True, "1", True, False),
    (True, "true", False, False),
    (False, 0, True, False),
    (False, "", True, False),
    (False, "0", True, False),
    (False, "false", False, False),
    (False, [], True, False),
    (True, [1], True, False),
    (True, {}, False, False),
    (1, 1, True, True),
    (1, 1.0, True, True),
    (0.1 + 0.2, 0.3, False, False),
    (0.0, -0.0, True, True),
    (NAN, NAN, False, False),
    (1, "1", True, False),
    (1, " 1\n", True, False),
    (1, "1.0", True, False),
    (1, "1x", False, False),
    (0, "", True, False),
    (0, " ", True, False),
    (0, "\ufeff", True, False),
    (16, "0x10", True, False),
    (8, "0o10", True, False),
    (2, "0b10", True, False),
    (0, "0x", False, False),
    (1000, "1e3", True, False),
    (0.5, ".5", True, False),
    (5, "5.", True, False),
    (1000, "1_000", False, False),
    (-1, "-1", True, False),
    (3, "٣", False, False),
    (math.inf, "Infinity", True, False),
    (math.inf, "inf", False, False),
    (math.inf, "1e999", True, False),
    (math.inf, "0x" + "f" * 400, True, False),
    ("a", "a", True, True),
    ("a", "A", False, False),
    ("1", "1.0", False, False),
    ("", " ", False, False),
    (A_LIST, A_LIST, True, True),
    ([1], [1], False, False),
    (AN_OBJECT, AN_OBJECT, True, True),
    ({"a": 1}, {"a": 1}, False, False),
    ({}, [], False, False),
    ([], "", True, False),
    ([], 0, True, False),
    ([0], 0, True, False),
    ([5], "5", True, False),
    ([1, 2], "1,2", True, False),
    ([None], "", True, False),
    ([[1], [2, 3]], "1,2,3", True, False),
    (["a", None, NOTHING, {}], "a,,,[object Object]", True, False),
    ({}, "[object Object]", True, False),
    ({"a": 1}, 1, False, False),
]

# The columns after the two values: is the left one less, greater, at most, at least the right one.
ORDER = [
    (1, 2, True, False, True, False),
    (2, 2, False, False, True, True),
    (2.5, 2, False, True, False, True),
    ("10", 9, False, True, False, True),
    ("10", "9", True, False, True, False),
    ("a", "b", True, False, True, False),
    ("a", "a", False, False, True, True),
    ("a", "A", False, True, False, True),
    ("", "a", True, False, True, False),
    ("é", "z", False, True, False, True),
    ("\U0001f600", "\uffff", True, False, True, False),
    ("a", 1, False, False, False, False),
    ("", 1, True, False, True, False),
    (None, 0, False, False, True, True),
    (None, 1, True, False, True, False),
    (None, None, False, False, True, True),
    (None, "a", False, False, False, False),
    (NOTHING, 0, False, False, False, False),
    (NOTHING, NOTHING, False, False, False, False),
    (NOTHING, None, False, False, False, False),
    (NAN, NAN, False, False, False, False),
    (True, 0, False, True, False, True),
    (False, True, True, False, True, False),
    (True, "1", False, False, True, True),
    ([], 1, True, False, True, False),
    ([2], 1, False, True, False, True),
    ([1, 2], 1, False, False, False, False),
    ([1, 2], "1,3", True, False, True, False),
    ([10], [9], True, False, True, False),
    ({}, 1, False, False, False, False),
    ({}, "a", True, False, True, False),
    ({}, {}, False, False, True, True),
    (10**30, 1e29, False, True, False, True),
    (-math.inf, -(10**400), True, False, True, False),
]

STRINGS = [
    (None, "null"),
    (NOTHING, "undefined"),
    (True, "true"),
    (False, "false"),
    (0, "0"),
    (-0.0, "0"),
    (3, "3"),
    (3.0, "3"),
    (-3.5, "-3.5"),
    (0.1, "0.1"),
    (0.1 + 0.2, "0.30000000000000004"),
    (100.0, "100"),
    (1e16, "10000000000000000"),
    (123456789012345680000.0, "123456789012345680000"),
    (1e20, "100000000000000000000"),
    (1e21, "1e+21"),
    (10**21, "1e+21"),
    (-(10**21), "-1e+21"),
    (123 * 10**20, "1.23e+22"),
    (1.5e300, "1.5e+300"),
    (10**400, "Infinity"),
    (-(10**400), "-Infinity"),
    (12345678901234567890, "12345678901234567890"),
    (0.000001, "0.000001"),
    (0.00001234, "0.00001234"),
    (1e-7, "1e-7"),
    (1.25e-9, "1.25e-9"),
    (5e-324, "5e-324"),
    (NAN, "NaN"),
    (math.inf, "Infinity"),
    (-math.inf, "-Infinity"),
    ("", ""),
    ("é", "é"),
    ([], ""),
    ([1, "a", None, NOTHING, True, [2, [3.0]]], "1,a,,,true,2,3"),
    ([[]], ""),
    ([[], []], ","),
    ({}, "[object Object]"),
    ([{"a": 1}, 1e21], "[object Object],1e+21"),
]

TRUTH = [
    (None, False),
    (NOTHING, False),
    (False, False),
    (True, True),
    (0, False),
    (-0.0, False),
    (NAN, False),
    (-1, True),
    (0.1, True),
    ("", False),
    ("0", True),
    ("false", True),
    (" ", True),
    ([], True),
    ({}, True),
    ([0], True),
]


@pytest.mark.parametrize(("left", "right", "loosely", "strictly"), EQUALITY)
def test_equality_is_that_of_javascript_in_both_directions(left, right, loosely, strictly):
    assert js_values.loosely_equal(left, right) is loosely
    assert js_values.loosely_equal(right, left) is loosely
    assert js_values.strictly_equal(left, right) is strictly
    assert js_values.strictly_equal(right, left) is strictly


@pytest.mark.parametrize("row", ORDER)
def test_order_is_that_of_javascript_in_both_directions(row):
    left, right, less, greater, at_most, at_least = row
    assert js_values.less(left, right) is less
    assert js_values.greater(left, right) is greater
    assert js_values.at_most(left, right) is at_most
    assert js_values.at_least(left, right) is at_least
    assert js_values.greater(right, left) is less
    assert js_values.at_least(right, left) is at_most


@pytest.mark.parametrize(("value", "string"), STRINGS)
def test_strings_are_those_of_javascript(value, string):
    assert js_values.to_string(value) == string


@pytest.mark.parametrize(("value", "truth"), TRUTH)
def test_truth_is_that_of_javascript(value, truth):
    assert js_values.truthy(value) is truth


def test_values_of_other_types_are_true_and_have_their_own_string():
    day = dt.date(2024, 2, 29)
    assert js_values.truthy(day)
    assert js_values.to_string(day) == "2024-02-29"


@pytest.mark.parametrize(
    ("string", "length"), [("", 0), ("abc", 3), ("é", 1), ("日本", 2), ("a\U0001f600", 3)]
)
def test_a_string_is_as_long_as_its_utf16_code_units(string, length):
    assert js_values.string_length(string) == length


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_string_of_a_number_converts_back_to_the_same_number(number):
    assert js_values.to_number(js_values.to_string(number)) == number


@given(st.integers(-(10**21) + 1, 10**21 - 1))
def test_integers_below_1e21_keep_every_digit(number):
    assert js_values.to_string(number) == f"{number:d}"


JSON_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(NOTHING)
JSON_VALUES = st.recursive(
    JSON_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


@given(JSON_VALUES, JSON_VALUES)
def test_any_two_values_can_be_compared(left, right):
    assert js_values.loosely_equal(left, right) is js_values.loosely_equal(right, left)
    if js_values.strictly_equal(left, right):
        assert js_values.loosely_equal(left, right)
    assert js_values.less(left, right) is js_values.greater(right, left)
    if js_values.less(left, right):
        assert js_values.at_most(left, right)


def nested_list(depth: int) -> list:
    outermost: list = []
    for _ in range(depth):
        outermost = [outermost]
    return outermost


def test_a_list_nested_too_deep_for_a_string_is_a_clear_error():
    with pytest.raises(ExpressionEvaluationError, match="nested too deeply"):
        js_values.to_string(nested_list(sys.getrecursionlimit() * 2))


def test_nothing_is_one_falsy_object_that_survives_copies_and_processes():
    assert not NOTHING
    assert copy.copy(NOTHING) is NOTHING
    assert copy.deepcopy([NOTHING])[0] is NOTHING
    assert pickle.loads(pickle.dumps(NOTHING)) is NOTHING
    assert type(NOTHING)() is NOTHING
    assert repr(NOTHING) == "NOTHING"


def containers_of(value) -> list[int]:
    if isinstance(value, dict):
        return [id(value), *(i for item in value.values() for i in containers_of(item))]
    if isinstance(value, list):
        return [id(value), *(i for item in value for i in containers_of(item))]
    return []


@given(JSON_VALUES)
def test_a_copied_value_is_equal_and_shares_no_container(value):
    copied = copy_value(value)
    assert repr(copied) == repr(value)
    assert not set(containers_of(copied)) & set(containers_of(value))


def test_values_nested_deeper_than_python_recurses_are_copied():
    depth = sys.getrecursionlimit() * 2
    value = nested_list(depth)
    copied, steps = copy_value(value), 0
    while copied:
        assert copied is not value
        copied, value, steps = copied[0], value[0], steps + 1
    assert steps == depth


@given(st.text(), st.integers(0, 20))
def test_every_index_below_the_length_has_a_character(string, index):
    character = js_values.character_at(string, index)
    if index >= js_values.string_length(string):
        assert character is NOTHING
    else:
        assert len(character) == 1
        assert character in string
        if string.isascii():
            assert character == string[index]


@pytest.mark.parametrize(
    ("string", "characters"),
    [
        ("", []),
        ("né", ["n", "é"]),
        ("\U0001f600b", ["\U0001f600", "\U0001f600", "b"]),
        ("日\U0001f600", ["日", "\U0001f600", "\U0001f600"]),
        ("\ud83d", ["\ud83d"]),
        ("\ude00a", ["\ude00", "a"]),
    ],
)
def test_characters_are_at_their_positions_in_javascript(string, characters):
    assert [js_values.character_at(string, index) for index in range(len(characters))] == characters
    assert js_values.character_at(string, len(characters)) is NOTHING
