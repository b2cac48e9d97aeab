"""When a condition is true, and the errors of malformed conditions."""

import pytest

from airflow_allma.exceptions import ExpressionEvaluationError, ExpressionSyntaxError
from airflow_allma.expressions import compile_condition

CONTEXT = {
    "n": 5,
    "float": 5.5,
    "zero": 0,
    "ten": "10",
    "text": "x && y",
    "or": "a||b",
    "word": "hello",
    "quote": "it's",
    "empty": "",
    "yes": True,
    "no": False,
    "null": None,
    "list": [1, 2],
    "none": [],
    "object": {},
    "items": [{"id": 1, "tags": ["a"]}, {"id": 2, "tags": []}],
    "big": 1e21,
    "key": "n",
}

EVALUATED = [
    ("$.n", True),
    ("  $.n\n", True),
    ("$.zero", False),
    ("$.empty", False),
    ("$.null", False),
    ("$.missing", False),
    ("$.yes", True),
    ("$.no", False),
    ("$.list", True),
    ("$.none", False),
    ("$.object", True),
    ("$.items[?(@.id > 1)]", True),
    ("$.items[?(@.id > 2)]", False),
    ("$.items[*].tags", True),
    ("$", True),
    ("$.n > 4", True),
    ("$.n>4", True),
    ("$.n  >   4", True),
    ("$.n >= 5", True),
    ("$.n < 5", False),
    ("$.n <= 5", True),
    ("$.n == 5", True),
    ("$.n = 5", True),
    ("$.n === 5.0", True),
    ("$.n != 5", False),
    ("$.n !== 5", False),
    ("$.n == '5'", True),
    ("$.n === '5'", False),
    ("$.n !== '5'", True),
    ("$.ten > 9", True),
    ("$.ten > '9'", False),
    ("$.ten == 10", True),
    ("$.ten === 10", False),
    ("$.float == 5.5", True),
    ("$.float == .55e1", True),
    ("$.float > -1", True),
    ("$.big == 1e21", True),
    ("$.big == '1e+21'", True),
    ("$.missing > 0", False),
    ("$.missing < 1", False),
    ("$.missing == undefined", True),
    ("$.missing == null", True),
    ("$.missing === null", False),
    ("$.missing === undefined", True),
    ("$.null == undefined", True),
    ("$.null === null", True),
    ("$.null >= 0", True),
    ("$.yes == true", True),
    ("$.yes === 1", False),
    ("$.yes == 1", True),
    ("$.no == false", True),
    ("$.word == 'hello'", True),
    ('$.word == "hello"', True),
    ("$.word == hello", False),
    ("$.word != hello", False),
    ("$.quote == 'it\\'s'", True),
    ('$.quote == "it\'s"', True),
    ("$.text == 'x && y'", True),
    ("$.or == 'a||b' && $.n", True),
    ("$.empty == ''", True),
    ("$.empty == 0", True),
    ("$.list.length == 2", True),
    ("$.list[1] == $.list.length", True),
    ("$.list == $.list", True),
    ("$.list == '1,2'", True),
    ("$.none == $.object", False),
    ("$.n == $[$.key]", True),
    ("$.n == $.n && $.n", True),
    ("$.items[?(@.id == 1 || @.id == 2)].id == '1,2'", True),
    ("$.zero || $.n", True),
    ("$.zero && $.n", False),
    ("$.n && $.zero || $.yes", True),
    ("$.zero || $.no || $.empty || $.n", True),
    ("$.n && $.yes && $.word && $.zero", False),
    ("$.yes || $.n && $.zero", True),
    # Anything that is not a path, and unknown operators, are false.
    ("", False),
    ("   ", False),
    ("true", False),
    ("1 == 1", False),
    ("garbage", False),
    ("$.n &&", False),
    ("|| $.n", True),
    ("$.n <> 4", False),
    ("$.n =< 5", False),
    ("$.n =~ 5", False),
    ("$.n ==== 5", False),
    ("$.n in 5", False),
    ("$ == 1", False),
]

MALFORMED = [
    ("$.n ==", 6, "lacks its right side"),
    ("$.n == 'open", 7, "not closed"),
    ("$.n == O'Brien", 8, "not closed"),
    ("$.n == 'a' 'b'", 10, "ends after its right side"),
    ("$.n == $.a b", 11, "ends after its right side"),
    ("$.yes && $.a[", 12, "not closed"),
    ("$n == 1", 1, "continues with"),
    ("$. == 1 || $.n..", 16, "name is missing"),
    ("!$.n", 0, "neither '!' nor"),
    ("$.n && ($.a || $.b)", 7, "neither '!' nor"),
    ("$.a[?(@.b > )]", 12, "is expected"),
    ("$.a|$.b", 3, "not allowed in a name"),
]


@pytest.mark.parametrize(("condition", "expected"), EVALUATED)
def test_a_condition_is_true_or_false(condition, expected):
    assert compile_condition(condition).matches(CONTEXT) is expected


@pytest.mark.parametrize(("condition", "position", "message"), MALFORMED)
def test_the_error_of_a_malformed_condition_points_at_its_position(condition, position, message):
    with pytest.raises(ExpressionSyntaxError, match=message) as caught:
        compile_condition(condition)
    assert caught.value.position == position


def test_evaluation_stops_at_the_part_that_decides():
    assert compile_condition("$.n || $[$.missing]").matches(CONTEXT)
    assert not compile_condition("$.zero && $[$.missing] && $.n").matches(CONTEXT)


@pytest.mark.parametrize("condition", ["$[$.missing] == 1", "$.n == $[$.missing]", "$.zero || $[$.null]"])
def test_a_dynamic_segment_without_a_key_is_an_error(condition):
    with pytest.raises(ExpressionEvaluationError, match="to be a key"):
        compile_condition(condition).matches(CONTEXT)


@pytest.mark.parametrize("operator", ["||", "&&"])
def test_many_parts_work_like_two(operator):
    many = operator.join(["$.n"] * 1000)
    assert compile_condition(many).matches(CONTEXT)
    assert compile_condition(many + "||$.zero").matches(CONTEXT)
    assert not compile_condition("$.zero&&" + "&&".join(["$.n"] * 1000)).matches(CONTEXT)
