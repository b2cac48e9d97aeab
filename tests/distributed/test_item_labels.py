"""Labels of a chunk with very many items."""

from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import dataclass
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_allma.distributed.item_labels import ItemLabels
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.memory import MemoryStore

COUNT = 30_000
CHUNK = OffloadLocation("b", "run/fork/results/token/000003")


@dataclass
class Fork:
    label_path: Any = None
    batcher: Any = None


def name_of(item: int) -> str:
    return hashlib.sha256(str(item).encode()).hexdigest()


def stored(masks: SecretMasks | None = None) -> ItemLabels:
    labels = ItemLabels(MemoryStore(), CHUNK, Fork(), masks or SecretMasks())
    for start in range(0, COUNT, 256):
        items = range(start, min(COUNT, start + 256))
        labels.add([(item, {"name": name_of(item)}) for item in items])
    labels.save()
    return labels


LABELS = stored()


@given(st.lists(st.integers(0, COUNT + 1), min_size=1, max_size=20))
@example([COUNT - 1, COUNT, COUNT - 2, 0])
@settings(max_examples=20)
def test_labels_are_found_in_any_order(asked):
    label_of = LABELS.read()
    assert [label_of(item) for item in asked] == [name_of(item) if item < COUNT else "" for item in asked]


def test_a_secret_is_masked_wherever_it_is_among_the_labels():
    masks, last = SecretMasks(), COUNT - 7
    masks.add([name_of(last)])
    label_of = stored(masks).read()
    assert [item for item in range(COUNT) if label_of(item) != name_of(item)] == [last]
    assert name_of(last)[:8] not in label_of(last)


def test_memory_holds_few_of_the_labels_that_are_found_in_order():
    label_of = LABELS.read()
    tracemalloc.start()
    try:
        assert all(label_of(item) == name_of(item) for item in range(COUNT))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < COUNT * len(name_of(0)) / 4
