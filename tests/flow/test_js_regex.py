"""JavaScript's regular expressions, as Python matches them."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.flow.js_regex import JsRegexError, UntranslatableError, to_python
from airflow_allma.flow.regex_cost import pattern_problem
from airflow_allma.loading import load_flow_file
from tests.support.flow_files import flow, write

# Pattern, texts that JavaScript matches (with the flag u), texts that it does not match.
CASES = [
    (r"^Order (?<no>\d+)$", ["Order 12"], ["Order ٣", "Order 12\n", "order 1"]),
    (r"^(?<a>x)\k<a>$", ["xx"], ["x"]),
    (r"^\d$", ["7"], ["٣"]),
    (r"^\D$", ["٣", "a"], ["7"]),
    (r"^\w$", ["a", "_", "7"], ["é", "-"]),
    (r"^\W$", ["é", "-", "^", "["], ["a", "_"]),
    (r"^\s$", [" ", "\t", "\n", "\xa0", "\ufeff", "\u2028"], ["\x1c", "\x85", "a"]),
    (r"^\S$", ["\x1c", "\x85", "a", "\U0001f600"], [" ", "\ufeff", "\u3000"]),
    (r"^[\d.]+$", ["1.5"], ["٣", "1,5"]),
    (r"^[^\d]$", ["a", "٣"], ["7"]),
    (r"^[\D]$", ["a", "٣"], ["7"]),
    (r"^[\W]$", ["é", "^"], ["a", "_"]),
    (r"^[\S]$", ["a", "\U0001f600"], [" ", "\u3000"]),
    (r"^[\w.-]+@[a-z]+\.com$", ["a.b-c@x.com"], ["a@x_com"]),
    (r"^.$", ["a", "\x85", "\U0001f600"], ["\n", "\r", "\u2028"]),
    (r"^a$", ["a"], ["a\n"]),
    (r"^a{,2}$", ["a{,2}"], ["aa"]),
    (r"^a{1,2}$", ["a", "aa"], ["aaa"]),
    (r"^a{2,}$", ["aa", "aaa"], ["a"]),
    (r"^{$", ["{"], ["a"]),
    (r"^[]$", [], ["", "a"]),
    (r"^[^]$", ["a", "\n"], [""]),
    (r"^[a\]b]$", ["]", "a"], ["\\"]),
    (r"^[[&&~~||-]$", ["[", "&", "~", "|", "-"], ["a"]),
    (r"^[+--]$", ["+", ",", "-"], ["."]),
    (r"^[a-c-e]$", ["b", "-", "e"], ["d"]),
    (r"^[-a]$", ["-", "a"], ["b"]),
    (r"^[\d-x]$", ["5", "-", "x"], ["a"]),
    (r"^[\b]$", ["\b"], ["b"]),
    (r"\bé", ["aé"], ["é"]),
    (r"^\B", ["é"], ["a"]),
    (r"^\u0041\x42\u{43}$", ["ABC"], ["abc"]),
    (r"^\u{1F600}\ud83d\ude00$", ["\U0001f600\U0001f600"], []),
    (r"^\cJ\0\/\-\#$", ["\n\0/-#"], []),
    (r"^(?:a|b)(?=c)(?!d)(?<=b)(?<!x)c$", ["bc"], ["ac"]),
    (r"^(?i:a)b$", ["Ab"], ["AB"]),
    (r"^(a)\1$", ["aa"], ["a"]),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "matching", "other"), CASES)
def test_a_pattern_matches_what_it_matches_in_javascript(pattern, matching, other):
    translated = re.compile(to_python(pattern))
    assert [text for text in matching if not translated.search(text)] == []
    assert [text for text in other if translated.search(text)] == []


@pytest.mark.parametrize(
    ("pattern", "error", "position"),
    [
        (r"ab\p{L}", UntranslatableError, 2),
        (r"[\P{Lu}]", UntranslatableError, 1),
        (r"(?<$a>x)", UntranslatableError, 3),
        (r"(?s:.)", UntranslatableError, 0),
        (r"(?i)a", JsRegexError, 0),
        (r"x(?P<a>x)", JsRegexError, 1),
        (r"(?>a)", JsRegexError, 0),
        (r"(?#c)", JsRegexError, 0),
        (r"(?<a", JsRegexError, 0),
        ("ab[c", JsRegexError, 2),
        ("ab\\", JsRegexError, 2),
        (r"\u{110000}", JsRegexError, 1),
    ],
)
def test_what_cannot_be_translated_has_a_position(pattern, error, position):
    with pytest.raises(JsRegexError) as raised:
        to_python(pattern)
    assert (type(raised.value), raised.value.position) == (error, position)


@given(pattern=st.text(alphabet=r"ab1\\()[]{}?<>:=!^$.*+-|,&~pPkduxwsDWSB cJ0", max_size=25))
def test_any_text_is_translated_or_refused(pattern):
    with suppress(JsRegexError):
        if pattern_problem(pattern, to_python) is None:
            re.compile(to_python(pattern))


@pytest.mark.parametrize("part", [r"\s", "[", "(?<a", r"\p", "{", "(?", "a{1", r"[\s"])
def test_long_patterns_are_checked_in_bounded_time(part):
    with suppress(JsRegexError):
        pattern_problem(part * (1_000 // len(part)), to_python)


def problems(tmp_path, pattern):
    step = {"stepType": "EMAIL_START_POINT", "emailAddress": "a@b.co", "triggerMessagePattern": pattern}
    found = load_flow_file(write(tmp_path, "f.json", flow(steps={"a": step}))).problems
    return [(str(one.severity), one.message) for one in found if "triggerMessagePattern" in one.path]


def test_the_pattern_of_a_start_point_is_javascripts(tmp_path):
    assert problems(tmp_path, r"Order (?<no>\d+)\s\/") == []
    ((severity, message),) = problems(tmp_path, r"^\p{L}")
    assert severity == "warning"
    assert "`\\p{...}`, are not supported (character 2 of the pattern)" in message
    ((severity, message),) = problems(tmp_path, "(?i)x")
    assert (severity, "no flags for a whole pattern, `(?i)` (character 1" in message) == ("error", True)
    ((severity, message),) = problems(tmp_path, r"(\d+)+$x")
    assert (severity, "exponential" in message) == ("error", True)
    ((severity, message),) = problems(tmp_path, r"\s(")
    assert (severity, message) == (
        "error",
        "not a regular expression that Python can read: missing ), unterminated subpattern",
    )
    ((severity, message),) = problems(tmp_path, "x" * 1001)
    assert "at most 1000 characters" in message
