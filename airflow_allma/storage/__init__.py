"""Objects in S3 and in local folders behind one protocol, and what is built on it.

Pointers, loading and offloading of values, JSON Lines manifests split by byte ranges, and the parts in
which a chunk writes its results. Nothing here knows Airflow: clients and credentials come in through a
protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_allma.storage.base import ObjectInfo, ObjectStore, ObjectWriter
from airflow_allma.storage.local import LocalStore
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.pointers import Pointer
from airflow_allma.storage.routed import RoutedStore

if TYPE_CHECKING:
    from airflow_allma.storage.s3 import ClientProvider, S3Store

__all__ = [
    "ClientProvider",
    "LocalStore",
    "MemoryStore",
    "ObjectInfo",
    "ObjectStore",
    "ObjectWriter",
    "Pointer",
    "RoutedStore",
    "S3Store",
]


def __getattr__(name: str) -> Any:
    # botocore takes a tenth of a second to import, which a Dag file's parse need not pay.
    if name in {"ClientProvider", "S3Store"}:
        from airflow_allma.storage import s3

        return getattr(s3, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
