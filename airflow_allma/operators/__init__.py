"""Operators that run flows, thin around the engine.

``S3ManifestOperator`` and the functions for its chunks are for Dags of your own; import them from
``airflow_allma``. All other operators are internal: the Dag factory makes their tasks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_allma.operators.chunk_api import ChunkWriter, chunk_items, join_chunks
    from airflow_allma.operators.s3_manifest import S3ManifestOperator

__all__ = ["ChunkWriter", "S3ManifestOperator", "chunk_items", "join_chunks"]

_MODULES = {
    "ChunkWriter": "chunk_api",
    "S3ManifestOperator": "s3_manifest",
    "chunk_items": "chunk_api",
    "join_chunks": "chunk_api",
}


def __getattr__(name: str) -> Any:
    # Imported when first used: a Dag file that needs none of them pays for none.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
