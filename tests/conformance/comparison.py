"""Comparison of JSON values: numbers by value, objects in any order, lists in order."""

from __future__ import annotations

from typing import Any


def same(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def same_context(ours: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Compare the contexts of two runs, without run-specific values; ``{"errorName": "*"}`` is any error."""
    ours = {key: value for key, value in ours.items() if key != "initialContextData"}
    variables = dict(ours.get("flow_variables", {}))
    variables.pop("flowExecutionId", None)
    ours["flow_variables"] = variables
    expected = {key: value for key, value in expected.items() if key != "initialContextData"}
    theirs = dict(expected.get("flow_variables", {}))
    theirs.pop("flowExecutionId", None)
    expected["flow_variables"] = theirs
    return _same_but_errors(ours, expected)


def _same_but_errors(ours: Any, expected: Any) -> bool:
    if isinstance(expected, dict) and expected.get("errorName") == "*":
        return isinstance(ours, dict) and isinstance(ours.get("errorName"), str)
    if isinstance(ours, dict) and isinstance(expected, dict):
        return ours.keys() == expected.keys() and all(
            _same_but_errors(ours[key], expected[key]) for key in expected
        )
    if isinstance(ours, list) and isinstance(expected, list):
        return len(ours) == len(expected) and all(map(_same_but_errors, ours, expected))
    return same(ours, expected)


NAMED_ERRORS = {"PermanentStepError", "ContentBasedRetryableError", "ParallelBranchExecutionError"}


def same_error(ours: str | None, expected: str | None) -> bool:
    """Compare error names if the original's is one of the language; otherwise any error matches."""
    if expected in NAMED_ERRORS:
        return ours == expected
    return (ours is None) == (expected is None)
