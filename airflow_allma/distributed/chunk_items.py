"""The items of a fork in chunks, for the files of its ``resultWriter``: read from what the chunks stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import UNSET

from airflow_allma.distributed.chunk_plan import ChunkSpec
from airflow_allma.distributed.item_labels import ItemLabels
from airflow_allma.engine import CompiledFork, ForkItems, RunInfo, Services
from airflow_allma.engine.item_facts import ItemFacts, ListedItems
from airflow_allma.engine.readers import reader_of
from airflow_allma.engine.result_files import ResultFiles, result_files
from airflow_allma.storage import ManifestRange, ObjectPrefix, OffloadLocation, Pointer

__all__ = ["ChunkItems", "item_facts", "open_result_files"]


class ChunkItems(ItemFacts):
    """The items of an object, while the results of its chunks are read, one chunk after the other.

    Without an offload location nothing is known about items but what their errors say.

    Args:
        fork: the fork.
        services: the store, and the secrets that the process knows.
        source: the object; its items can have been copied to another one before they were split.
    """

    def __init__(self, fork: CompiledFork, services: Services, source: Pointer | ObjectPrefix | None) -> None:
        self._fork = fork
        self._services = services
        self._source = source
        self._first = 0
        self._lines: ManifestRange | None = None
        self._copy: dict[str, Any] = {}
        self._details: Callable[[ManifestRange, int], Mapping[str, Any]] | None = None
        self._label_of: Callable[[int], str] | None = None
        # As many as the reader is ahead.
        self._offsets: dict[int, int] = {}

    def begin(self, chunk: ChunkSpec, first: int, folder: OffloadLocation | None) -> None:
        """Go on to another chunk.

        Args:
            chunk: the chunk.
            first: index of its first item among all items.
            folder: where its results are stored; None if they are not.

        Raises:
            StorageError: the labels of its items cannot be read.
        """
        self._first, self._lines, self._label_of, self._details = first, chunk.manifest, None, None
        self._offsets.clear()
        if chunk.manifest is not None:
            self._details = reader_of(chunk.manifest).details
            uri = chunk.manifest.pointer.uri
            is_copy = self._source is None or uri != self._source.uri
            self._copy = {"object": uri} if is_copy else {}
        if folder is not None and self._services.store is not None:
            masks = self._services.secrets.masks
            self._label_of = ItemLabels(self._services.store, folder, self._fork, masks).read()

    def note(self, index: int, offset: int) -> None:
        """Remember where an item is until its results have been passed on."""
        self._offsets[index] = offset

    def enter(self, index: int) -> None:
        """Go on to another item."""
        self.label = (self._label_of and self._label_of(index - self._first)) or UNSET
        offset = self._offsets.pop(index, None)
        if offset is None or self._lines is None or self._details is None:
            self.place = UNSET
            return
        place = self._details(self._lines, offset)
        self.place = {**self._copy, **place} if self._copy else place


def item_facts(fork: CompiledFork, items: ForkItems, services: Services) -> ItemFacts:
    """Return what is known about the items of a fork, which run in chunks or in tasks of their own."""
    if items.values is not None:
        return ListedItems(fork, items.values, services.secrets.masks)
    return ChunkItems(fork, services, items.pointer)


def open_result_files(
    fork: CompiledFork, info: RunInfo, services: Services, items: ForkItems
) -> tuple[ResultFiles | None, ChunkItems | None]:
    """Return what writes the files of a fork, and what ``ChunkResults`` tells about the items of an object.

    Raises:
        StorageConfigurationError: no store is configured, or the location is not valid.
    """
    facts = item_facts(fork, items, services)
    files = result_files(fork, info, services, facts, items.pointer)
    return files, facts if isinstance(facts, ChunkItems) else None
