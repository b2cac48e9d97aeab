"""The single objects beside a chunk's results: index, summary, failures, labels, traces; kept in a cache."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Final, TypeVar

import msgspec

from airflow_allma.common.lazy_property import lazy_property
from airflow_allma.distributed.bounded_read import read_bounded
from airflow_allma.distributed.chunk_layout import ChunkFile
from airflow_allma.distributed.result_format import ChunkSummary, decode_object
from airflow_allma.distributed.result_index import ChunkIndex, FailureLine
from airflow_allma.exceptions import ObjectDecodeError, ObjectNotFoundError
from airflow_allma.inspection.chunk_files import ChunkFiles, ChunkListing, StoredPart
from airflow_allma.inspection.fork_view import ForkView
from airflow_allma.inspection.result_lookup import BLOCK_BYTES, byte_jobs
from airflow_allma.inspection.stored_lines import scan_lines
from airflow_allma.storage.compression import decompress

__all__ = ["ENTRY_BYTES", "ChunkObjects"]

_T = TypeVar("_T")

ENTRY_BYTES: Final = 600
"""About what a listed failure takes in memory."""
_MAX_LABEL_BYTES: Final = 64 << 20

_decode_failure = msgspec.json.Decoder(FailureLine).decode


class _TraceHead(msgspec.Struct, frozen=True):
    item: int


class ChunkObjects:
    """Reads the objects in the folder of one chunk.

    The index of a chunk that has handed on its results is trusted. Otherwise the folder is listed: an index
    that is there can be that of an earlier try, and then it does not know all parts.

    Args:
        view: the fork.
        number: the chunk.
        list_folder: returns what is in the chunk's folder.
    """

    def __init__(self, view: ForkView, number: int, list_folder: Callable[[int], ChunkListing]) -> None:
        self._number = number
        self._store = view.store
        self._cache = view.cache
        self._state = view.state(number)
        self._folder = view.folder(number)
        self._list_folder = list_folder

    @lazy_property
    def files(self) -> ChunkFiles:
        """The results and traces that are stored.

        Raises:
            StorageError: raised by the store.
        """
        folder = self._folder
        if folder is None:
            return ChunkFiles()
        if self._state.handed_on is not None and (index := self._index(self._state.version)) is not None:
            return ChunkFiles.of_index(index, folder)
        etag = self._listing.etags.get(ChunkFile.INDEX)
        index = None if etag is None else self._index(etag)
        return ChunkFiles.of_listing(self._listing, index, folder)

    def has_at_hand(self, name: ChunkFile) -> bool:
        """Return whether an object of a chunk that has handed on its results was read before and is kept."""
        folder, version = self._folder, self._state.version
        if folder is None or self._state.handed_on is None or not version:
            return folder is None
        return self._cache.has((name.pointer(folder), version))

    @lazy_property
    def _listing(self) -> ChunkListing:
        return self._list_folder(self._number)

    def _index(self, version: str) -> ChunkIndex | None:
        return self._read_if_there(ChunkFile.INDEX, version, ChunkIndex)

    def summary(self) -> ChunkSummary | None:
        """Return the summary of a chunk without an index; None if there is none.

        Raises:
            StorageError: raised by the store.
        """
        etag = self._listing.etags.get(ChunkFile.SUMMARY)
        return None if etag is None else self._read_if_there(ChunkFile.SUMMARY, etag, ChunkSummary)

    def failures(self) -> list[FailureLine]:
        """Return the failures that the index lists.

        Raises:
            StorageError: raised by the store.
        """

        def decode(data: bytes) -> tuple[list[FailureLine], int]:
            try:
                entries = [_decode_failure(line) for line in data.splitlines()]
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise self._invalid(ChunkFile.FAILURES, error) from error
            return entries, len(entries) * ENTRY_BYTES

        return self._read_with_index(ChunkFile.FAILURES, decode)

    def labels(self) -> bytes:
        """Return the labels that are stored, one line for each item.

        Raises:
            StorageError: raised by the store.
        """

        def decode(data: bytes) -> tuple[bytes, int]:
            plain = bytearray()
            for block in decompress([data], f"{ChunkFile.LABELS} of chunk {self._number}"):
                plain += block
                if len(plain) > _MAX_LABEL_BYTES:
                    raise ObjectDecodeError(
                        f"The labels of chunk {self._number} are more than {_MAX_LABEL_BYTES} bytes."
                    )
            return bytes(plain), len(plain)

        return self._read_with_index(ChunkFile.LABELS, decode)

    def traces(self, item: int) -> list[bytes]:
        """Return the trace lines of an item, in the order in which they were written.

        Raises:
            StorageError: raised by the store.
        """
        found: list[bytes] = []
        for part, start, end, _ in byte_jobs(self.files.traces, (item,)):
            found += self._traces(part, start, end, item)
        return found

    def _traces(self, part: StoredPart, start: int, end: int, item: int) -> list[bytes]:
        found = []
        with closing(self._store.stream(part.pointer, start, end, block_bytes=BLOCK_BYTES)) as blocks:
            for raw in scan_lines(blocks, start):
                try:
                    number = msgspec.json.decode(raw.data, type=_TraceHead).item
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise self._invalid(part.pointer.key.rpartition("/")[2], error) from error
                if number > item:
                    break
                if number == item:
                    found.append(raw.data)
        return found

    def _read_if_there(self, name: ChunkFile, version: str, kind: type[_T]) -> _T | None:
        """Return a JSON object of the chunk's folder; None if there is none, which is kept as well."""

        def decode(data: bytes) -> tuple[_T | None, int]:
            problem = f"{name} of chunk {self._number} cannot be read"
            return decode_object(data, kind, problem), 4 * len(data)

        return self._read(name, version, decode, absent=(None, 100))

    def _read_with_index(self, name: ChunkFile, decode: Callable[[bytes], tuple[_T, int]]) -> _T:
        """Return an object that was written with the index."""
        version = self._state.version if self._state.handed_on is not None else self._listing.etags.get(name)
        return self._read(name, version or "", decode)

    def _read(
        self,
        name: ChunkFile,
        version: str,
        decode: Callable[[bytes], tuple[_T, int]],
        absent: tuple[_T, int] | None = None,
    ) -> _T:
        """Return a decoded object of the chunk's folder, or ``absent``.

        Raises:
            ObjectDecodeError: it is larger than what a chunk writes, or something else.
            ObjectNotFoundError: there is none, and no ``absent``.
        """
        folder = self._folder
        if folder is None:
            raise ObjectNotFoundError(f"The results of chunk {self._number} are not stored.")
        pointer = name.pointer(folder)

        def read() -> tuple[_T, int]:
            try:
                return decode(read_bounded(self._store, pointer))
            except ObjectNotFoundError:
                if absent is None:
                    raise
                return absent

        return self._cache.get((pointer, version), read) if version else read()[0]

    def _invalid(self, name: str, error: Exception) -> ObjectDecodeError:
        return ObjectDecodeError(f"{name} of chunk {self._number} cannot be read: {error}.")
