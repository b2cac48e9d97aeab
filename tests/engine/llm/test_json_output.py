from __future__ import annotations

import pytest

from airflow_allma.engine.llm.json_output import parse_json_output
from airflow_allma.exceptions import ContentBasedRetryableError


def parse(text, *, is_cut=False):
    return parse_json_output(text, is_cut=is_cut, max_output_tokens=100)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("  [1, 2]\n", [1, 2]),
        ("42", 42),
        ('"word"', "word"),
        ("true", True),
        ("null", None),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('Here it is:\n```\n{"a": {"b": [1]}}\n```\nBye {you}', {"a": {"b": [1]}}),
        ('Sure! {"a": "}"} Anything else?', {"a": "}"}),
        ('The list [1, {"a": 2}] is complete.', [1, {"a": 2}]),
        ("{'a': 'it', 'b': True,}", {"a": "it", "b": True}),
        ('{"a": 1 "b": 2}', {"a": 1, "b": 2}),
        ('```json\n{"a": "x", // why\n "b": [1, 2}\n```', {"a": "x", "b": [1, 2]}),
        ('{"deep": {"list": [1, 2', {"deep": {"list": [1, 2]}}),
        ('{"a": "```"}', {"a": "```"}),
        ('{"code": "```json\\n{}\\n```"}', {"code": "```json\n{}\n```"}),
    ],
)
def test_json_is_found_in_an_answer_and_repaired(text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "is empty"),
        ("", "is empty"),
        (" \n\t ", "is empty"),
        ("I cannot do that.", "is not JSON"),
        ("```json\n```", "is not JSON"),
        ("{", "cannot be repaired"),
        ("[[[[", "cannot be repaired"),
        ("{" * 100_000, "too broken to repair"),
        ("[" + '{"a" ' * 20_000, "too broken to repair"),
        ("[" + '"a "b" c",' * 10_000, "too broken to repair"),
        ("[" + "(" * 50_000, "too broken to repair"),
    ],
)
def test_an_answer_without_json_is_a_content_error_that_shows_its_beginning(text, reason):
    with pytest.raises(ContentBasedRetryableError, match=reason) as raised:
        parse(text)
    assert len(raised.value.details["answer"]) <= 200
    assert (text or "").strip()[:3] in raised.value.message


def test_json_that_ends_at_the_token_limit_is_not_repaired():
    with pytest.raises(ContentBasedRetryableError, match="the limit of 100 tokens"):
        parse('{"rows": [1, 2, 3', is_cut=True)


def test_complete_json_is_used_although_the_answer_was_cut():
    assert parse('{"rows": [1]}', is_cut=True) == {"rows": [1]}


def test_a_long_list_with_a_missing_comma_is_repaired():
    row = '{"name": "Some words, and more", "tags": ["a", "b"], "count": 12}'
    text = f'{{"rows": [{", ".join([row] * 1_500)} {row}]}}'
    assert len(parse(text)["rows"]) == 1_501


def test_very_large_broken_json_is_not_repaired():
    with pytest.raises(ContentBasedRetryableError, match="too many to repair"):
        parse('{"a": [' + "1, " * 600_000)


def test_control_characters_of_an_answer_are_not_in_the_message():
    with pytest.raises(ContentBasedRetryableError) as raised:
        parse("no\x1b json\x00")
    assert "\x1b" not in raised.value.message
    assert "\x00" not in raised.value.message
