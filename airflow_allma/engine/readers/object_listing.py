"""Listing the objects below a prefix, as items and as JSON Lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from airflow_allma.common.batching import batched
from airflow_allma.common.timestamps import iso_milliseconds
from airflow_allma.engine.readers.format_reader import ItemBatch, Source, Split
from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage import ObjectInfo, ObjectPrefix, ObjectStore, Pointer

__all__ = ["list_items", "list_objects", "require_spool"]

_BATCH: Final = 256
_encode: Final = msgspec.json.Encoder().encode
_log: Final = logging.getLogger("airflow_allma.engine")


def list_objects(store: ObjectStore, prefix: ObjectPrefix) -> Iterator[ObjectInfo]:
    """Yield the objects below a prefix in the order of their keys, without the markers of folders.

    A marker is an empty object whose key ends in a slash: consoles create them to show folders.

    Raises:
        StorageError: the bucket cannot be listed.
    """
    found = False
    for info in store.list(prefix.bucket, prefix.prefix):
        if info.size or not info.pointer.key.endswith("/"):
            found = True
            yield info
    if not found:
        _log.warning("No object is below %s: the fork has no items. Check bucket and prefix", prefix)


def list_items(
    store: ObjectStore, source: Source, limit: int | None = None
) -> Iterator[tuple[ItemBatch, list[bytes]]]:
    """Yield an item for each object below a prefix, and its line.

    The offsets are those of the lines in an object that contains them all.

    Args:
        store: the store.
        source: the prefix, and how many objects the fork has at most.
        limit: how many are listed at most; None: as many as the fork has.

    Raises:
        StorageError: the bucket cannot be listed.
    """
    most = source.options.max_items
    limits = [one for one in (most, limit) if isinstance(one, int)]
    objects = islice(list_objects(store, source.prefix), min(limits, default=None))
    first = offset = 0
    for infos in batched(objects, _BATCH):
        items = list(map(_item, infos))
        lines = [_encode(item) + b"\n" for item in items]
        offsets = []
        for line in lines:
            offsets.append(offset)
            offset += len(line)
        yield ItemBatch(first, offsets, items), lines
        first += len(items)


def require_spool(split: Split, source: Source, name: str) -> Pointer:
    """Return the object to which planning writes a list.

    Raises:
        StorageConfigurationError: an offload location is not set.
    """
    if split.spool is None:
        raise StorageConfigurationError(
            f"{source.target} names many objects, whose list must be written before it can be split. Set "
            "[allma] offload_location to a location for it."
        )
    target = split.spool(name, ".jsonl")
    prefix = source.target
    if (
        isinstance(prefix, ObjectPrefix)
        and prefix.bucket == target.bucket
        and target.key.startswith(prefix.prefix)
    ):
        _log.warning(
            "The offload location is below %s, so what runs write there becomes items, too. Use another "
            "prefix, or another location",
            prefix,
        )
    return target


def _item(info: ObjectInfo) -> dict[str, Any]:
    modified = info.last_modified
    return {
        "bucket": info.pointer.bucket,
        "key": info.pointer.key,
        "size": info.size,
        "etag": info.etag,
        "lastModified": None if modified is None else iso_milliseconds(modified),
        "storageClass": info.storage_class,
    }
