"""The entries of the list that a fork's branches are mapped over: one JSON string per item.

Every mapped task gets the whole list from Airflow and selects its entry. As a JSON string an entry is one
value to Airflow, however large and deep the item is, and has no keys that Airflow's serializer interprets.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["MappedItem", "decode_mapped_item", "encode_mapped_item"]


class MappedItem(msgspec.Struct, frozen=True):
    """One item of a fork.

    Attributes:
        index: the item's index, from 0.
        label: its name in the UI.
        item: the item, a JSON value.
    """

    index: int
    label: str
    item: Any


_decode = msgspec.json.Decoder(MappedItem).decode


def encode_mapped_item(index: int, label: str, item: Any) -> str:
    """Return the entry of one item."""
    return msgspec.json.encode(MappedItem(index, label, item)).decode()


def decode_mapped_item(entry: str) -> MappedItem:
    """Restore what ``encode_mapped_item`` returned."""
    return _decode(entry)
