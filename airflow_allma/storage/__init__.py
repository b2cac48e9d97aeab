"""Objects in S3 and in local folders behind one protocol, and what is built on it.

Pointers, loading and offloading of values, JSON Lines manifests split by byte ranges, and the parts in
which a chunk writes its results. Nothing here knows Airflow: clients and credentials come in through a
protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.base import ObjectInfo, ObjectStore, ObjectWriter
from airflow_allma.storage.content import encode_value, load_content, store_value
from airflow_allma.storage.decoding import decode_line
from airflow_allma.storage.jsonl import Line, LineBatch, read_line_batches, read_lines
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.local import LocalStore
from airflow_allma.storage.manifest_plan import detect_format, plan_manifest, spool_lines
from airflow_allma.storage.manifest_ranges import (
    ByteRange,
    ManifestFormat,
    ManifestPlan,
    ManifestRange,
    plan_chunks,
)
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.pointers import Pointer
from airflow_allma.storage.routed import RoutedStore

if TYPE_CHECKING:
    from airflow_allma.storage.s3 import S3Store

__all__ = [
    "Backoff",
    "ByteRange",
    "Line",
    "LineBatch",
    "LocalStore",
    "ManifestFormat",
    "ManifestPlan",
    "ManifestRange",
    "MemoryStore",
    "ObjectInfo",
    "ObjectStore",
    "ObjectWriter",
    "OffloadLocation",
    "Pointer",
    "RoutedStore",
    "S3Store",
    "decode_line",
    "detect_format",
    "encode_value",
    "load_content",
    "plan_chunks",
    "plan_manifest",
    "read_line_batches",
    "read_lines",
    "spool_lines",
    "store_value",
]


def __getattr__(name: str) -> Any:
    # botocore takes a tenth of a second to import, which a Dag file's parse need not pay.
    if name == "S3Store":
        from airflow_allma.storage import s3

        return getattr(s3, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
