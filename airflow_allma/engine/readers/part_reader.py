"""Reading the items of files, and of parts of large ones, one after another."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.items import ItemError
from airflow_allma.engine.readers.file_parts import FilePart, ListedFile, is_of_one_file, open_file
from airflow_allma.engine.readers.format_reader import ItemBatch, ItemPlace, ReaderOf, range_format
from airflow_allma.engine.readers.known_parts import KnownParts
from airflow_allma.engine.readers.ordered_calls import ordered_calls
from airflow_allma.exceptions import ObjectChangedError, ObjectNotFoundError, StorageError
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import ManifestRange, MemoryStore, ObjectStore, Pointer
from airflow_allma.storage.compression import MAX_UNPACK_RATIO

__all__ = ["PartReader"]

_MAX_HELD_BYTES: Final = 1 << 20
"""Files up to this size are read as a whole, some ahead of their turn: each costs one request."""
_PLACES: Final = {"byteOffset": "byte", "rowNumber": "row"}


class _HeldPart(NamedTuple):
    """A part, and what has been read of it.

    Attributes:
        part: the part.
        store: has the content of a small file; None: it has not been read.
        file: the file in ``store``.
        error: why it could not be read.
    """

    part: FilePart
    store: ObjectStore | None = None
    file: ListedFile | None = None
    error: StorageError | None = None


class PartReader:
    """Reads parts of files.

    Args:
        store: holds the files.
        reader_of: finds the readers of the files.
        options: how each of them is read.
        encoded_field: the field of the items whose value is percent-encoded; empty: none.
        max_unpack_ratio: how many bytes a compressed byte may unpack to; 0 means no limit.
    """

    def __init__(
        self,
        store: ObjectStore,
        reader_of: ReaderOf,
        options: ItemReader,
        encoded_field: str,
        max_unpack_ratio: int,
    ) -> None:
        self._store = store
        self._reader_of = reader_of
        self._options = options
        self._encoded_field = encoded_field
        self._max_unpack_ratio = max_unpack_ratio

    @classmethod
    def of(cls, store: ObjectStore, reader_of: ReaderOf, lines: ManifestRange) -> PartReader:
        """Return what reads the parts of a planned range."""
        reader = lines.reader or {}
        options = ItemReader.model_validate(reader.get("options", {}))
        ratio = reader.get("maxUnpackRatio", MAX_UNPACK_RATIO)
        return cls(store, reader_of, options, reader.get("encodedField", ""), ratio)

    def batches(self, parts: Iterable[FilePart], known: KnownParts | None = None) -> Iterator[ItemBatch]:
        """Yield the items of parts, counted and with offsets over all of them.

        Small files are read ahead, several at a time.

        Args:
            parts: in order.
            known: learns the formats that whole files turn out to have.

        Raises:
            StorageError: it is not about one file.
        """
        first, last = 0, -1
        with closing(ordered_calls(self._hold, parts, _is_not_held)) as held_parts:
            for held in held_parts:
                part = held.part
                try:
                    with closing(self._batches(held, known)) as batches:
                        for _, offsets, items in batches:
                            shifted = [part.begin + min(offset, part.span - 1) for offset in offsets]
                            decoded = list(map(self.decoded, items)) if self._encoded_field else items
                            yield ItemBatch(first, shifted, decoded)
                            first, last = first + len(items), shifted[-1]
                except StorageError as error:
                    if not is_of_one_file(error):
                        raise
                    last = max(part.begin, last + 1)
                    yield ItemBatch(first, [last], [_failed(part, error)])
                    first += 1

    def _hold(self, part: FilePart) -> _HeldPart:
        """Read a small file as a whole."""
        if _is_not_held(part):
            return _HeldPart(part)
        # Its name is the same in errors, but for the version.
        pointer = Pointer(part.lines.pointer.bucket, part.lines.pointer.key)
        try:
            data = self._store.read(part.lines.pointer, if_match=part.lines.etag)
        except StorageError as error:
            return _HeldPart(part, error=error)
        store = MemoryStore()
        info = store.write(pointer, data)
        return _HeldPart(part, store, ListedFile(pointer, len(data), info.etag))

    def _batches(self, held: _HeldPart, known: KnownParts | None) -> Generator[ItemBatch, None, None]:
        part = held.part
        if held.error is not None:
            raise held.error
        if not part.is_whole:
            yield from self._reader_of(range_format(part.lines)).batches(self._store, part.lines)
            return
        store = held.store or self._store
        file = held.file or ListedFile(part.lines.pointer, part.lines.size, part.lines.etag)
        source, found = open_file(store, file, self._options)
        if known is not None:
            known.note_format(part, found)
        reader = self._reader_of(found)
        yield from reader.stream(store, source, max_unpack_ratio=self._max_unpack_ratio)

    def find(self, part: FilePart, offset: int) -> ItemPlace | None:
        """Return an item of a file that is read as a stream."""
        known = KnownParts([part])
        with closing(self._batches(_HeldPart(part), known)) as batches:
            for _, offsets, items in batches:
                if offset in offsets:
                    _, name = known.at(part.begin) or (part, None)
                    details = self._reader_of(str(name)).details(part.lines, offset)
                    place = {_PLACES[key]: value for key, value in details.items() if key in _PLACES}
                    value = self.decoded(items[offsets.index(offset)])
                    return ItemPlace(value, {"pointer": part.lines.pointer.uri, **place})
                if offsets[-1] > offset:
                    return None
        return None

    def decoded(self, item: Any) -> Any:
        """Return an item with its percent-encoded field decoded."""
        field = self._encoded_field
        if field and isinstance(item, dict) and isinstance(item.get(field), str):
            # As forms encode: a space is a plus, and a plus is %2B.
            item[field] = unquote_plus(item[field])
        return item


def _is_not_held(part: FilePart) -> bool:
    return not part.is_whole or not part.lines.etag or part.lines.size > _MAX_HELD_BYTES


def _failed(part: FilePart, error: StorageError) -> ItemError:
    message = str(error)
    if isinstance(error, ObjectNotFoundError | ObjectChangedError):
        message += " It was there when the fork was planned, or a manifest lists it; plan the fork again."
    details = {"object": part.lines.pointer.uri}
    return ItemError(step_error_from(type(error)(message), details=details))
