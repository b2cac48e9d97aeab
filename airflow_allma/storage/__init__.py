"""Objects in S3 and in local folders, behind one protocol, and what is built on it.

Pointers, loading and offloading of values, JSON Lines manifests split by byte ranges. Nothing here knows
Airflow: clients and credentials are passed in as a protocol. boto3 is imported with the first client.
"""

from __future__ import annotations

from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.content import encode_value, load_content, store_value
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.local import LocalStore
from airflow_allma.storage.manifest_plan import ManifestPlan, plan_manifest
from airflow_allma.storage.manifest_ranges import ManifestRange
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.object_prefix import ObjectPrefix
from airflow_allma.storage.object_store import ObjectInfo, ObjectStore, ObjectWriter
from airflow_allma.storage.opening import open_folder, open_store
from airflow_allma.storage.pointer import Pointer
from airflow_allma.storage.routed import RoutedStore
from airflow_allma.storage.s3 import S3Store

__all__ = [
    "Backoff",
    "LocalStore",
    "ManifestPlan",
    "ManifestRange",
    "MemoryStore",
    "ObjectInfo",
    "ObjectPrefix",
    "ObjectStore",
    "ObjectWriter",
    "OffloadLocation",
    "Pointer",
    "RoutedStore",
    "S3Store",
    "encode_value",
    "load_content",
    "open_folder",
    "open_store",
    "plan_manifest",
    "store_value",
]
