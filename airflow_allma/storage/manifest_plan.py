"""From the pointer that a flow gives to a plan of chunks."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage.base import JSON_LINES_TYPE, ObjectInfo, ObjectStore, ObjectWriter
from airflow_allma.storage.content_types import ContentKind, kind_of
from airflow_allma.storage.decoding import BOM, try_decode
from airflow_allma.storage.gunzip import gunzip, gunzip_start, is_gzip
from airflow_allma.storage.json_array import array_elements
from airflow_allma.storage.jsonl import MAX_LINE_BYTES, batch_lines, split_lines
from airflow_allma.storage.manifest_ranges import ManifestFormat, ManifestPlan, plan_chunks
from airflow_allma.storage.pointers import Pointer

__all__ = ["SpooledLines", "detect_format", "plan_manifest", "spool_lines"]

_START_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class SpooledLines:
    """JSON Lines that were made of something else.

    Attributes:
        info: the object as written.
        line_count: its lines.
    """

    info: ObjectInfo
    line_count: int


def plan_manifest(
    store: ObjectStore,
    pointer: Pointer,
    *,
    chunk_bytes: int,
    max_chunks: int,
    spool_to: Pointer | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> ManifestPlan:
    """Split a manifest into chunks, pinned to the content that it has now.

    JSON Lines cost one HEAD and one read of the first 64 KiB, whatever their size. gzip and JSON arrays
    cannot be cut by bytes: they are read once and written as JSON Lines first.

    Args:
        store: where the manifest lies, and where to spool.
        pointer: the manifest.
        chunk_bytes: aim for one chunk.
        max_chunks: most chunks; they grow instead.
        spool_to: where to write JSON Lines, if need be; None when there is no such place.
        max_line_bytes: the longest line or element that is accepted while spooling.

    Raises:
        StorageConfigurationError: it needs to be spooled and there is no place.
        ObjectDecodeError: it is broken gzip, or no sound JSON array.
        StorageError: the store's own.
    """
    info, found = detect_format(store, pointer)
    count = None
    lines = info
    if found is not ManifestFormat.JSON_LINES:
        if spool_to is None:
            raise StorageConfigurationError(
                f"{pointer} holds {found.value}, which has to become JSON Lines before it can be split. "
                "Set offload_location to a place for that, or give JSON Lines."
            )
        spooled = spool_lines(store, info, found, spool_to, max_line_bytes=max_line_bytes)
        lines, count = spooled.info, spooled.line_count
    return ManifestPlan(
        source=info.pointer,
        format=found,
        pointer=lines.pointer,
        etag=lines.etag,
        size=lines.size,
        ranges=tuple(plan_chunks(lines.size, chunk_bytes, max_chunks)),
        line_count=count,
    )


def detect_format(store: ObjectStore, pointer: Pointer) -> tuple[ObjectInfo, ManifestFormat]:
    """What a manifest holds, by its first bytes, and by its name or type where they could mean both.

    Text that begins with ``[`` is one array, unless its first line is a whole value and others follow, or
    unless it is named or typed as JSON Lines and its first line is not broken off.

    Raises:
        StorageError: the store's own.
    """
    info = store.head(pointer)
    start = store.read(info.pointer, 0, _START_BYTES, if_match=info.etag)
    packed = is_gzip(start)
    if packed:
        start = gunzip_start(start)
    named_lines = kind_of(pointer.key, info.content_type) is ContentKind.JSON_LINES
    return info, _FORMATS[_is_array(start, named_lines=named_lines), packed]


_FORMATS: Final = {
    (False, False): ManifestFormat.JSON_LINES,
    (True, False): ManifestFormat.JSON_ARRAY,
    (False, True): ManifestFormat.GZIP_JSON_LINES,
    (True, True): ManifestFormat.GZIP_JSON_ARRAY,
}


def _is_array(start: bytes, *, named_lines: bool) -> bool:
    text = start.removeprefix(BOM).lstrip(b" \t\r\n")
    if not text.startswith(b"["):
        return False
    first, newline, others = text.partition(b"\n")
    is_value, _ = try_decode(first)
    if is_value:
        return not (named_lines or others.strip())
    return bool(newline) or not named_lines


def spool_lines(
    store: ObjectStore,
    source: ObjectInfo,
    source_format: ManifestFormat,
    destination: Pointer,
    *,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> SpooledLines:
    """Write an object's lines or elements as JSON Lines, in one pass, with memory for one block and one line.

    Values are copied as they are: one that is not sound JSON is for whoever decodes its line. Lines keep
    their numbers, for blank ones are copied too.

    Raises:
        ObjectChangedError: the source is not the one that ``source`` tells of any more.
        ObjectDecodeError: broken gzip, no sound array, or a line that is too long.
        StorageError: the store's own.
    """
    name = str(source.pointer)
    count = 0
    with (
        closing(store.stream(source.pointer, if_match=source.etag)) as blocks,
        store.open_writer(destination, content_type=JSON_LINES_TYPE) as writer,
    ):
        plain = gunzip(blocks, name) if source_format.is_gzipped else blocks
        if source_format.is_array:
            elements = array_elements(plain, max_element_bytes=max_line_bytes, source=name)
            for batch in batch_lines(elements):
                count += len(batch.lines)
                writer.write(b"\n".join([*batch.lines, b""]))
        else:
            copied = _copied(plain, writer)
            for batch in split_lines(copied, max_line_bytes=max_line_bytes, source=name):
                count += len(batch.lines)
    return SpooledLines(writer.info, count)


def _copied(blocks: Iterable[bytes], writer: ObjectWriter) -> Generator[bytes, None, None]:
    for block in blocks:
        writer.write(block)
        yield block
