"""The entries of the list that a fork's branches are mapped over: one JSON string per item.

Every mapped task gets the whole list from Airflow and selects its entry. As a JSON string an entry is one
value to Airflow, however large and deep the item is, and has no keys that Airflow's serializer interprets.
"""

from __future__ import annotations

from typing import Any

import msgspec

from airflow_allma.operators.transport import from_json, json_bytes

__all__ = ["MappedItem", "decode_mapped_item", "encode_mapped_item"]


class MappedItem(msgspec.Struct, frozen=True):
    """One item of a fork.

    Attributes:
        index: the item's index, from 0.
        item: the item, a JSON value.
    """

    index: int
    item: Any


def encode_mapped_item(index: int, item: Any) -> str:
    """Return the entry of one item."""
    return json_bytes([index, item]).decode()


def decode_mapped_item(entry: str) -> MappedItem:
    """Restore what ``encode_mapped_item`` returned, or what it returned up to version 0.2."""
    decoded = from_json(entry)
    if isinstance(decoded, dict):
        return MappedItem(decoded["index"], decoded["item"])
    index, item = decoded
    return MappedItem(index, item)
