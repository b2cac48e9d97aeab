"""Decompressing gzip as a stream."""

from __future__ import annotations

import re
import zlib
from collections.abc import Generator, Iterable
from typing import Final

from airflow_allma.exceptions import ObjectDecodeError

__all__ = ["FREE_BYTES", "MAX_UNPACK_RATIO", "decompress", "decompress_start", "is_gzip"]

MAX_UNPACK_RATIO: Final = 200
"""How many bytes one byte of gzip may unpack to, unless the caller sets another limit; 0 means no limit.

JSON Lines have ratios of 5 to 50; the format allows 1,030."""

FREE_BYTES: Final = 64 << 20
"""Less than this is unpacked whatever the ratio is."""

_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_PADDING: Final = re.compile(rb"\0*")
_OUTPUT_BYTES: Final = 1 << 20
# A member gets little at first: zlib copies what follows it, and there can be many tiny members.
_FIRST_BYTES: Final = 1 << 12
# More than the first bytes of a small object: a line of brackets shrinks to a few bytes.
_START_BYTES: Final = 64 << 10


def is_gzip(start: bytes) -> bool:
    """Return whether an object's first bytes are those of gzip.

    Names and headers do not count: HTTP clients and stores decompress bodies and keep the header.
    """
    return start.startswith(_MAGIC)


def decompress_start(start: bytes) -> bytes:
    """Decompress the first bytes of a gzip object as far as possible, to at most 64 KiB."""
    plain = b""
    try:
        # The first members can be empty, so the content may begin in a later one.
        for block in decompress([start], "the object"):
            plain += block[:_START_BYTES]
            if len(plain) >= _START_BYTES:
                break
    except ObjectDecodeError:
        # Invalid here, or cut off: only the first bytes were read.
        pass
    return plain[:_START_BYTES]


def decompress(
    blocks: Iterable[bytes], source: str, *, max_ratio: int = MAX_UNPACK_RATIO
) -> Generator[bytes, None, None]:
    """Decompress gzip of one or several members; yield blocks of at most 1 MiB.

    Args:
        blocks: the gzipped bytes.
        source: names the object in errors.
        max_ratio: how many bytes a byte may unpack to, beyond ``FREE_BYTES``; 0 means no limit.

    Raises:
        ObjectDecodeError: the bytes are not valid gzip, are cut off, or unpack to too much.
    """
    member = zlib.decompressobj(_GZIP_WINDOW)
    has_data = False
    packed = unpacked = 0
    window = _OUTPUT_BYTES
    for block in blocks:
        start = 0
        packed += len(block)
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
            unpacked += len(plain)
            if max_ratio and unpacked > max(FREE_BYTES, packed * max_ratio):
                raise ObjectDecodeError(
                    f"{source} unpacks to more than {max_ratio} times its size: {packed} bytes of gzip are "
                    f"{unpacked} bytes or more. Check what it contains; if it is right, increase [allma] "
                    "max_unpack_ratio, or store it without gzip."
                )
            if plain:
                yield plain
    if has_data and not member.eof:
        raise ObjectDecodeError(f"{source} is not valid gzip: it is cut off.")
