"""Objects in S3 and in local folders behind one protocol, and what is built on it.

Pointers, loading and offloading of values, JSON Lines manifests split by byte ranges, and the parts in
which a chunk writes its results. Nothing here knows Airflow: clients and credentials come in through a
protocol.
"""

from __future__ import annotations

from airflow_allma.storage.base import ObjectInfo, ObjectStore, ObjectWriter
from airflow_allma.storage.local import LocalStore
from airflow_allma.storage.pointers import Pointer

__all__ = ["LocalStore", "ObjectInfo", "ObjectStore", "ObjectWriter", "Pointer"]
