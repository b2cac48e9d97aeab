"""Content encodings of HTTP responses, decoded piece by piece."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Final

from airflow_allma.engine.content_encoding import (
    GZIP_MAGIC,
    GZIP_WINDOW,
    BodyEncodingError,
    BodyTooLargeError,
    encodings_of,
)

__all__ = ["StreamDecoder"]

_BLOCK_BYTES: Final = 1 << 20
# A member gets little at a time: zlib copies what follows it, and there can be many tiny members.
_PIECE_BYTES: Final = 1 << 16
_RAW_WINDOW: Final = -zlib.MAX_WBITS


class StreamDecoder:
    """Decodes a body while it arrives, with memory for one block.

    Args:
        encodings: the value of ``Content-Encoding``.
        max_bytes: a longer decoded body is an error.

    Raises:
        BodyEncodingError: the encoding cannot be decoded, or there are several.
    """

    def __init__(self, encodings: str, max_bytes: int) -> None:
        names = encodings_of(encodings)
        if len(names) > 1:
            raise BodyEncodingError(f"The body has {len(names)} content encodings; a file can have one")
        self._name = names[0] if names else ""
        self._max_bytes = max_bytes
        self._decoded = 0
        self._stream: Any = None
        self._is_padding = False

    def decode(self, piece: bytes) -> Iterator[bytes]:
        """Yield what a piece decodes to.

        Raises:
            BodyTooLargeError: the decoded body is too long.
            BodyEncodingError: the body is damaged or not in its encoding.
        """
        if not self._name:
            yield self._counted(piece)
            return
        for start in range(0, len(piece), _PIECE_BYTES):
            yield from self._inflate(piece[start : start + _PIECE_BYTES])

    def finish(self, *, is_empty: bool) -> None:
        """Check that the body is complete.

        Raises:
            BodyEncodingError: it is cut short.
        """
        if (
            self._name
            and not is_empty
            and not self._is_padding
            and (self._stream is None or not self._stream.eof)
        ):
            raise BodyEncodingError(f"The {self._name} body is cut short", is_transient=True)

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        has_more = True
        while (data or has_more) and not self._is_padding:
            if self._stream is None or self._stream.eof:
                if not data:
                    return
                if self._stream is not None and not (
                    self._name == "gzip" and GZIP_MAGIC.startswith(data[:2])
                ):
                    # Anything after a complete member is padding, unless it begins another one.
                    self._is_padding = True
                    return
                self._stream = zlib.decompressobj(self._window(data))
            try:
                block = self._stream.decompress(data, _BLOCK_BYTES)
            except zlib.error as error:
                raise BodyEncodingError(
                    f"The {self._name} body is damaged: {error}", is_transient=True
                ) from error
            data = self._stream.unconsumed_tail or self._stream.unused_data
            # A full block: the stream may keep more, also without further input.
            has_more = len(block) == _BLOCK_BYTES
            if block:
                yield self._counted(block)

    def _window(self, data: bytes) -> int:
        if self._name == "gzip":
            if not data.startswith(GZIP_MAGIC[: len(data)]):
                raise BodyEncodingError("The body is not gzip, although its content encoding says so")
            return GZIP_WINDOW
        # The standard says zlib; some servers send the raw stream, as browsers accept it.
        is_zlib = data[0] & 0x0F == 8 and (len(data) == 1 or int.from_bytes(data[:2]) % 31 == 0)
        return zlib.MAX_WBITS if is_zlib else _RAW_WINDOW

    def _counted(self, block: bytes) -> bytes:
        self._decoded += len(block)
        if self._decoded > self._max_bytes:
            raise BodyTooLargeError(f"The body is longer than {self._max_bytes} bytes")
        return block
