"""The plain bytes of CSV: decompressed, and in UTF-8 where records cannot be found in another encoding."""

from __future__ import annotations

import codecs
from collections.abc import Generator, Iterable
from typing import Final

from airflow_allma.engine.readers.csv_form import CsvForm
from airflow_allma.engine.readers.csv_records import MARK_BAD_BYTES
from airflow_allma.engine.readers.format_reader import Source
from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.storage import ObjectInfo, ObjectStore, Pointer
from airflow_allma.storage.compression import decompressed

__all__ = ["is_plain", "plain_blocks", "spool"]

_CSV_TYPE: Final = "text/csv"


def is_plain(source: Source, form: CsvForm) -> bool:
    """Return whether an object's own bytes can be split and read."""
    return source.compression is None and form.has_plain_bytes


def plain_blocks(
    blocks: Iterable[bytes], source: Source, form: CsvForm, max_unpack_ratio: int
) -> Iterable[bytes]:
    """Return the plain bytes of an object; its blocks themselves, if they are plain.

    Args:
        blocks: the bytes as stored.
        source: how they are compressed, and the name of the object in errors.
        form: how they are encoded.
        max_unpack_ratio: how many bytes a compressed byte may unpack to; 0 means no limit.

    Raises:
        ObjectDecodeError: they are not validly compressed, or unpack to too much.
    """
    name = str(source.pointer)
    plain = decompressed(blocks, name, source.compression, max_ratio=max_unpack_ratio)
    return plain if form.has_plain_bytes else _in_utf_8(plain, form.encoding, name)


def _in_utf_8(blocks: Iterable[bytes], encoding: str, name: str) -> Generator[bytes, None, None]:
    decoder = codecs.getincrementaldecoder(encoding)(MARK_BAD_BYTES)
    for block in blocks:
        if text := _decoded(decoder, block, name, encoding):
            # What is not valid becomes bytes that are not valid either: only their rows fail.
            yield text.encode("utf-8", "surrogatepass")
    if text := decoder.decode(b"", final=True):
        yield text.encode("utf-8", "surrogatepass")


def _decoded(decoder: codecs.IncrementalDecoder, block: bytes, name: str, encoding: str) -> str:
    try:
        return decoder.decode(block)
    except UnicodeError as error:
        # Not about single bytes, which become marks: a byte order mark is missing, for example.
        raise ObjectDecodeError(
            f"{name} is not valid {encoding}: {error}. Set itemReader.csv.encoding to the encoding of the "
            "file, such as utf-16-le or utf-32-le if it has no byte order mark."
        ) from error


def spool(store: ObjectStore, blocks: Iterable[bytes], destination: Pointer) -> ObjectInfo:
    """Write blocks as an object.

    Raises:
        StorageError: it cannot be written, or the blocks cannot be read.
    """
    with store.open_writer(destination, content_type=_CSV_TYPE) as writer:
        for block in blocks:
            writer.write(block)
    return writer.info
