"""Reading the single objects of a fork without loading whatever else is in their place."""

from __future__ import annotations

from typing import Final

from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage.object_store import ObjectStore
from airflow_allma.storage.pointer import Pointer

__all__ = ["MAX_OBJECT_BYTES", "read_bounded"]

MAX_OBJECT_BYTES: Final = 32 << 20
"""The largest of these objects, ten thousand failures, has some MB. Whoever may write to the bucket can have
put anything in its place, and the API server, which serves everybody, must not run out of memory."""


def read_bounded(store: ObjectStore, pointer: Pointer, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
    """Return a whole object.

    Args:
        store: the store.
        pointer: the object.
        max_bytes: the maximum size; not much more is read.

    Raises:
        ObjectDecodeError: it is larger.
        StorageError: raised by the store.
    """
    data = store.read(pointer, 0, max_bytes + 1)
    if len(data) > max_bytes:
        raise ObjectDecodeError(
            f"{pointer} is too large: it has more than {max_bytes:,} bytes. A fork's chunks write less, so "
            "something else has replaced it. Clear the fork to write it again."
        )
    return data
