"""The body of an HTTP response, block by block: decoded, with its length and checksums compared."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Protocol

from airflow_allma.engine.content_encoding import BodyEncodingError, BodyTooLargeError
from airflow_allma.engine.masking import mask_url
from airflow_allma.engine.stream_decoding import StreamDecoder
from airflow_allma.exceptions import PermanentStepError, TransientStepError

__all__ = ["Body", "HttpStream"]

_BLOCK_BYTES: Final = 1 << 20
# RFC 9530 and, before it, RFC 3230.
_DIGEST: Final = re.compile(r"([A-Za-z0-9-]+)=:?([A-Za-z0-9+/=]+?):?(?:,|$)")
_DIGEST_HEADERS: Final = ("content-digest", "repr-digest", "digest")
_ALGORITHMS: Final[Mapping[str, str]] = {"md5": "md5", "sha-256": "sha256", "sha-512": "sha512"}


class Body(Protocol):
    """What the HTTP library has of a body that has not been read yet."""

    async def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; nothing at the end."""

    async def readany(self) -> bytes:
        """Return what has arrived; nothing at the end."""


class HttpStream:
    """A response whose body has not been read yet.

    Args:
        call: method and URL.
        status: HTTP status.
        headers: lower-case names.
        content: the body.
        timeout: seconds of each pause in the body.

    Attributes:
        status: HTTP status.
        headers: lower-case names; the values of a repeated header are joined by ``", "``.
        received: bytes of the body so far, as they were sent.
    """

    def __init__(
        self, call: tuple[str, str], status: int, headers: Mapping[str, str], content: Body, timeout: float
    ) -> None:
        method, url = call
        self.status = status
        self.headers = headers
        self.received = 0
        self._call = f"{method} {mask_url(url)}"
        self._details: dict[str, Any] = {"method": method, "url": mask_url(url), "status": status}
        self._content = content
        self._timeout = timeout
        # Neither has a body that its headers describe.
        self._has_body = method != "HEAD" and status not in {204, 304}

    @property
    def length(self) -> int | None:
        """The bytes that the headers announce; None if they do not."""
        value = self.headers.get("content-length", "").strip()
        return int(value) if value.isascii() and value.isdigit() and self._has_body else None

    async def start(self, max_bytes: int) -> bytes:
        """Return the beginning of the body, as it was sent; nothing if it cannot be read."""
        import aiohttp

        try:
            async with asyncio.timeout(self._timeout):
                return await self._content.read(max_bytes)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return b""

    async def blocks(self, max_bytes: int) -> AsyncIterator[bytes]:
        """Yield the decoded body in blocks of about 1 MiB.

        Args:
            max_bytes: a longer body is an error, also if only its decoded form is; 0: no limit.

        Raises:
            TransientStepError: the body stalls, ends early, or is not what its checksum says.
            PermanentStepError: it is too long, or has an encoding that cannot be decoded.
        """
        length = self.length
        max_bytes = max_bytes or sys.maxsize
        if length is not None and length > max_bytes:
            raise self._too_long(f"has {length} bytes", max_bytes)
        checksums = self._checksums() if self._has_body else []
        try:
            decoder = StreamDecoder(self.headers.get("content-encoding", ""), max_bytes)
            async for piece in self._pieces():
                for checksum, _, _ in checksums:
                    checksum.update(piece)
                for block in decoder.decode(piece):
                    yield block
            if self._has_body:
                decoder.finish(is_empty=self.received == 0)
        except BodyTooLargeError as error:
            raise self._too_long("is longer", max_bytes) from error
        except BodyEncodingError as error:
            kind = TransientStepError if error.is_transient else PermanentStepError
            raise kind(f"{error.reason} ({self._call}).", details=self._details) from error
        if length is not None and self.received != length:
            raise self._cut(length)
        for checksum, expected, header in checksums:
            if checksum.digest() != expected:
                raise TransientStepError(
                    f"The body does not have the checksum of its header {header} ({self._call}).",
                    details=self._details,
                )

    async def _pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it was sent, in pieces of about 1 MiB."""
        import aiohttp

        piece = bytearray()
        while True:
            try:
                async with asyncio.timeout(self._timeout):
                    received = await self._content.readany()
            except TimeoutError as error:
                raise TransientStepError(
                    f"Nothing received for {self._timeout:g} seconds, after {self.received} bytes, from "
                    f"{self._call}. Increase customConfig.timeoutMs if the server pauses that long.",
                    details=self._details,
                ) from error
            except (aiohttp.ClientError, OSError) as error:
                raise self._cut(self.length) from error
            if not received:
                break
            self.received += len(received)
            piece += received
            if len(piece) >= _BLOCK_BYTES:
                yield bytes(piece)
                piece.clear()
        if piece:
            yield bytes(piece)

    def _cut(self, length: int | None) -> TransientStepError:
        of_all = f" of {length}" if length is not None else ""
        return TransientStepError(
            f"The body ended after {self.received}{of_all} bytes ({self._call}).",
            details={**self._details, "receivedBytes": self.received},
        )

    def _too_long(self, reason: str, max_bytes: int) -> PermanentStepError:
        return PermanentStepError(
            f"The body {reason}; [allma] max_download_bytes = {max_bytes} are allowed ({self._call}). "
            "Increase the setting if the file is wanted.",
            details=self._details,
        )

    def _checksums(self) -> list[tuple[Any, bytes, str]]:
        """Return (hash, its expected value, header) for each checksum that the headers contain."""
        found = []
        stated = [("content-md5", "md5", self.headers.get("content-md5", "").strip())]
        for header in _DIGEST_HEADERS:
            stated += [
                (header, match[1].lower(), match[2])
                for match in _DIGEST.finditer(self.headers.get(header, "").replace(" ", ""))
            ]
        for header, algorithm, value in stated:
            name = _ALGORITHMS.get(algorithm)
            if name is None or not value:
                continue
            checksum = hashlib.new(name, usedforsecurity=False)
            try:
                expected = base64.b64decode(value, validate=True)
            except binascii.Error:
                continue
            if len(expected) == checksum.digest_size:
                found.append((checksum, expected, header))
        return found
