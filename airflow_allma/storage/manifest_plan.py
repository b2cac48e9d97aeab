"""Planning a manifest: from the pointer that a flow contains to ranges of JSON Lines."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage.compression import MAX_UNPACK_RATIO, decompressed
from airflow_allma.storage.jsonl import MAX_LINE_BYTES, batch_lines, split_lines
from airflow_allma.storage.manifest_format import ManifestFormat, detect_format, elements_of
from airflow_allma.storage.manifest_ranges import ManifestRange, plan_ranges
from airflow_allma.storage.object_store import JSON_LINES_TYPE, ObjectInfo, ObjectStore, ObjectWriter
from airflow_allma.storage.pointer import Pointer

__all__ = ["ManifestPlan", "plan_manifest"]


@dataclass(frozen=True, slots=True)
class ManifestPlan:
    """A manifest split into ranges.

    Attributes:
        lines: the JSON Lines object that the ranges read: the manifest itself, or its conversion.
        ranges: in order; none for an empty object.
        is_counted_later: whether the ranges stand for more data than ``lines`` has, which only the tasks
            that read them should read.
    """

    lines: ObjectInfo
    ranges: tuple[ManifestRange, ...]
    is_counted_later: bool = False


def plan_manifest(
    store: ObjectStore,
    pointer: Pointer,
    *,
    range_bytes: int,
    max_ranges: int,
    spool_to: Pointer | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
    max_unpack_ratio: int = MAX_UNPACK_RATIO,
    known: tuple[ObjectInfo, ManifestFormat] | None = None,
) -> ManifestPlan:
    """Split a manifest into ranges, pinned to its present content.

    JSON Lines cost one HEAD and one read of the first 64 KiB, whatever their size. Compressed objects and
    JSON arrays cannot be split by bytes: they are read once and written as JSON Lines first.

    Args:
        store: holds the manifest and ``spool_to``.
        pointer: the manifest.
        range_bytes: the size to aim for.
        max_ranges: the maximum number of ranges; if it is too low, they are larger.
        spool_to: where to write JSON Lines if the manifest has another format; None: nowhere.
        max_line_bytes: the longest line or element that is accepted while spooling.
        max_unpack_ratio: how many bytes a compressed byte may unpack to; 0 means no limit.
        known: what ``detect_format`` returned, if it has been called.

    Raises:
        StorageConfigurationError: the manifest must be spooled and ``spool_to`` is None.
        ObjectDecodeError: it is not validly compressed, unpacks to too much, or is not a valid JSON array.
        StorageError: the store's own.
    """
    lines, source_format = known or detect_format(store, pointer)
    if not source_format.is_splittable:
        if spool_to is None:
            raise StorageConfigurationError(
                f"{pointer} is {source_format}, which must be converted to JSON Lines before it can be "
                "split. Set offload_location to a location for the result, or use JSON Lines."
            )
        lines = _spool(
            store,
            lines,
            source_format,
            spool_to,
            max_line_bytes=max_line_bytes,
            max_unpack_ratio=max_unpack_ratio,
        )
    ranges = plan_ranges(lines.size, range_bytes, max_ranges)
    return ManifestPlan(
        lines,
        tuple(
            ManifestRange(number, lines.pointer, lines.etag, lines.size, byte_range)
            for number, byte_range in enumerate(ranges)
        ),
    )


def _spool(
    store: ObjectStore,
    source: ObjectInfo,
    source_format: ManifestFormat,
    destination: Pointer,
    *,
    max_line_bytes: int,
    max_unpack_ratio: int,
) -> ObjectInfo:
    """Write an object's lines or elements as JSON Lines, in one pass, with memory for one block and one line.

    Values are copied unchanged: an invalid one fails where its line is decoded. Lines keep their numbers,
    since blank ones are copied too.
    """
    name = str(source.pointer)
    with (
        closing(store.stream(source.pointer, if_match=source.etag)) as blocks,
        store.open_writer(destination, content_type=JSON_LINES_TYPE) as writer,
    ):
        plain = decompressed(blocks, name, source_format.compression, max_ratio=max_unpack_ratio)
        if source_format.is_array:
            for batch in batch_lines(elements_of(plain, source_format, name, max_line_bytes)):
                writer.write(b"\n".join([*batch.lines, b""]))
        else:
            # Splitting finds lines that are too long here, where all of them are read anyway.
            for _ in split_lines(_copied(plain, writer), max_line_bytes=max_line_bytes, source=name):
                pass
    return writer.info


def _copied(blocks: Iterable[bytes], writer: ObjectWriter) -> Generator[bytes, None, None]:
    for block in blocks:
        writer.write(block)
        yield block
