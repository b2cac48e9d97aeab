"""Our results compared with the recorded results of the original engine."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_allma.exceptions import AllmaError
from airflow_allma.expressions import NOTHING
from tests.conformance.comparison import same, same_context, same_error
from tests.conformance.vector_kinds import KINDS


def test_our_result_is_the_recorded_one(vector: tuple[str, dict[str, Any]]) -> None:
    kind, case = vector
    assert kind in KINDS, f"vectors of kind {kind!r} are not supported"
    if case.get("error"):
        with pytest.raises(AllmaError, match=r"\w"):
            KINDS[kind](case["given"])
        return
    answer = KINDS[kind](case["given"])
    if case.get("nothing"):
        assert answer is NOTHING
    elif kind == "flow":
        expected = case["expected"]
        assert (answer["status"], answer["path"]) == (expected["status"], expected["path"])
        assert same_error(answer["error"], expected["error"])
        assert same_context(answer["context"], expected["context"]), answer["context"]
    elif kind == "aggregation":
        expected = case["expected"]
        assert answer["status"] == expected["status"]
        assert same_error(answer["error"], expected["error"])
        assert same(answer["context"], expected["context"]), answer["context"]
    else:
        assert same(answer, case["expected"]), answer
