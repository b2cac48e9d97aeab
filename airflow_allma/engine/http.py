"""The HTTP protocol of the engine, and its client.

The client raises network failures as step errors; ``http_failures.classify_response`` says what a status
means.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakKeyDictionary

from airflow_allma.engine.content_encoding import (
    ACCEPT_ENCODING,
    BodyEncodingError,
    BodyTooLargeError,
    decode_body,
)
from airflow_allma.engine.deadlines import Deadlines
from airflow_allma.engine.http_failures import network_error, request_details
from airflow_allma.engine.http_options import DEFAULT_OPTIONS, HttpOptions
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.http_stream import HttpStream
from airflow_allma.engine.masking import mask_url
from airflow_allma.engine.redirects import MAX_REDIRECTS, REDIRECTS, SentRequest, redirected
from airflow_allma.engine.request_slots import RequestSlots
from airflow_allma.engine.request_urls import RequestUrls
from airflow_allma.exceptions import PermanentStepError, TransientStepError

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

__all__ = [
    "AiohttpClient",
    "HttpClient",
    "HttpResponse",
    "session_settings",
]

MEBIBYTE: Final = 1 << 20
_DECODE_IN_THREAD_BYTES: Final = 1 << 20
"""A larger encoded body is decoded outside of the event loop, which it would hold up."""


class HttpClient(Protocol):
    """Sends requests; safe to use from many tasks at once."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: float,
        options: HttpOptions = DEFAULT_OPTIONS,
    ) -> HttpResponse:
        """Send one request and read the whole response, whatever its status.

        Args:
            method: in upper case.
            url: absolute, ``http`` or ``https``, percent-encoded; it is sent unchanged.
            headers: sent unchanged.
            body: None: no body.
            timeout: seconds from sending the request to the last byte of the response.
            options: TLS, the time to connect, and secret headers.

        Raises:
            TransientStepError: the response did not arrive in time, or the connection failed.
            PermanentStepError: a retry cannot help: the certificate is not trusted, or the response is too
                large.
        """

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout: float,
        options: HttpOptions = DEFAULT_OPTIONS,
    ) -> AbstractAsyncContextManager[HttpStream]:
        """Send one request without a body and open its response, whatever its status; redirects are followed.

        Args:
            method: in upper case.
            url: absolute, ``http`` or ``https``, percent-encoded; it is sent unchanged.
            headers: sent unchanged.
            timeout: seconds until the response begins, and of each pause in its body.
            options: TLS, the time to connect, and secret headers.

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
        # The session that was used last, with its event loop: looking it up takes longer.
        self._last: tuple[asyncio.AbstractEventLoop, _Session] | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: float,
        options: HttpOptions = DEFAULT_OPTIONS,
    ) -> HttpResponse:
        """Send one request; see ``HttpClient``."""
        session = self._session()
        # Written out: each coroutine and context manager takes time for every item of a fork.
        if not session.slots.take():
            await session.slots.wait()
        try:
            with session.deadlines.limit(timeout):
                response = await session.http.request(
                    method,
                    session.urls.of(url),
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    **({} if options is DEFAULT_OPTIONS else _library_options(options)),
                )
                if response.status in REDIRECTS and "Location" in response.headers:
                    request = SentRequest(method, session.urls.of(url), headers, body, options)
                    response = await self._follow(session, request, response, (method, url))
                # Most bodies have arrived with the headers.
                is_complete = response.content.is_eof()
                content = _arrived(response) if is_complete else await self._read(response, method, url)
                if len(content) > self._max_bytes:
                    raise self._too_large(response.status, method, url)
                plain_headers = _plain_headers(response.headers)
                if content and "content-encoding" in plain_headers:
                    content = await self._decode(response.status, plain_headers, content, method, url)
                return HttpResponse(response.status, plain_headers, content)
        except session.failures as error:
            raise network_error(error, method, url, timeout) from error
        finally:
            session.slots.release()

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout: float,
        options: HttpOptions = DEFAULT_OPTIONS,
    ) -> AsyncIterator[HttpStream]:
        """Open the response to one request; see ``HttpClient``."""
        session = self._session()
        async with session.slots.held():
            try:
                async with asyncio.timeout(timeout):
                    request = SentRequest(method, session.urls.of(url), headers, None, options)
                    response = await self._follow(session, request, None, (method, url))
            except session.failures as error:
                raise network_error(error, method, url, timeout) from error
            # A body that is not read to its end closes the connection.
            async with response:
                plain_headers = _plain_headers(response.headers)
                yield HttpStream((method, url), response.status, plain_headers, response.content, timeout)

    async def _follow(
        self,
        session: _Session,
        request: SentRequest,
        response: ClientResponse | None,
        call: tuple[str, str],
    ) -> ClientResponse:
        """Follow the redirects from a request; return the last response, to be closed.

        Args:
            session: sends the requests.
            request: the first request.
            response: its response; None if it has not been sent yet.
            call: method and URL as errors name them.
        """
        for _ in range(MAX_REDIRECTS + 1):
            if response is None:
                response = await session.http.request(
                    request.method,
                    # It is already encoded: encoding it again would change the flow's URL.
                    request.url,
                    headers=request.headers,
                    data=request.body,
                    allow_redirects=False,
                    **({} if request.options is DEFAULT_OPTIONS else _library_options(request.options)),
                )
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or location is None:
                return response
            response.release()
            request = redirected(request, response.status, location)
            response = None
        raise PermanentStepError(
            f"More than {MAX_REDIRECTS} redirects from {call[0]} {mask_url(call[1])}.",
            details=request_details(*call),
        )

    async def _read(self, response: ClientResponse, method: str, url: str) -> bytes:
        """Return the body as it was sent; an error closes the connection."""
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in response.content.iter_any():
                chunks.append(chunk)
                size += len(chunk)
                if size > self._max_bytes:
                    break
        except BaseException:
            response.close()
            raise
        if size > self._max_bytes:
            response.close()
            raise self._too_large(response.status, method, url)
        response.release()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _decode(
        self, status: int, headers: Mapping[str, str], content: bytes, method: str, url: str
    ) -> bytes:
        encodings = headers["content-encoding"]
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
                f"{error.reason} ({method} {mask_url(url)}).", details=request_details(method, url, status)
            ) from error

    def _too_large(self, status: int, method: str, url: str) -> PermanentStepError:
        return PermanentStepError(
            f"More than {self._max_bytes} bytes from {method} {mask_url(url)}. Request less data, "
            "or fetch it in pages.",
            details=request_details(method, url, status),
        )

    def _session(self) -> _Session:
        loop, last = asyncio.get_running_loop(), self._last
        # Only ``close`` closes sessions, and it forgets this one.
        if last is not None and last[0] is loop:
            return last[1]
        session = self._sessions.get(loop)
        if session is None or session.http.closed:
            import aiohttp

            session = _Session(
                aiohttp.ClientSession(**session_settings()),
                RequestSlots(self._limit),
                Deadlines(loop),
                RequestUrls(),
                (aiohttp.ClientError, TimeoutError, OSError, ValueError),
            )
            with self._lock:
                self._sessions[loop] = session
        self._last = loop, session
        return session

    async def close(self) -> None:
        """Close the connections of the running event loop; see ``HttpClient``."""
        with self._lock:
            session = self._sessions.pop(asyncio.get_running_loop(), None)
            self._last = None
        if session is not None:
            await session.http.close()


def session_settings() -> dict[str, Any]:
    """Return the arguments of the client library's session; benchmarks compare with a session like it."""
    import aiohttp

    return {
        # The semaphore limits requests in flight, outside of their timeouts.
        "connector": aiohttp.TCPConnector(limit=0),
        "cookie_jar": aiohttp.DummyCookieJar(),
        "headers": {
            "User-Agent": "airflow-allma",
            "Accept": "application/json, text/plain, */*",
            "Accept-Encoding": ACCEPT_ENCODING,
        },
        # The library notices neither a gzip body that is cut short nor unknown encodings.
        "auto_decompress": False,
        # The limit of the whole chain of redirects is ours.
        "timeout": aiohttp.ClientTimeout(total=None),
        "trust_env": False,
    }


@dataclass(frozen=True, slots=True)
class _Session:
    """The session of one event loop, and what its requests need of the library.

    Attributes:
        http: the session.
        slots: limits the requests.
        deadlines: the time limits of requests.
        urls: makes URLs of the library.
        failures: the errors of requests that cannot be sent or get no response.
    """

    http: ClientSession
    slots: RequestSlots
    deadlines: Deadlines
    urls: RequestUrls
    failures: tuple[type[Exception], ...]


def _arrived(response: ClientResponse) -> bytes:
    """Return a body that has arrived; an error closes the connection, which is free again otherwise."""
    try:
        content = response.content.read_nowait()
    except BaseException:
        response.close()
        raise
    if not response.closed:
        response.release()
    return content


def _library_options(options: HttpOptions) -> dict[str, Any]:
    if options.connect_seconds is None:
        return {"ssl": options.tls()}
    import aiohttp

    limit = aiohttp.ClientTimeout(total=None, connect=options.connect_seconds)
    return {"ssl": options.tls(), "timeout": limit}


def _plain_headers(headers: Mapping[str, str]) -> dict[str, str]:
    plain = {name.lower(): value for name, value in headers.items()}
    if len(plain) == len(headers) and "".join(plain.values()).isascii():
        return plain
    plain = {}
    for name, value in headers.items():
        key = name.lower()
        readable = value if value.isascii() else _readable(value)
        plain[key] = f"{plain[key]}, {readable}" if key in plain else readable
    return plain


def _readable(value: str) -> str:
    """Return a header's value, of which the library makes broken Unicode if it is not UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        # The rule before UTF-8, and still common.
        return value.encode(errors="surrogateescape").decode("latin-1")
    return value
