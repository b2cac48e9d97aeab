"""Operators that run flows, thin around the engine.

Public names, imported when they are first used (a Dag file that needs none pays for none):

- ``S3ManifestOperator`` plans chunks of a JSON Lines object and returns them for ``expand``, in any Dag.
- ``ChunkOperator``, ``ForkItemsOperator``, ``AggregateOperator``: the other tasks of a fork.
- ``FlowStepOperator``, ``FlowBranchOperator``: a segment of a flow, on the main path and in a mapped branch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_allma.operators.aggregate import AggregateOperator
    from airflow_allma.operators.chunk import ChunkOperator
    from airflow_allma.operators.flow_branch import FlowBranchOperator
    from airflow_allma.operators.flow_step import FlowStepOperator
    from airflow_allma.operators.fork_items import ForkItemsOperator
    from airflow_allma.operators.manifest import S3ManifestOperator

__all__ = [
    "AggregateOperator",
    "ChunkOperator",
    "FlowBranchOperator",
    "FlowStepOperator",
    "ForkItemsOperator",
    "S3ManifestOperator",
]

_HOMES = {
    "AggregateOperator": "aggregate",
    "FlowBranchOperator": "flow_branch",
    "ChunkOperator": "chunk",
    "ForkItemsOperator": "fork_items",
    "S3ManifestOperator": "manifest",
    "FlowStepOperator": "flow_step",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
