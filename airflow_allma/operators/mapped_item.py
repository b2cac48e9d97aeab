"""The entries of the list that a fork's branches are mapped over: one text an item.

Every mapped task is given the whole list, and takes its entry of it. As JSON text an entry is one value to
Airflow, however large and deep the item is, and holds no keys that Airflow's serializer takes for its own.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Element", "encode_mapped_item", "read_mapped_item"]


class Element(msgspec.Struct, frozen=True):
    """One item of a fork.

    Attributes:
        index: the item's place, from 0.
        label: what names it to people.
        item: the item, a JSON value.
    """

    index: int
    label: str
    item: Any


_decode = msgspec.json.Decoder(Element).decode


def encode_mapped_item(index: int, label: str, item: Any) -> str:
    """An entry for one item."""
    return msgspec.json.encode(Element(index, label, item)).decode()


def read_mapped_item(entry: str) -> Element:
    """What ``encode_mapped_item`` made."""
    return _decode(entry)
