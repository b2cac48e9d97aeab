"""Unpacking gzip as a stream."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable
from typing import Final

from airflow_allma.exceptions import ObjectDecodeError

__all__ = ["gunzip", "gunzip_start", "is_gzip"]

_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_OUTPUT_BYTES: Final = 1 << 20


def is_gzip(start: bytes) -> bool:
    """Whether an object's first bytes are gzip's.

    Names and headers are not asked: HTTP clients and stores unpack bodies and leave the header in place.
    """
    return start.startswith(_MAGIC)


def gunzip_start(start: bytes) -> bytes:
    """What the first bytes of a gzip object unpack to, as far as they go; nothing if they are broken."""
    try:
        return zlib.decompressobj(_GZIP_WINDOW).decompress(start, len(start))
    except zlib.error:
        return b""


def gunzip(blocks: Iterable[bytes], source: str) -> Generator[bytes, None, None]:
    """Unpack blocks of gzip (of one member or several) to blocks of at most 1 MiB.

    Args:
        blocks: the packed bytes.
        source: names the object; for the error.

    Raises:
        ObjectDecodeError: the bytes are broken, or end too early.
    """
    member = zlib.decompressobj(_GZIP_WINDOW)
    begun = False
    for block in blocks:
        data = block
        while data:
            if member.eof:
                # Zeros pad the archive to whole blocks on some systems.
                data = data.lstrip(b"\0")
                if not data:
                    break
                member, begun = zlib.decompressobj(_GZIP_WINDOW), False
            begun = True
            try:
                unpacked = member.decompress(data, _OUTPUT_BYTES)
            except zlib.error as error:
                raise ObjectDecodeError(f"{source} is not sound gzip: {error}.") from error
            data = member.unused_data if member.eof else member.unconsumed_tail
            if unpacked:
                yield unpacked
    if begun and not member.eof:
        raise ObjectDecodeError(f"{source} is gzip that ends too early: it was not written whole.")
