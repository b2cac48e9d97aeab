"""What the log says about items that are probably not what the author meant."""

from __future__ import annotations

import logging

import pytest

from tests.support.engine import compose, fork, run

WARNINGS = [
    ("a misspelled path", {"row": [1]}, "No branch runs, because itemsPath finds nothing"),
    ("no payload", {}, "No branch runs, because itemsPath finds nothing"),
    ("null", {"rows": None}, "No branch runs, because itemsPath finds null"),
    (
        "a pointer with another field",
        {"rows": {"bucket": "data", "key": "a.jsonl", "extra": 1}},
        "none; a pointer is",
    ),
    ("a pointer without a key", {"rows": {"bucket": "data"}}, "none; a pointer is"),
    ("a pointer in capitals", {"rows": {"Bucket": "data", "Key": "a.jsonl"}}, "none; a pointer is"),
    ("a misspelled wrapper", {"rows": {"s3_output_pointer": {}}}, "none; a pointer is"),
    ("the URI of an object", {"rows": "s3://data/a.jsonl"}, "none; a pointer is"),
]
"""Case, payload, a part of the warning."""

QUIET = [
    ("an empty list", {"rows": []}),
    ("a list", {"rows": [{"bucket": "data"}]}),
    ("one object", {"rows": {"id": 1, "key": "x"}}),
    ("one string", {"rows": "https://x.example/"}),
]

STEPS = {
    "split": fork(items="$.rows"),
    "work": compose(inputMappings={"item": "$.currentItem"}),
}


@pytest.mark.parametrize(
    ("payload", "words"), [row[1:] for row in WARNINGS], ids=[row[0] for row in WARNINGS]
)
def test_items_that_are_probably_not_meant_are_a_warning_with_the_path(payload, words, caplog):
    assert run(STEPS, payload).status == "COMPLETED"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert words in record.message
    assert record.message.endswith("(itemsPath $.rows of step split)")


@pytest.mark.parametrize("payload", [row[1] for row in QUIET], ids=[row[0] for row in QUIET])
def test_good_items_need_no_warning(payload, caplog):
    assert run(STEPS, payload).status == "COMPLETED"
    assert caplog.records == []
