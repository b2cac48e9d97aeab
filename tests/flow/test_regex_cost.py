"""The time that regular expressions of flows can take: patterns without a bound are refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.flow.regex_cost import MAX_PATTERN_LENGTH, pattern_degree, pattern_problem

LINEAR = [
    "",
    "^",
    "foo",
    r"\d+",
    "^[a-z]+$",
    r"^\d{4}-\d{2}-\d{2}$",
    r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$",
    r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$",
    r"^https?://[^\s/$.?#].[^\s]*$",
    "^[a-z0-9]+(?:-[a-z0-9]+)*$",
    r"^(\d{1,3}\.){3}\d{1,3}$",
    "^[a-z]+([A-Z][a-z]+)*$",
    "^(us|eu)-(east|west)-[0-9]$",
    r"^(\w{16})+$",
    "^s3://[a-z0-9.-]{3,63}/.+$",
    "^(foo|bar|baz)+$",
    r"^(?!-)[a-z-]{1,63}(?<!-)$",
    "(?i)^(a|A)*$",
    "^(?:x(?:a|))*$",
    "^(?:[a-z](?:-|))+$",
    "^(?:a(?:b|c)?)*$",
    "^(|a|b)$",
]
POLYNOMIAL = {r"^[^@\s]+@[^@\s]+\.[^@\s]+$": 2, "[a-z]+x": 2, "^.*foo.*bar$": 2, "^.*foo.*bar.*$": 3}
REFUSED = {
    "^(a+)+$": "exponential",
    "(a*)*": "exponential",
    "(a|ab|b)*$": "exponential",
    r"(\w+\s?)*$": "exponential",
    "(.*)*x": "exponential",
    r"([a-z]+)*\d": "exponential",
    "(x+x+)+y": "exponential",
    "^(([a-z])+.)+[A-Z]([a-z])+$": "exponential",
    "(?=(a+)+$)x": "exponential",
    r"(\d+|[0-9]+)*x": "exponential",
    r"^(\d|\d\d)+$": "exponential",
    "((a{0,5}){0,5}){0,5}x": "exponential",
    "^(a?){30}a{30}$": "exponential",
    "(?:a|a)*b": "exponential",
    "(?:ab|ab)+c": "exponential",
    "(?:x(?:|))*y": "exponential",
    "(?:x(?:a?|b?))*y": "exponential",
    "(?:x(?:a*)?)*y": "exponential",
    "(?:x(?:a?)??)+y": "exponential",
    "(?:x(?:(?:a|)|))*y": "exponential",
    "(?:x(?:|)){25}y": "exponential",
    "a?" * 30 + "a" * 30: "optional parts",
    ".*.*.*.*x": "power of 5",
    "^a*a*a*a*a*b": "power of 5",
    r"(a)\1": "references to groups",
    "a{500}": None,
    "(ab){300}": None,
    "(": "not a regular expression",
    "a{99999999999}": "not a regular expression",
    "(" * 500 + ")" * 500: "not a regular expression",
    "x" * (MAX_PATTERN_LENGTH + 1): "at most 1000 characters",
}


@pytest.mark.parametrize("pattern", LINEAR)
def test_usual_patterns_take_linear_time(pattern):
    assert pattern_degree(pattern) <= 2
    assert pattern_problem(pattern) is None


@pytest.mark.parametrize("pattern", POLYNOMIAL)
def test_a_small_power_of_the_length_is_accepted(pattern):
    assert pattern_degree(pattern) == POLYNOMIAL[pattern]
    assert pattern_problem(pattern) is None


@pytest.mark.parametrize("pattern", REFUSED)
def test_patterns_without_a_bound_are_refused_with_the_reason(pattern):
    problem = pattern_problem(pattern)
    if REFUSED[pattern] is None:
        assert problem is None
    else:
        assert REFUSED[pattern] in problem


pieces = st.recursive(
    st.sampled_from(["a", "b", "[ab]", r"\w", ".", "a|b", "x", "é", r"\s", "^", "$"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "*", "?", "{2}", "{1,3}", "{2,}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        st.lists(inner, min_size=2, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
    ),
    max_leaves=12,
)


@given(pieces)
def test_every_pattern_is_accepted_or_refused_with_a_sentence(pattern):
    problem = pattern_problem(pattern)
    assert problem is None or problem.strip()


@given(pieces, st.text(alphabet="abx \n", max_size=12))
def test_accepted_patterns_are_those_that_python_runs(pattern, text):
    if pattern_problem(pattern) is None:
        re.search(pattern, text)
