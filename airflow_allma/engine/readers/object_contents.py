"""Loading the contents of listed objects, several at a time and in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, decode_json
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.items import ItemError
from airflow_allma.engine.readers.format_reader import ItemBatch
from airflow_allma.exceptions import (
    ObjectChangedError,
    ObjectDecodeError,
    ObjectNotFoundError,
    StorageConfigurationError,
    StorageError,
    StorageUnavailableError,
)
from airflow_allma.flow.steps.item_reader import ObjectRead
from airflow_allma.storage import ObjectStore, Pointer
from airflow_allma.storage.compression import compression_of, decompress
from airflow_allma.storage.decoding import BOM

__all__ = ["MAX_OBJECT_BYTES", "LoadedItem", "add_contents", "load_item"]

MAX_OBJECT_BYTES: Final = 16 << 20
"""Larger objects are not loaded, counted after decompression: the limit of a line of JSON Lines, too."""

_THREADS: Final = 16
_MAX_BYTES: Final = 64 << 20
"""Bytes of contents that are loaded and not yet passed on."""
_MAX_BATCH: Final = 256


class LoadedItem(NamedTuple):
    """An item with its content.

    Attributes:
        item: the JSON value; an ``ItemError`` if it cannot be read.
        size: bytes of its content, decompressed.
    """

    item: Any
    size: int


def add_contents(
    store: ObjectStore, batches: Iterable[ItemBatch], read: ObjectRead, *, max_unpack_ratio: int
) -> Generator[ItemBatch, None, None]:
    """Yield listed objects with their contents, in order.

    Several are loaded at a time, in threads: a bounded number with a bounded number of bytes. Close the
    generator if it is not exhausted.

    Args:
        store: holds the objects.
        batches: the listed objects.
        read: what is read.
        max_unpack_ratio: how many bytes a compressed byte may unpack to; 0 means no limit.

    Raises:
        StorageUnavailableError: the store did not respond.
        StorageConfigurationError: credentials or a package are missing.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="allma-objects")
    window = _Window()
    try:
        for first, offsets, items in batches:
            for number, (offset, item) in enumerate(zip(offsets, items, strict=True), first):
                weight = min(item["size"], MAX_OBJECT_BYTES) if isinstance(item, dict) else 0
                while window.is_full(weight):
                    yield window.take()
                future = pool.submit(_load, store, item, read, max_unpack_ratio)
                window.waiting.append(_Pending(number, offset, future, weight))
        while window.waiting:
            yield window.take()
    finally:
        pool.shutdown(cancel_futures=True)


class _Pending(NamedTuple):
    number: int
    offset: int
    future: Future[LoadedItem]
    weight: int

    def bytes(self) -> int:
        """Return how much memory it takes: a compressed object is larger once it is loaded."""
        if not self.future.done() or self.future.exception() is not None:
            return self.weight
        return self.future.result().size


@dataclass(slots=True)
class _Window:
    """The objects that are being loaded or wait for their turn, in order."""

    waiting: deque[_Pending]

    def __init__(self) -> None:
        self.waiting = deque()

    def is_full(self, weight: int) -> bool:
        """Return whether another object must wait until the first one has been passed on."""
        waiting = self.waiting
        if len(waiting) >= 2 * _THREADS:
            return True
        return bool(waiting) and sum(pending.bytes() for pending in waiting) + weight > _MAX_BYTES

    def take(self) -> ItemBatch:
        """Wait for the first object; return it with those after it that are loaded, too."""
        head = self.waiting.popleft()
        offsets, items = [head.offset], [head.future.result().item]
        while self.waiting and self.waiting[0].future.done() and len(items) < _MAX_BATCH:
            pending = self.waiting.popleft()
            offsets.append(pending.offset)
            items.append(pending.future.result().item)
        return ItemBatch(head.number, offsets, items)


def _load(store: ObjectStore, item: Any, read: ObjectRead, max_unpack_ratio: int) -> LoadedItem:
    if not isinstance(item, dict):
        return LoadedItem(item, 0)
    return load_item(store, item, read, max_unpack_ratio=max_unpack_ratio)


def load_item(
    store: ObjectStore, item: dict[str, Any], read: ObjectRead, *, max_unpack_ratio: int
) -> LoadedItem:
    """Return a listed object with its ``content``.

    Raises:
        StorageUnavailableError: the store did not respond.
        StorageConfigurationError: credentials or a package are missing.
    """
    pointer = Pointer(item["bucket"], item["key"])
    try:
        data = _content(store, pointer, item, max_unpack_ratio)
        content: Any = _text(data, pointer) if read is ObjectRead.TEXT else _json(data, pointer)
    except (StorageUnavailableError, StorageConfigurationError):
        # Not about this object.
        raise
    except StorageError as error:
        details = {"object": pointer.uri}
        return LoadedItem(ItemError(step_error_from(_with_cure(error), details=details)), 0)
    return LoadedItem({**item, "content": content}, len(data))


def _content(store: ObjectStore, pointer: Pointer, item: dict[str, Any], max_unpack_ratio: int) -> bytes:
    if item["size"] > MAX_OBJECT_BYTES:
        raise _too_large(pointer)
    data = store.read(pointer, if_match=item["etag"])
    compression = compression_of(data)
    if compression is None:
        return data
    plain = bytearray()
    for block in decompress([data], str(pointer), compression, max_ratio=max_unpack_ratio):
        plain += block
        if len(plain) > MAX_OBJECT_BYTES:
            raise _too_large(pointer)
    return bytes(plain)


def _too_large(pointer: Pointer) -> ObjectDecodeError:
    return ObjectDecodeError(
        f"{pointer} has more than {MAX_OBJECT_BYTES >> 20} MiB, the most that can be in an item. Remove "
        "itemReader.read, so that the item only names the object, or use LINES if it is JSON Lines."
    )


def _json(data: bytes, pointer: Pointer) -> Any:
    try:
        return decode_json(data.removeprefix(BOM))
    except NotJsonError as error:
        raise ObjectDecodeError(
            f"{pointer} is not JSON: {error.reason}. Correct the object, or set itemReader.read to TEXT, or "
            "to LINES if it is JSON Lines."
        ) from error
    except UnreadableJsonError as error:
        raise ObjectDecodeError(f"{pointer} is JSON that cannot be read: {error.reason}.") from error


def _text(data: bytes, pointer: Pointer) -> str:
    try:
        return data.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise ObjectDecodeError(
            f"{pointer} is not text in UTF-8: byte {error.start} is invalid. Convert the object, or remove "
            "itemReader.read, so that the item only names it."
        ) from error


def _with_cure(error: StorageError) -> StorageError:
    if isinstance(error, ObjectNotFoundError | ObjectChangedError):
        return type(error)(f"{error} It was listed when the fork was planned; plan it again to list it anew.")
    return error
