"""Decompressing gzip as a stream."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable
from typing import Final

from airflow_allma.exceptions import ObjectDecodeError

__all__ = ["decompress", "decompress_start", "is_gzip"]

_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_OUTPUT_BYTES: Final = 1 << 20


def is_gzip(start: bytes) -> bool:
    """Return whether an object's first bytes are those of gzip.

    Names and headers do not count: HTTP clients and stores decompress bodies and keep the header.
    """
    return start.startswith(_MAGIC)


def decompress_start(start: bytes) -> bytes:
    """Decompress the first bytes of a gzip object as far as possible; invalid ones result in ``b""``."""
    try:
        return zlib.decompressobj(_GZIP_WINDOW).decompress(start, len(start))
    except zlib.error:
        return b""


def decompress(blocks: Iterable[bytes], source: str) -> Generator[bytes, None, None]:
    """Decompress gzip of one or several members; yield blocks of at most 1 MiB.

    Args:
        blocks: the gzipped bytes.
        source: names the object in errors.

    Raises:
        ObjectDecodeError: the bytes are not valid gzip, or are cut off.
    """
    member = zlib.decompressobj(_GZIP_WINDOW)
    has_data = False
    for block in blocks:
        data = block
        while data:
            if member.eof:
                # Some systems pad the archive with zeros to whole blocks.
                data = data.lstrip(b"\0")
                if not data:
                    break
                member, has_data = zlib.decompressobj(_GZIP_WINDOW), False
            has_data = True
            try:
                plain = member.decompress(data, _OUTPUT_BYTES)
            except zlib.error as error:
                raise ObjectDecodeError(f"{source} is not valid gzip: {error}.") from error
            data = member.unused_data if member.eof else member.unconsumed_tail
            if plain:
                yield plain
    if has_data and not member.eof:
        raise ObjectDecodeError(f"{source} is not valid gzip: it is cut off.")
