"""What a reader of one format does, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from airflow_allma.engine.readers.read_estimate import ReadEstimate
from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.flow.steps.item_reader import ItemFormat, ItemReader
from airflow_allma.storage import ManifestPlan, ManifestRange, ObjectInfo, ObjectPrefix, ObjectStore, Pointer
from airflow_allma.storage.compression import MAX_UNPACK_RATIO, Compression

__all__ = [
    "MAX_COUNTED_BYTES",
    "FormatReader",
    "ItemBatch",
    "ItemPlace",
    "ReaderOf",
    "Source",
    "Split",
    "Spool",
    "range_format",
]

MAX_COUNTED_BYTES: Final = 16 << 20
"""Objects up to this size are read once at planning, so that chunks can be labelled with their items."""


class ItemBatch(NamedTuple):
    """Consecutive items, as lists of equal length: cheaper than many small objects.

    Attributes:
        first: the index of the first one in its range.
        offsets: where each begins, as its reader counts: in bytes (of a compressed object that was not
            planned: in the decompressed bytes) or, in Parquet, in rows.
        items: the JSON values; an ``ItemError`` for one that cannot be read.
    """

    first: int
    offsets: list[int]
    items: list[Any]


class ItemPlace(NamedTuple):
    """Where an item is, and what it is.

    Attributes:
        value: the item, an ``ItemError`` if it cannot be read.
        where: fields for people and programs, such as ``{"pointer", "byte"}`` or ``{"pointer", "row"}``.
    """

    value: Any
    where: Mapping[str, Any]


Spool = Callable[[str, str], Pointer]
"""Name and ending -> the pointer of an object that planning writes."""


@dataclass(frozen=True, slots=True)
class Split:
    """How a source is to be split.

    Attributes:
        range_bytes: the size of a range to aim for.
        max_ranges: the maximum number of ranges; if it is too low, they are larger.
        spool: where objects are written that planning needs; None: nowhere.
        max_unpack_ratio: how many bytes a compressed byte may unpack to; 0 means no limit.
    """

    range_bytes: int
    max_ranges: int
    spool: Spool | None = None
    max_unpack_ratio: int = MAX_UNPACK_RATIO


@dataclass(frozen=True, slots=True)
class Source:
    """What a fork's pointer names.

    Attributes:
        target: the object; for OBJECTS the prefix.
        options: the fork's ``itemReader``.
        info: the object as it is now; None for a prefix.
        start: its first bytes, decompressed, up to 64 KiB.
        compression: how it is compressed; None if it is not.
    """

    target: Pointer | ObjectPrefix
    options: ItemReader
    info: ObjectInfo | None = None
    start: bytes = b""
    compression: Compression | None = None

    @property
    def pointer(self) -> Pointer:
        """The object.

        Raises:
            StorageConfigurationError: it is a prefix.
        """
        if isinstance(self.target, Pointer):
            return self.target
        raise StorageConfigurationError(f"{self.target} is a prefix. Set itemReader.format to OBJECTS.")

    @property
    def object_info(self) -> ObjectInfo:
        """The object as it is now.

        Raises:
            StorageConfigurationError: it is a prefix.
        """
        # Raises for a prefix; every object has been looked up.
        pointer = self.pointer
        if self.info is None:
            raise StorageConfigurationError(f"{pointer} has not been looked up.")
        return self.info

    @property
    def prefix(self) -> ObjectPrefix:
        """The prefix.

        Raises:
            StorageConfigurationError: it is an object.
        """
        if isinstance(self.target, ObjectPrefix):
            return self.target
        raise StorageConfigurationError(
            f'{self.target} is one object; itemReader.format OBJECTS needs {{"bucket": ..., "prefix": ...}}.'
        )


class FormatReader(Protocol):
    """Plans and reads the items of one format.

    Errors of a whole object are exceptions: subclasses of ``StorageError`` that name the object and, where
    it can be known, the place. One bad item is an ``ItemError`` in the item's place.
    """

    def plan(self, store: ObjectStore, source: Source, split: Split) -> ManifestPlan:
        """Split a source into ranges, pinned to its present content.

        Raises:
            StorageConfigurationError: an object has to be written first, and ``split.spool`` is None.
            StorageError: the source cannot be read.
        """

    def estimate(self, store: ObjectStore, source: Source, split: Split) -> ReadEstimate:
        """Return what ``plan``, and reading what it plans, would cost; writes nothing.

        Reads a footer, the first ten pages of a listing, or a manifest; of other sources nothing beyond what
        ``source`` has.

        Raises:
            StorageError: the source cannot be read.
        """

    def batches(self, store: ObjectStore, lines: ManifestRange) -> Iterator[ItemBatch]:
        """Yield the items of a planned range, in order; no batch is empty.

        Raises:
            StorageError: the source cannot be read, or has changed since it was planned.
        """

    def stream(
        self, store: ObjectStore, source: Source, *, max_unpack_ratio: int = MAX_UNPACK_RATIO
    ) -> Iterator[ItemBatch]:
        """Yield all items without planning: nothing is written.

        Raises:
            StorageError: the source cannot be read.
        """

    def count(self, store: ObjectStore, lines: ManifestRange) -> int:
        """Count the items of a planned range, as ``batches`` would yield them.

        Raises:
            StorageError: the source cannot be read, or has changed since it was planned.
        """

    def details(self, lines: ManifestRange | None, offset: int) -> Mapping[str, Any]:
        """Return where an item is, for the details of its error, such as ``{"byteOffset": 520}``.

        Reads nothing. ``lines`` is the item's range; None: it was streamed by this reader.
        """

    def offset_of(self, store: ObjectStore, lines: ManifestRange, item: int, max_bytes: int) -> int | None:
        """Return the offset of an item by counting; None if more than ``max_bytes`` would have to be read.

        Args:
            store: the store.
            lines: the range.
            item: its number among the items of the range, from 0.
            max_bytes: how much to read.

        Raises:
            StorageError: the source cannot be read, or has changed since it was planned.
        """

    def find(self, store: ObjectStore, lines: ManifestRange, offset: int, max_bytes: int) -> ItemPlace | None:
        """Read one item again, by its offset; None if more than ``max_bytes`` would have to be read.

        Raises:
            StorageError: the source cannot be read, or has changed since it was planned.
        """


ReaderOf = Callable[[str], FormatReader]
"""Format -> its reader."""


def range_format(lines: ManifestRange) -> str:
    """Return the format of a planned range."""
    return str((lines.reader or {}).get("format", ItemFormat.JSONL.value))
