"""The HTTP protocol of the engine, and its client.

The client raises network failures as step errors. ``classify_response`` decides what a status means.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakKeyDictionary

from airflow_allma.engine.content_encoding import (
    ACCEPT_ENCODING,
    BodyEncodingError,
    BodyTooLargeError,
    decode_body,
)
from airflow_allma.engine.http_stream import HttpStream
from airflow_allma.engine.masking import mask_url
from airflow_allma.engine.redirects import MAX_REDIRECTS, REDIRECTS, SentRequest, redirected
from airflow_allma.exceptions import PermanentStepError, StepError, TransientStepError

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

__all__ = [
    "AiohttpClient",
    "HttpClient",
    "HttpResponse",
    "classify_response",
    "parse_retry_after",
]

MEBIBYTE: Final = 1 << 20
_MAX_SHOWN: Final = 500
_DECODE_IN_THREAD_BYTES: Final = 1 << 20
"""A larger encoded body is decoded outside of the event loop, which it would hold up."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete response.

    Attributes:
        status: HTTP status.
        headers: lower-case names; the values of a repeated header are joined by ``", "``.
        body: decompressed bytes.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class HttpClient(Protocol):
    """Sends requests; safe to use from many tasks at once."""

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> HttpResponse:
        """Send one request and read the whole response, whatever its status.

        Args:
            method: in upper case.
            url: absolute, ``http`` or ``https``, percent-encoded; it is sent unchanged.
            headers: sent unchanged.
            body: None: no body.
            timeout: seconds from sending the request to the last byte of the response.

        Raises:
            TransientStepError: the response did not arrive in time, or the connection failed.
            PermanentStepError: a retry cannot help: the certificate is not trusted, or the response is too
                large.
        """

    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], timeout: float, verify: bool = True
    ) -> AbstractAsyncContextManager[HttpStream]:
        """Send one request without a body and open its response, whatever its status; redirects are followed.

        Args:
            method: in upper case.
            url: absolute, ``http`` or ``https``, percent-encoded; it is sent unchanged.
            headers: sent unchanged.
            timeout: seconds until the response begins, and of each pause in its body.
            verify: whether the server's certificate must be trusted.

        Raises:
            TransientStepError: the response did not begin in time, or the connection failed.
            PermanentStepError: a retry cannot help, as the certificate is not trusted.
        """

    async def close(self) -> None:
        """Close the connections of the running event loop. The client can be used again afterwards."""


class AiohttpClient:
    """The HTTP client. It opens nothing before the first request.

    Each event loop has one session, which keeps its connections open between requests. Certificates are
    verified; proxy settings and ``.netrc`` of the environment are ignored; cookies are not kept; redirects
    are followed as browsers do, but take nothing secret to another host; see ``redirects.redirected``.

    Args:
        limit: maximum number of requests in flight on one event loop; further ones wait, and their timeouts
            start after the wait.
        max_bytes: a larger response is an error.
    """

    def __init__(self, *, limit: int = 256, max_bytes: int = 64 * MEBIBYTE) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _Session] = WeakKeyDictionary()

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> HttpResponse:
        """Send one request; see ``HttpClient``."""
        import aiohttp
        from yarl import URL

        session = self._session()
        async with session.slots:
            try:
                async with asyncio.timeout(timeout):
                    return await self._exchange(
                        session, SentRequest(method, URL(url, encoded=True), headers, body), (method, url)
                    )
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise _network_error(error, method, url, timeout) from error

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], timeout: float, verify: bool = True
    ) -> AsyncIterator[HttpStream]:
        """Open the response to one request; see ``HttpClient``."""
        import aiohttp
        from yarl import URL

        session = self._session()
        async with session.slots:
            try:
                async with asyncio.timeout(timeout):
                    request = SentRequest(method, URL(url, encoded=True), headers, None)
                    response = await self._open(session, request, (method, url), verify=verify)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise _network_error(error, method, url, timeout) from error
            # A body that is not read to its end closes the connection.
            async with response:
                plain_headers = _plain_headers(response.headers)
                yield HttpStream((method, url), response.status, plain_headers, response.content, timeout)

    async def _exchange(self, session: _Session, request: SentRequest, call: tuple[str, str]) -> HttpResponse:
        async with await self._open(session, request, call) as response:
            content = await self._read(response, *call)
            plain_headers = _plain_headers(response.headers)
            return HttpResponse(
                response.status,
                plain_headers,
                await self._decode(response.status, plain_headers, content, *call),
            )

    async def _open(
        self, session: _Session, request: SentRequest, call: tuple[str, str], *, verify: bool = True
    ) -> ClientResponse:
        """Send a request and those that its redirects lead to; return the last response, to be closed."""
        for _ in range(MAX_REDIRECTS + 1):
            response = await session.http.request(
                request.method,
                # It is already encoded: encoding it again would change the flow's URL.
                request.url,
                headers=request.headers,
                data=request.body,
                allow_redirects=False,
                ssl=verify,
            )
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or location is None:
                return response
            response.release()
            request = redirected(request, response.status, location)
        raise PermanentStepError(
            f"More than {MAX_REDIRECTS} redirects from {call[0]} {mask_url(call[1])}.",
            details=_details(*call),
        )

    async def _read(self, response: ClientResponse, method: str, url: str) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._max_bytes:
                response.close()
                raise self._too_large(response.status, method, url)
            chunks.append(chunk)
        return b"".join(chunks)

    async def _decode(
        self, status: int, headers: Mapping[str, str], content: bytes, method: str, url: str
    ) -> bytes:
        encodings = headers.get("content-encoding", "")
        if not encodings or not content:
            return content
        try:
            if len(content) > _DECODE_IN_THREAD_BYTES:
                return await asyncio.to_thread(decode_body, content, encodings, max_bytes=self._max_bytes)
            return decode_body(content, encodings, max_bytes=self._max_bytes)
        except BodyTooLargeError as error:
            raise self._too_large(status, method, url) from error
        except BodyEncodingError as error:
            if not 200 <= status < 300:
                # The status says more than a body that cannot be read.
                return b""
            kind = TransientStepError if error.is_transient else PermanentStepError
            raise kind(
                f"{error.reason} ({method} {mask_url(url)}).", details=_details(method, url, status)
            ) from error

    def _too_large(self, status: int, method: str, url: str) -> PermanentStepError:
        return PermanentStepError(
            f"More than {self._max_bytes} bytes from {method} {mask_url(url)}. Request less data, "
            "or fetch it in pages.",
            details=_details(method, url, status),
        )

    def _session(self) -> _Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.http.closed:
            import aiohttp

            session = _Session(
                aiohttp.ClientSession(
                    # The semaphore limits requests in flight, outside of their timeouts.
                    connector=aiohttp.TCPConnector(limit=0),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={
                        "User-Agent": "airflow-allma",
                        "Accept": "application/json, text/plain, */*",
                        "Accept-Encoding": ACCEPT_ENCODING,
                    },
                    # The library notices neither a gzip body that is cut short nor unknown encodings.
                    auto_decompress=False,
                    # The limit of the whole chain of redirects is ours.
                    timeout=aiohttp.ClientTimeout(total=None),
                    trust_env=False,
                ),
                asyncio.Semaphore(self._limit),
            )
            with self._lock:
                self._sessions[loop] = session
        return session

    async def close(self) -> None:
        """Close the connections of the running event loop; see ``HttpClient``."""
        with self._lock:
            session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.http.close()


@dataclass(frozen=True, slots=True)
class _Session:
    """The session of one event loop, and the semaphore that limits its requests."""

    http: ClientSession
    slots: asyncio.Semaphore


def _plain_headers(headers: Mapping[str, str]) -> dict[str, str]:
    plain: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        plain[key] = f"{plain[key]}, {value}" if key in plain else value
    return plain


def _details(method: str, url: str, status: int | None = None) -> dict[str, Any]:
    details: dict[str, Any] = {"method": method, "url": mask_url(url)}
    if status is not None:
        details["status"] = status
    return details


@dataclass(frozen=True, slots=True)
class _NetworkFailure:
    """What a failed request means.

    Attributes:
        raised: exceptions of the client library.
        error: the step error that they become.
        message: format of its message; can contain ``{call}``, ``{reason}`` and ``{timeout}``.
    """

    raised: tuple[type[Exception], ...]
    error: type[StepError]
    message: str


@functools.cache
def _network_failures() -> tuple[_NetworkFailure, ...]:
    """Return the table of network failures; the first row that matches counts."""
    import aiohttp

    return (
        _NetworkFailure(
            (TimeoutError,),
            TransientStepError,
            "No response within {timeout:g} seconds from {call}. Increase customConfig.timeoutMs if it needs "
            "more time.",
        ),
        _NetworkFailure(
            (ssl.CertificateError, aiohttp.ClientConnectorCertificateError),
            PermanentStepError,
            "Server certificate is not trusted ({call}): {reason}. Check the host of the URL, or install the "
            "certificate's issuer on the machine.",
        ),
        _NetworkFailure(
            (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError),
            PermanentStepError,
            "Request cannot be sent ({call}): {reason}.",
        ),
        _NetworkFailure((Exception,), TransientStepError, "{reason} ({call})."),
    )


def _network_error(error: Exception, method: str, url: str, timeout: float) -> StepError:
    failure = next(row for row in _network_failures() if isinstance(error, row.raised))
    message = failure.message.format(
        call=f"{method} {mask_url(url)}", reason=_reason(error, url), timeout=timeout
    )
    return failure.error(message, details=_details(method, url))


def _reason(error: Exception, url: str) -> str:
    message = mask_url(str(error).replace(url, mask_url(url))).rstrip(".")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def classify_response(method: str, url: str, response: HttpResponse) -> None:
    """Return if the status is 2xx.

    Raises:
        TransientStepError: the status is 429 or 5xx; with ``retry_after`` if the server sent it.
        PermanentStepError: any other status.
    """
    if 200 <= response.status < 300:
        return
    body = " ".join(response.body[: 4 * _MAX_SHOWN].decode(errors="replace").split())
    body = "".join(character for character in body if character.isprintable())[:_MAX_SHOWN]
    message = f"{response.status} from {method} {mask_url(url)}"
    message += f": {body}" if body else " with an empty body."
    details = {**_details(method, url, response.status), "body": body}
    if response.status == 429 or response.status >= 500:
        raise TransientStepError(message, details=details, retry_after=parse_retry_after(response))
    if 300 <= response.status < 400 and "location" in response.headers:
        message += f" (location: {mask_url(response.headers['location'])})"
    raise PermanentStepError(message, details=details)


def parse_retry_after(response: HttpResponse) -> float | None:
    """Return the seconds that a response asks to wait, at least 0; None without a valid ``Retry-After``.

    A date is compared with the server's clock (the ``Date`` header) if it is sent, as clocks differ.
    """
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    until = _parse_http_date(value)
    if until is None:
        return None
    now = _parse_http_date(response.headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _parse_http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
