"""HTTP: one narrow protocol, the client behind it, and a fake of it for tests.

Network failures are step errors as they leave the client. What a status means is ``classify_response``'s
answer.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakKeyDictionary

from airflow_allma.engine.masking import mask_url
from airflow_allma.exceptions import PermanentStepError, StepError, TransientStepError

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

__all__ = [
    "AiohttpClient",
    "HttpClient",
    "HttpResponse",
    "classify_response",
    "mask_url",
    "retry_after",
]

MEBIBYTE: Final = 1 << 20
_MOST_SHOWN: Final = 500
_MOST_REDIRECTS: Final = 10


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer, read to its end.

    Attributes:
        status: HTTP status.
        headers: lower-case names; a header that came several times has its values joined by ``", "``.
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
        """Send one request and read the whole answer, whatever its status.

        Args:
            method: upper case.
            url: absolute, ``http`` or ``https``, percent-encoded: it is sent as it is.
            headers: sent as they are.
            body: None for none.
            timeout: seconds from sending to the answer's last byte.

        Raises:
            TransientStepError: no answer in time, or the connection failed.
            PermanentStepError: asking again cannot help: a certificate that is not trusted, too large an
                answer.
        """

    async def close(self) -> None:
        """Give back the connections of the running event loop. The client can be used again afterwards."""


class AiohttpClient:
    """The HTTP client. Nothing is opened before the first request.

    There is one session for each event loop, with its connections kept open between requests. Certificates
    are checked; proxy settings and ``.netrc`` of the environment are not looked at; cookies are not kept;
    redirects are followed as browsers do.

    Args:
        limit: most requests in flight on one event loop; further ones wait, without their timeouts running.
        max_bytes: an answer with more bytes than this is an error.
    """

    def __init__(self, *, limit: int = 256, max_bytes: int = 64 * MEBIBYTE) -> None:
        self._limit = limit
        self._most_bytes = max_bytes
        self._lock = threading.Lock()
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _Session] = WeakKeyDictionary()

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> HttpResponse:
        """Send one request; see ``HttpClient``."""
        import aiohttp
        from yarl import URL

        session = self._session()
        async with session.turn:
            try:
                async with session.http.request(
                    method,
                    # Encoded already: a second encoding would change what the flow has written.
                    URL(url, encoded=True),
                    headers=headers,
                    data=body,
                    timeout=aiohttp.ClientTimeout(total=timeout),
                    max_redirects=_MOST_REDIRECTS,
                ) as response:
                    content = await self._read(response, method, url)
                    return HttpResponse(response.status, _plain_headers(response.headers), content)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise _network_error(error, method, url, timeout) from error

    async def _read(self, response: ClientResponse, method: str, url: str) -> bytes:
        # The bound holds for what comes out of decompression, too.
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._most_bytes:
                response.close()
                raise PermanentStepError(
                    f"{method} {mask_url(url)} answers with more than {self._most_bytes} bytes. Ask for "
                    "less, or fetch it in pages.",
                    details=_details(method, url, response.status),
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _session(self) -> _Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.http.closed:
            import aiohttp

            session = _Session(
                aiohttp.ClientSession(
                    # The turn bounds requests in flight, outside of their timeouts.
                    connector=aiohttp.TCPConnector(limit=0),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"User-Agent": "airflow-allma", "Accept": "application/json, text/plain, */*"},
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
    """What one event loop has."""

    http: ClientSession
    turn: asyncio.Semaphore


def _plain_headers(headers: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers.items():
        plain = name.lower()
        found[plain] = f"{found[plain]}, {value}" if plain in found else value
    return found


def _details(method: str, url: str, status: int | None = None) -> dict[str, Any]:
    details: dict[str, Any] = {"method": method, "url": mask_url(url)}
    if status is not None:
        details["status"] = status
    return details


def _network_error(error: Exception, method: str, url: str, timeout: float) -> StepError:
    import aiohttp

    call = f"{method} {mask_url(url)}"
    details = _details(method, url)
    if isinstance(error, TimeoutError):
        return TransientStepError(
            f"{call}: no answer within {timeout:g} seconds. Raise customConfig.timeoutMs if it needs longer.",
            details=details,
        )
    if isinstance(error, ssl.CertificateError | aiohttp.ClientConnectorCertificateError):
        return PermanentStepError(
            f"{call}: the server's certificate is not trusted: {_reason(error, url)}. Check the URL's host, "
            "or add the certificate's issuer to the machine.",
            details=details,
        )
    if isinstance(error, aiohttp.TooManyRedirects):
        return PermanentStepError(f"{call}: more than {_MOST_REDIRECTS} redirects.", details=details)
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | ValueError):
        return PermanentStepError(f"{call} cannot be sent: {_reason(error, url)}.", details=details)
    return TransientStepError(f"{call}: {_reason(error, url)}.", details=details)


def _reason(error: Exception, url: str) -> str:
    text = mask_url(str(error).replace(url, mask_url(url))).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def classify_response(method: str, url: str, response: HttpResponse) -> None:
    """Do nothing for an answer of 2xx.

    Raises:
        TransientStepError: 429 or 5xx; with ``retry_after`` when the server says so.
        PermanentStepError: any other status.
    """
    if 200 <= response.status < 300:
        return
    text = " ".join(response.body[: 4 * _MOST_SHOWN].decode(errors="replace").split())
    text = "".join(character for character in text if character.isprintable())[:_MOST_SHOWN]
    message = f"{method} {mask_url(url)} answered {response.status}"
    message += f": {text}" if text else " with an empty body."
    details = {**_details(method, url, response.status), "body": text}
    if response.status == 429 or response.status >= 500:
        raise TransientStepError(message, details=details, retry_after=retry_after(response))
    if 300 <= response.status < 400 and "location" in response.headers:
        message += f" (location: {mask_url(response.headers['location'])})"
    raise PermanentStepError(message, details=details)


def retry_after(response: HttpResponse) -> float | None:
    """Seconds that an answer asks to wait, at least 0; None when it does not, or cannot be understood.

    A date is compared with the server's own clock where it tells that, as clocks differ.
    """
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    until = _http_date(text)
    if until is None:
        return None
    now = _http_date(response.headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
