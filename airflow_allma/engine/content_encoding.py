"""Content encodings of HTTP responses, with a bound on what a body unpacks to."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from airflow_allma.exceptions import AllmaError

__all__ = [
    "ACCEPT_ENCODING",
    "GZIP_MAGIC",
    "GZIP_WINDOW",
    "BodyEncodingError",
    "BodyTooLargeError",
    "decode_body",
    "encodings_of",
]

ACCEPT_ENCODING: Final = "gzip, deflate"
"""What the client accepts: nothing that it cannot decode."""

_MAX_ENCODINGS: Final = 5
_PIECE_BYTES: Final = 4096
GZIP_MAGIC: Final = b"\x1f\x8b"
GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_RAW_WINDOW: Final = -zlib.MAX_WBITS


class BodyEncodingError(AllmaError):
    """A body cannot be decoded.

    Attributes:
        reason: why, as the beginning of a sentence.
        is_transient: whether the same request may succeed later, as the body was cut short or damaged.
    """

    def __init__(self, reason: str, *, is_transient: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_transient = is_transient


class BodyTooLargeError(BodyEncodingError):
    """The decoded body is too large."""


def decode_body(data: bytes, encodings: str, *, max_bytes: int) -> bytes:
    """Decode the body of a response.

    Args:
        data: the body as it was received; an empty one is empty in every encoding.
        encodings: the value of ``Content-Encoding``: names in the order in which they were applied.
        max_bytes: the maximum size after each decoding.

    Raises:
        BodyTooLargeError: it unpacks to more than ``max_bytes``.
        BodyEncodingError: an encoding is unknown, or the body is not in it (not transient), or the body is
            cut short or damaged (transient).
    """
    names = _names(encodings)
    if len(names) > _MAX_ENCODINGS:
        raise BodyEncodingError(
            f"{len(names)} content encodings are more than the {_MAX_ENCODINGS} that are decoded"
        )
    for name in reversed(names):
        decode = _decoder(name)
        if data:
            data = decode(data, max_bytes)
    return data


def encodings_of(encodings: str) -> list[str]:
    """Return the encodings of a body in the order in which they were applied: ``gzip`` and ``deflate``.

    Raises:
        BodyEncodingError: one of them is unknown.
    """
    return [name.removeprefix("x-") for name in _names(encodings) if _decoder(name) is not _identity]


def _names(encodings: str) -> list[str]:
    return [name for part in encodings.split(",") if (name := part.strip().lower())]


def _decoder(name: str) -> Callable[[bytes, int], bytes]:
    decode = _DECODERS.get(name)
    if decode is None:
        raise BodyEncodingError(
            f"The content encoding {name[:40]!r} cannot be decoded. Send the header 'Accept-Encoding: "
            f"{ACCEPT_ENCODING}', or remove that header from the step"
        )
    return decode


def _identity(data: bytes, max_bytes: int) -> bytes:  # noqa: ARG001
    return data


def _gzip(data: bytes, max_bytes: int) -> bytes:
    if not data.startswith(GZIP_MAGIC[: len(data)]):
        raise BodyEncodingError("The body is not gzip, although its content encoding says so")
    plain = bytearray()
    position = 0
    while True:
        position = _inflate(data, GZIP_WINDOW, plain, max_bytes, "gzip", position=position)
        # Anything after a complete member is padding, unless it begins another one.
        if not data.startswith(GZIP_MAGIC, position):
            return bytes(plain)


def _deflate(data: bytes, max_bytes: int) -> bytes:
    # The standard says zlib; some servers send the raw stream, as browsers accept it.
    is_zlib = data[0] & 0x0F == 8 and (len(data) == 1 or int.from_bytes(data[:2]) % 31 == 0)
    plain = bytearray()
    try:
        _inflate(data, zlib.MAX_WBITS if is_zlib else _RAW_WINDOW, plain, max_bytes, "deflate")
    except BodyTooLargeError:
        raise
    except BodyEncodingError:
        if not is_zlib:
            raise
        raw = bytearray()
        try:
            _inflate(data, _RAW_WINDOW, raw, max_bytes, "deflate")
        except BodyTooLargeError:
            raise
        except BodyEncodingError:
            pass
        else:
            return bytes(raw)
        raise
    return bytes(plain)


def _inflate(
    data: bytes, window: int, plain: bytearray, max_bytes: int, name: str, *, position: int = 0
) -> int:
    """Append what the stream at a position unpacks to; return the position after it."""
    stream = zlib.decompressobj(window)
    while not stream.eof:
        # In pieces: the stream copies what follows its end, and a body can have millions of streams.
        piece = data[position : position + _PIECE_BYTES]
        if not piece:
            raise BodyEncodingError(f"The {name} body is cut short", is_transient=True)
        position += len(piece)
        try:
            # One byte more than allowed is enough to know that it is too much.
            plain += stream.decompress(piece, max_bytes - len(plain) + 1)
        except zlib.error as error:
            raise BodyEncodingError(f"The {name} body is damaged: {error}", is_transient=True) from error
        if len(plain) > max_bytes:
            raise BodyTooLargeError(f"The {name} body unpacks to more than {max_bytes} bytes")
    return position - len(stream.unused_data)


_DECODERS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "x-deflate": _deflate,
    "identity": _identity,
    # Not encodings of the content, but sent as such: by S3's upload protocol, and by confused servers.
    "aws-chunked": _identity,
    "none": _identity,
    "utf-8": _identity,
    "utf8": _identity,
}
