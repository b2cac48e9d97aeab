"""The labels of a chunk's items, stored compressed beside its results, so that items are found by label."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from airflow_allma.distributed.chunk_layout import ChunkFile
from airflow_allma.engine import CompiledFork, own_label
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.exceptions import ObjectNotFoundError
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.object_store import ObjectStore

__all__ = ["ItemLabels"]

_GZIP: Final = 16 + zlib.MAX_WBITS
_LEVEL: Final = 1
_TYPE: Final = "application/gzip"
_PIECE: Final = 16 << 10
"""Compressed bytes that are unpacked at once: a chunk can have millions of labels."""


class ItemLabels:
    """Collects labels while a chunk's items are read: one line each, empty for an item without one.

    Memory holds them compressed. A process that reads no items, since it only continues some, uses those that
    an earlier one has stored.

    Args:
        store: the store of the location.
        chunk: the chunk's own folder.
        fork: the fork, which names its items.
        masks: the secrets that the process knows; an item can have one in its name.
    """

    def __init__(
        self, store: ObjectStore, chunk: OffloadLocation, fork: CompiledFork, masks: SecretMasks
    ) -> None:
        self._store = store
        self._masks = masks
        self._pointer = ChunkFile.LABELS.pointer(chunk)
        self._fork = fork
        self._packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
        self._packed: list[bytes] = []
        self._unnamed = 0
        self._has_labels = False
        self._has_read = False
        self._saved: bytes | None = None

    def add(self, batch: Sequence[tuple[int, Any]]) -> None:
        """Add the items that follow.

        Args:
            batch: pairs of an index and an item; the indexes do not matter.
        """
        self._has_read = True
        labels = self._labels(batch)
        if labels is None:
            self._unnamed += len(batch)
            return
        self._has_labels = True
        text = "\n" * self._unnamed + "\n".join(labels) + "\n"
        self._unnamed = 0
        self._packed.append(self._packer.compress(text.encode()))

    def _labels(self, batch: Sequence[tuple[int, Any]]) -> list[str] | None:
        """Return a label for each item; None if no item has one."""
        fork = self._fork
        if (
            fork.label_path is None
            and fork.batcher is None
            and not [
                True
                for _, item in batch
                if item.__class__ is dict and ("id" in item or "name" in item or "key" in item)
            ]
        ):
            return None
        labels = [own_label(fork, item) or "" for _, item in batch]
        return labels if any(labels) else None

    def save(self) -> None:
        """Store the labels, if there are any and all items have been read.

        Raises:
            StorageError: raised by the store.
        """
        if self._has_labels and self._saved is None:
            self._packed.append(self._packer.compress(b"\n" * self._unnamed))
            self._packed.append(self._packer.flush())
            self._saved = self._masked(b"".join(self._packed))
            self._packed = []
            self._store.write(self._pointer, self._saved, content_type=_TYPE)

    def _masked(self, packed: bytes) -> bytes:
        """Mask secrets, most of which become known only after the items are read."""
        if not self._masks.count:
            return packed
        packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
        found, written = False, []
        for lines in _unpack(packed):
            text = b"\n".join([*lines, b""]).decode()
            masked = self._masks.text(text)
            found = found or masked != text
            written.append(packer.compress(masked.encode()))
        return b"".join([*written, packer.flush()]) if found else packed

    @property
    def are_stored(self) -> bool:
        """Whether labels of the chunk's items are stored.

        Raises:
            StorageError: raised by the store.
        """
        return self._data() is not None

    def read(self) -> Callable[[int], str]:
        """Return what gives an item's label by its index in the chunk; it is empty if the item has none.

        Ask for items in ascending order: memory holds few labels, and an earlier one is found by reading all
        of them again.

        Raises:
            StorageError: raised by the store.
        """
        data = self._data()
        return (lambda _: "") if data is None else _Lookup(data)

    def _data(self) -> bytes | None:
        if not self._has_read and self._saved is None:
            try:
                self._saved = self._store.read(self._pointer)
            except ObjectNotFoundError:
                return None
        return self._saved


class _Lookup:
    """Finds labels by item, a few of which are unpacked at a time."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._restart()

    def _restart(self) -> None:
        self._blocks = _unpack(self._packed)
        self._first, self._lines = 0, list[bytes]()

    def __call__(self, item: int) -> str:
        if item < self._first:
            self._restart()
        while item >= self._first + len(self._lines):
            lines = next(self._blocks, None)
            if lines is None:
                return ""
            self._first += len(self._lines)
            self._lines = lines
        return self._lines[item - self._first].decode()


def _unpack(packed: bytes) -> Iterator[list[bytes]]:
    """Yield the lines of compressed text, some at a time."""
    unpacker = zlib.decompressobj(_GZIP)
    rest = b""
    for start in range(0, len(packed), _PIECE):
        *lines, rest = (rest + unpacker.decompress(packed[start : start + _PIECE])).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]
