"""Operators that run flows, thin around the engine.

Public names, imported when they are first used (a Dag file that needs none pays for none):

- ``S3ManifestOperator`` plans chunks of a JSON Lines object and returns them for ``expand``, in any Dag.
- ``ChunkOperator``, ``ForkItemsOperator``, ``AggregateOperator``: the other tasks of a fork.
- ``SegmentOperator``, ``BranchOperator``: a segment of a flow, on the main path and in a mapped branch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_allma.operators.aggregate import AggregateOperator
    from airflow_allma.operators.branch import BranchOperator
    from airflow_allma.operators.chunk import ChunkOperator
    from airflow_allma.operators.fork_items import ForkItemsOperator
    from airflow_allma.operators.manifest import S3ManifestOperator
    from airflow_allma.operators.segment import SegmentOperator

__all__ = [
    "AggregateOperator",
    "BranchOperator",
    "ChunkOperator",
    "ForkItemsOperator",
    "S3ManifestOperator",
    "SegmentOperator",
]

_HOMES = {
    "AggregateOperator": "aggregate",
    "BranchOperator": "branch",
    "ChunkOperator": "chunk",
    "ForkItemsOperator": "fork_items",
    "S3ManifestOperator": "manifest",
    "SegmentOperator": "segment",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
