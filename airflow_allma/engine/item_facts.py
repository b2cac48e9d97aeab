"""What the files of a ``resultWriter`` say of an item: its name, and itself or its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from airflow_allma.engine.items import own_label
from airflow_allma.engine.program import CompiledFork
from airflow_allma.engine.readers import ItemOffsets
from airflow_allma.engine.secret_masks import SecretMasks

__all__ = ["ItemFacts", "ListedItems", "ReadItems"]


class ItemFacts:
    """What is known about the current item; by itself nothing.

    Attributes:
        label: the name that the item itself contains, as pages show it.
        input: the item.
        place: where the item is in the object that holds it, such as ``{"byteOffset": 520}``.
    """

    label: str | UnsetType = UNSET
    input: Any = UNSET
    place: Mapping[str, Any] | UnsetType = UNSET

    def enter(self, index: int) -> None:
        """Go on to another item; indexes only ascend."""


class ListedItems(ItemFacts):
    """The items of a list, which is in memory.

    Args:
        fork: the fork, which names its items.
        values: the list.
        masks: the secrets that the process knows; an item can have one in its name.
    """

    def __init__(self, fork: CompiledFork, values: Sequence[Any], masks: SecretMasks) -> None:
        self._fork = fork
        self._values = values
        self._masks = masks

    def enter(self, index: int) -> None:
        """Go on to another item."""
        self.label = self.input = UNSET
        if index < len(self._values):
            self.input = self._values[index]
            self.label = shown_label(own_label(self._fork, self.input), self._masks)


class ReadItems(ItemFacts):
    """The items of an object, of which this process has read as many as are in flight.

    Args:
        fork: the fork, which names its items.
        offsets: where the items are.
        masks: the secrets that the process knows.
    """

    def __init__(self, fork: CompiledFork, offsets: ItemOffsets, masks: SecretMasks) -> None:
        self._fork = fork
        self._offsets = offsets
        self._masks = masks
        self._labels: dict[int, str] = {}

    def track(self, batches: Iterable[list[tuple[int, Any]]]) -> Iterator[list[tuple[int, Any]]]:
        """Yield the batches; the names of their items are known from then on."""
        for batch in batches:
            for index, item in batch:
                if label := own_label(self._fork, item):
                    self._labels[index] = label
            yield batch

    def enter(self, index: int) -> None:
        """Go on to another item; the name of this one is forgotten afterwards."""
        self.label = shown_label(self._labels.pop(index, None), self._masks)
        self.place = self._offsets.place_of(index) or UNSET


def shown_label(label: str | None, masks: SecretMasks) -> str | UnsetType:
    """Return an item's name without secrets; UNSET if it has none."""
    if not label:
        return UNSET
    return masks.text(label) if masks.count else label
