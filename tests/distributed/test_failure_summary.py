"""The summary of a fork's failures in the log of its last task."""

from __future__ import annotations

from airflow_allma.distributed import failure_summary
from airflow_allma.distributed.failure_summary import FailureSummary
from airflow_allma.engine import BranchResult, BranchStatus


def result(item: int, message: str = "", branch: int = 0, status: int = 404) -> BranchResult:
    if not message:
        return BranchResult(item, branch, "b", BranchStatus.OK, output=1)
    details = {"failedStepInstanceId": "get", "status": status}
    error = {"errorName": "PermanentStepError", "errorMessage": message, "errorDetails": details}
    return BranchResult(item, branch, "b", BranchStatus.FAILED, error=error)


def lines(*results: BranchResult) -> list[str]:
    summary = FailureSummary()
    assert list(summary.watch(results)) == list(results)
    return list(summary.lines())


def test_failures_are_counted_by_kind_with_the_first_item_of_each_the_most_frequent_first():
    found = lines(
        result(0),
        result(1, "timeout of order 17"),
        result(2, "404 from GET http://shop/users/u-2"),
        result(3, "404 from GET http://shop/users/u-3"),
        result(1234),
    )
    assert found == [
        "3 of 5 items failed:",
        "PermanentStepError: 404 from GET http://shop/users/… (2 items, first item 2, step get)",
        "PermanentStepError: timeout of order … (item 1, step get)",
    ]


def test_an_item_that_failed_in_two_branches_counts_once():
    found = lines(result(0, "a b"), result(0, "a b", 1), result(1, branch=0), result(1, "c d", 1))
    assert found[0] == "2 of 2 items failed:"
    assert found[1:] == [
        "PermanentStepError: a b (item 0, step get)",
        "PermanentStepError: c d (item 1, step get)",
    ]


def test_without_a_failure_there_is_one_line():
    assert lines(result(0), result(1)) == ["None of 2 items failed"]


def test_kinds_and_work_are_bounded(monkeypatch):
    monkeypatch.setattr(failure_summary, "_MAX_GROUPED", 30)
    monkeypatch.setattr(failure_summary, "_MAX_KINDS", 15)
    words = [f"{a}{b}" for a in "abcdef" for b in "ghijkl"]
    found = lines(*(result(item, word) for item, word in enumerate(words)))
    assert found[:2] == ["36 of 36 items failed:", "other kinds of failures (15 items, first item 15)"]
    assert len(found) == 13
    assert found[-2:] == [
        "6 more kinds of failures (6 items)",
        "6 more failures, which were not grouped",
    ]
