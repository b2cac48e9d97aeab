"""Decompressing gzip, Zstandard and bzip2 as streams."""

from __future__ import annotations

import bz2
import importlib
import re
import sys
import zlib
from collections.abc import Callable, Generator, Iterable
from enum import StrEnum
from typing import Any, Final, Protocol

from airflow_allma.exceptions import ObjectDecodeError, StorageConfigurationError

__all__ = [
    "FREE_BYTES",
    "MAX_UNPACK_RATIO",
    "Compression",
    "compression_of",
    "decompress",
    "decompress_start",
    "decompressed",
    "is_gzip",
    "without_compression",
]

MAX_UNPACK_RATIO: Final = 200
"""How many bytes one compressed byte may unpack to, unless the caller sets another limit; 0 means no limit.

JSON Lines have ratios of 5 to 50; gzip allows 1,030."""

FREE_BYTES: Final = 64 << 20
"""Less than this is unpacked whatever the ratio is."""


class Compression(StrEnum):
    """How an object is compressed."""

    GZIP = "gzip"
    ZSTD = "zstd"
    BZIP2 = "bzip2"


_MAGIC: Final = {
    Compression.GZIP: re.compile(rb"\x1f\x8b\x08"),
    # A frame, or a frame with data for decoders of its own, which readers skip.
    Compression.ZSTD: re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
    # The header of a stream, and that of its first block or of its end.
    Compression.BZIP2: re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
}
_ENDINGS: Final = (".gz", ".gzip", ".zst", ".zstd", ".bz2")
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_PADDING: Final = re.compile(rb"\0*")
_OUTPUT_BYTES: Final = 1 << 20
# A member gets little at first: zlib copies what follows it, and there can be many tiny members.
_FIRST_BYTES: Final = 1 << 12
# More than the first bytes of a small object: a line of brackets shrinks to a few bytes.
_START_BYTES: Final = 64 << 10


def compression_of(start: bytes) -> Compression | None:
    """Return how an object is compressed, by its first bytes; None if it is not.

    Names and headers do not count: HTTP clients and stores decompress bodies and keep the header.
    """
    return next((kind for kind, magic in _MAGIC.items() if magic.match(start)), None)


def is_gzip(start: bytes) -> bool:
    """Return whether an object's first bytes are those of gzip."""
    return _MAGIC[Compression.GZIP].match(start) is not None


def without_compression(key: str) -> str:
    """Return a key in lower case without the ending that tells its compression."""
    name = key.lower()
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name


def decompress_start(start: bytes, compression: Compression = Compression.GZIP) -> bytes:
    """Decompress the first bytes of an object as far as possible, to at most 64 KiB."""
    plain = b""
    try:
        # The first members can be empty, so the content may begin in a later one.
        for block in decompress([start], "the object", compression):
            plain += block[:_START_BYTES]
            if len(plain) >= _START_BYTES:
                break
    except ObjectDecodeError:
        # Invalid here, or cut off: only the first bytes were read.
        pass
    return plain[:_START_BYTES]


class _Member(Protocol):
    """One compressed stream of those that can follow one another."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _GzipMember:
    """A member of gzip, with the methods of bzip2 and Zstandard."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_WINDOW)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(data or self._stream.unconsumed_tail, max_length)


def decompress(
    blocks: Iterable[bytes],
    source: str,
    compression: Compression = Compression.GZIP,
    *,
    max_ratio: int = MAX_UNPACK_RATIO,
) -> Generator[bytes, None, None]:
    """Decompress one or several members; yield blocks of at most 1 MiB.

    Args:
        blocks: the compressed bytes.
        source: names the object in errors.
        compression: how they are compressed.
        max_ratio: how many bytes a byte may unpack to, beyond ``FREE_BYTES``; 0 means no limit.

    Raises:
        ObjectDecodeError: the bytes are not valid, are cut off, or unpack to too much.
        StorageConfigurationError: the package that decompresses them is not installed.
    """
    new_member, errors = _decoder(compression, source)
    member = new_member()
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
                member, has_data, window = new_member(), False, _FIRST_BYTES
            has_data = True
            piece = block[start : start + window]
            start += len(piece)
            window = min(2 * window, _OUTPUT_BYTES)
            while True:
                try:
                    plain = member.decompress(piece, _OUTPUT_BYTES)
                except errors as error:
                    raise ObjectDecodeError(f"{source} is not valid {compression}: {error}.") from error
                unpacked += len(plain)
                if max_ratio and unpacked > max(FREE_BYTES, packed * max_ratio):
                    raise ObjectDecodeError(
                        f"{source} unpacks to more than {max_ratio} times its size: {packed} bytes of "
                        f"{compression} are {unpacked} bytes or more. Check what it contains; if it is "
                        "right, increase [allma] max_unpack_ratio, or store it without compression."
                    )
                if plain:
                    yield plain
                if member.eof or member.needs_input:
                    break
                piece = b""
            if member.eof:
                start -= len(member.unused_data)
    if has_data and not member.eof:
        raise ObjectDecodeError(f"{source} is not valid {compression}: it is cut off.")


def decompressed(
    blocks: Iterable[bytes], source: str, compression: Compression | None, *, max_ratio: int
) -> Iterable[bytes]:
    """Return the plain blocks of an object, compressed or not; see ``decompress``."""
    if compression is None:
        return blocks
    return decompress(blocks, source, compression, max_ratio=max_ratio)


def _decoder(
    compression: Compression, source: str
) -> tuple[Callable[[], _Member], tuple[type[Exception], ...]]:
    """Return what decompresses a member, and the errors that it raises for invalid data."""
    if compression is Compression.GZIP:
        return _GzipMember, (zlib.error,)
    if compression is Compression.BZIP2:
        return bz2.BZ2Decompressor, (OSError, ValueError)
    try:
        zstd = _zstd()
    except ImportError as error:
        raise StorageConfigurationError(
            f"{source} is compressed with Zstandard, which needs a package: "
            "pip install 'airflow-allma[zstd]'."
        ) from error
    return zstd.ZstdDecompressor, (zstd.ZstdError,)


def _zstd() -> Any:
    """Return the standard library's module, or its backport."""
    # Only where it is needed: it is optional.
    if sys.version_info >= (3, 14):
        return importlib.import_module("compression.zstd")
    return importlib.import_module("backports.zstd")
