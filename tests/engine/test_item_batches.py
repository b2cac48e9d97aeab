"""Forks with an ``itemBatcher``: every item is in one batch, in order, and the limits hold."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine import ItemError
from airflow_allma.engine.fork_limits import ForkLimits
from airflow_allma.engine.item_batches import MAX_BATCH_BYTES, batches_of, size_of_batch
from airflow_allma.exceptions import PermanentStepError
from tests.support.engine import compose, fork, run

BAD = ItemError(PermanentStepError("The line is not JSON."))
ITEMS = st.lists(st.none() | st.integers(0, 999) | st.text(max_size=12) | st.just(BAD), max_size=30)


def size(items):
    return len(msgspec.json.encode(items))


@given(ITEMS, st.none() | st.integers(1, 6), st.none() | st.integers(1, 40))
def test_every_item_is_in_one_batch_in_order_and_the_limits_hold(items, most, most_bytes):
    batches = list(batches_of(items, ForkLimits(batch_items=most, batch_bytes=most_bytes)))
    seen = []
    for batch in batches:
        assert batch["first"] == len(seen)
        seen += batch.get("items", [BAD])
        assert ("error" in batch) != ("items" in batch)
        if "items" in batch:
            assert batch["items"]
            assert most is None or len(batch["items"]) <= most
            assert most_bytes is None or len(batch["items"]) == 1 or size(batch["items"]) <= most_bytes
    assert seen == items
    assert sum(map(size_of_batch, batches)) == len(items)


@given(ITEMS, st.integers(1, 6), st.integers(1, 40))
def test_a_batch_ends_only_where_a_limit_or_an_unreadable_item_ends_it(items, most, most_bytes):
    batches = list(batches_of(items, ForkLimits(batch_items=most, batch_bytes=most_bytes)))
    for before, after in pairwise(batches):
        if "items" in before and "items" in after:
            is_full = len(before["items"]) == most
            assert is_full or size([*before["items"], after["items"][0]]) > most_bytes


def test_a_batch_without_a_limit_of_bytes_is_bounded_all_the_same():
    text = "x" * (MAX_BATCH_BYTES // 3)
    batches = list(batches_of([text] * 5, ForkLimits(batch_items=100)))
    assert [len(batch["items"]) for batch in batches] == [2, 2, 1]


def test_batches_of_a_fork_inside_a_branch_and_of_steps_that_wait():
    inner = fork("work", items="$.currentItem.items", itemBatcher={"maxItemsPerBatch": "$.size"})
    steps = {
        "fan": fork("inner", itemBatcher={"maxItemsPerBatch": 3, "batchInput": {"n": "$.size"}}),
        "inner": inner,
        "work": compose(inputMappings={"v": "$.currentItem.items"}, delay={"milliseconds": 1}),
    }
    ran = run(steps, {"items": [0, 1, 2, 3, 4], "size": 2})
    assert ran.outputs["fan"]["aggregatedData"] == [
        {"aggregatedData": [{"v": [0, 1]}, {"v": [2]}]},
        {"aggregatedData": [{"v": [3, 4]}]},
    ]
