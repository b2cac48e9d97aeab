from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_allma.flow.ids import MAX_ID_LENGTH, problem_with_id, safe_id

# Ids that are easily mixed up are better than ids that have nothing in common.
CLOSE = st.text(alphabet="ab_- .é/", max_size=6)


@given(st.text())
def test_a_safe_id_is_a_key_that_airflow_accepts_without_dots(text):
    made = safe_id(text)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,250}", made)


@given(CLOSE, CLOSE)
def test_different_ids_stay_different(one, other):
    assume(one != other)
    assert safe_id(one) != safe_id(other)


@given(st.text(min_size=200, max_size=400), st.integers(16, 100))
def test_a_safe_id_is_no_longer_than_wanted(text, limit):
    assert len(safe_id(text, limit)) <= limit


@pytest.mark.parametrize(
    "text", ["get_profile", "Step-1", "0", "3f2b8c1e-9d4a-4b7e-8a55-446655440000", "a" * 250]
)
def test_an_id_that_is_already_safe_stays_unchanged(text):
    assert safe_id(text) == text


@given(CLOSE)
def test_an_id_that_looks_like_a_changed_one_is_changed_too(text):
    changed = safe_id(text + "!")
    assert safe_id(changed) != changed


def test_ids_that_differ_only_after_the_limit_stay_different():
    assert safe_id("a" * 300 + "x") != safe_id("a" * 300 + "y")


@pytest.mark.parametrize(
    "text", ["a", "Process Products", "prüfen", "步骤", "a.b/c[0]'\"", "x" * MAX_ID_LENGTH]
)
def test_any_printable_string_is_a_valid_id(text):
    assert problem_with_id(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("x" * (MAX_ID_LENGTH + 1), "200 characters"),
        ("a\nb", "U+000A"),
        ("a\u202eb", "U+202E"),
        ("a\u2028b", "U+2028"),
        ("a\ud800", "U+D800"),
        (" a", "space"),
        ("a ", "space"),
    ],
)
def test_an_unreadable_string_is_rejected_as_an_id(text, reason):
    assert reason in problem_with_id(text)
