"""The entries of the lists that mapped tasks are mapped over: one argument, a dict, with a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_allma.operators.xcoms import shown

__all__ = ["Element", "item_element", "read_element"]


@dataclass(frozen=True, slots=True)
class Element:
    """One item of a fork.

    Attributes:
        index: the item's place, from 0.
        label: what names it to people.
        item: the item, a JSON value.
    """

    index: int
    label: str
    item: Any


def item_element(index: int, label: str, item: Any) -> dict[str, Any]:
    """An entry for one item; ``itemJson`` in place of ``item`` where Airflow would misread the value."""
    safe = shown(item)
    if safe is item:
        return {"index": index, "label": label, "item": item}
    return {"index": index, "label": label, "itemJson": safe}


def read_element(entry: dict[str, Any]) -> Element:
    """What ``item_element`` made."""
    item = msgspec.json.decode(entry["itemJson"]) if "itemJson" in entry else entry["item"]
    return Element(int(entry["index"]), str(entry["label"]), item)
