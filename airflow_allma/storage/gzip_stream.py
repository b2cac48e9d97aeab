"""Decompressing gzip as a stream."""

from __future__ import annotations

import re
import zlib
from collections.abc import Generator, Iterable
from typing import Final

from airflow_allma.exceptions import ObjectDecodeError

__all__ = ["decompress", "decompress_start", "is_gzip"]

_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_PADDING: Final = re.compile(rb"\0*")
_OUTPUT_BYTES: Final = 1 << 20
# A member gets little at first: zlib copies what follows it, and there can be many tiny members.
_FIRST_BYTES: Final = 1 << 12


def is_gzip(start: bytes) -> bool:
    """Return whether an object's first bytes are those of gzip.

    Names and headers do not count: HTTP clients and stores decompress bodies and keep the header.
    """
    return start.startswith(_MAGIC)


def decompress_start(start: bytes) -> bytes:
    """Decompress the first bytes of a gzip object as far as possible, to at most as many bytes."""
    plain = b""
    try:
        # The first members can be empty, so the content may begin in a later one.
        for block in decompress([start], "the object"):
            plain += block[: len(start)]
            if len(plain) >= len(start):
                break
    except ObjectDecodeError:
        # Invalid here, or cut off: only the first bytes were read.
        pass
    return plain[: len(start)]


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
    window = _OUTPUT_BYTES
    for block in blocks:
        start = 0
        while start < len(block):
            if member.eof:
                # Some systems pad the archive with zeros to whole blocks.
                padding = _PADDING.match(block, start)
                start = padding.end() if padding else start
                if start == len(block):
                    break
                member, has_data, window = zlib.decompressobj(_GZIP_WINDOW), False, _FIRST_BYTES
            has_data = True
            piece = block[start : start + window]
            try:
                plain = member.decompress(piece, _OUTPUT_BYTES)
            except zlib.error as error:
                raise ObjectDecodeError(f"{source} is not valid gzip: {error}.") from error
            start += len(piece) - len(member.unused_data if member.eof else member.unconsumed_tail)
            window = min(2 * window, _OUTPUT_BYTES)
            if plain:
                yield plain
    if has_data and not member.eof:
        raise ObjectDecodeError(f"{source} is not valid gzip: it is cut off.")
