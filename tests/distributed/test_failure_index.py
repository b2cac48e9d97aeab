from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.distributed.failure_index import FailureIndex
from airflow_allma.distributed.result_index import MAX_KINDS


def error(kind: int) -> dict:
    name = "".join("abcdefghij"[int(digit)] for digit in str(kind))
    return {"errorName": name, "errorMessage": f"Failed {kind}", "errorDetails": {}}


def no_label(_: int) -> str:
    return ""


RUNS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ab"), st.integers(-1, 4)), max_size=80)


@given(RUNS, st.integers(1, 8))
def test_counts_are_those_of_the_last_result_of_each_branch_run(runs, max_listed):
    index = FailureIndex(max_listed)
    failed: dict[tuple[int, str], int] = {}
    for item, branch, kind in runs:
        if kind < 0:
            index.discard(item, branch)
            failed.pop((item, branch), None)
        else:
            index.add(item, branch, 10 * item, error(kind))
            failed[item, branch] = kind
    counts = {count.error_name: (count.count, count.first) for count in index.kinds()}
    assert counts == {
        error(kind)["errorName"]: (number, min(item for (item, _), found in failed.items() if found == kind))
        for kind, number in Counter(failed.values()).items()
    }
    listed = [(line.item, line.branch) for line in index.lines(no_label)]
    assert listed == sorted(failed)[: len(listed)]
    assert len(listed) <= max_listed
    if not any(kind < 0 for *_, kind in runs):
        assert len(listed) == min(len(failed), max_listed)
    for line in index.lines(str):
        assert line.error_name == error(failed[line.item, line.branch])["errorName"]
        assert (line.offset, line.label) == (10 * line.item, str(line.item))


def test_kinds_beyond_the_limit_are_counted_together():
    index = FailureIndex()
    for item in range(MAX_KINDS + 50):
        index.add(item, "a", 0, error(item))
    kinds = {count.kind: count for count in index.kinds()}
    assert len(kinds) == MAX_KINDS + 1
    assert (kinds["other"].count, kinds["other"].first) == (50, MAX_KINDS)
    assert {line.kind for line in index.lines(no_label)} == set(kinds)


def test_any_value_can_be_an_error():
    index = FailureIndex()
    for item, value in enumerate((None, 7, [], {"errorName": 5, "errorMessage": None})):
        index.add(item, "a", 0, value)
    assert sum(count.count for count in index.kinds()) == 4
