"""HTTP for the MCP SDK: a failed request fails alone, with its status, and not the whole session.

The SDK ends a session with all its calls when one connection breaks, and reports a status as "Server
returned an error response". So this transport turns each failure into a response with a JSON-RPC error, whose
data refer to the failure.

Importing this module imports the HTTP library of the SDK.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from secrets import token_hex
from typing import Any, Final

import httpx2
import msgspec

from airflow_allma.engine.http_failures import parse_retry_after
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.mcp.mcp_failures import MAX_SHOWN, McpFailure, failure_of_status
from airflow_allma.engine.mcp.mcp_server import McpServer
from airflow_allma.engine.secrets import Secrets

__all__ = ["MAX_ANSWER_BYTES", "McpTransport", "http_client"]

MAX_ANSWER_BYTES: Final = 64 << 20
"""A larger response is an error."""

_MAX_ERROR_BYTES: Final = 1 << 16
_MAX_FAILURES: Final = 1000
_MAX_CONNECTIONS: Final = 256
_NOTICE_SECONDS: Final = 5.0
"""Time limit of a message without a response; the SDK sends such messages one after the other."""

_FAILED: Final = -32603
_SESSION: Final = "mcp-session-id"
_NETWORK: Final = (httpx2.HTTPError, httpx2.StreamError, OSError)


class _Parameters(msgspec.Struct):
    requestId: int | str | None = None  # noqa: N815 - the name in the protocol


class _Message(msgspec.Struct):
    method: str = ""
    id: int | str | None = None
    params: Any = None


class _Reply(msgspec.Struct):
    jsonrpc: str
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class McpTransport(httpx2.AsyncBaseTransport):
    """Sends the requests of one session.

    Args:
        inner: sends them.
        secrets: mask what servers echo, and the id of the session.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, secrets: Secrets) -> None:
        self._inner = inner
        self._secrets = secrets
        self._failures: dict[str, McpFailure] = {}
        self._requests: dict[int | str, _Deadline] = {}

    def failure(self, data: Any) -> McpFailure | None:
        """Return the failure that the data of an error refer to, once; None if a server sent the error."""
        return self._failures.pop(data, None) if isinstance(data, str) else None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; a failure becomes a response with a JSON-RPC error."""
        if request.method == "GET" and "last-event-id" not in request.headers:
            # The stream of messages that servers send unasked: nothing here needs it, and it would cost each
            # session a connection.
            return httpx2.Response(405)
        message = _message_of(request)
        if message.id is None or not message.method:
            return await self._send_notice(request, message)
        deadline = self._requests[message.id] = _Deadline()
        is_open = False
        try:
            async with deadline.limit():
                response = await self._inner.handle_async_request(request)
                response.request = request
                answer = await self._answer(request, response, message.id, deadline)
            is_open = isinstance(answer.stream, _Events)
        except TimeoutError:
            return self._failed(
                message.id, McpFailure("The request was cancelled, no answer", is_transient=True)
            )
        except _NETWORK as error:
            return self._failed(message.id, _network_failure(error))
        finally:
            if not is_open:
                self._end(message.id, deadline)
        return answer

    def _end(self, request_id: int | str, deadline: _Deadline) -> None:
        if self._requests.get(request_id) is deadline:
            del self._requests[request_id]

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def _send_notice(self, request: httpx2.Request, message: _Message) -> httpx2.Response:
        """Send a message without a response; ignore its failure, which the next request meets too."""
        try:
            async with asyncio.timeout(_NOTICE_SECONDS if request.method != "GET" else None):
                response = await self._inner.handle_async_request(request)
        except (TimeoutError, *_NETWORK):
            # The SDK would log a warning if the end of a session failed.
            response = httpx2.Response(204 if request.method == "DELETE" else 503)
        if message.method == "notifications/cancelled":
            self._abandon(message.params)
        return response

    def _abandon(self, parameters: Any) -> None:
        """End a request whose caller no longer waits; the SDK would leave it open."""
        try:
            request_id = msgspec.convert(parameters, _Parameters).requestId
        except msgspec.ValidationError:
            return
        if request_id is not None and (deadline := self._requests.get(request_id)):
            deadline.end()

    async def _answer(
        self, request: httpx2.Request, response: httpx2.Response, request_id: int | str, deadline: _Deadline
    ) -> httpx2.Response:
        if session := response.headers.get(_SESSION):
            # Whoever knows the id can use the session.
            await self._secrets.hide([session])
        status = response.status_code
        if status >= 400:
            return self._failed(request_id, await self._status_failure(request, response))
        if not 200 <= status < 300 or status == 202:
            return response
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            stream = response.stream
            assert isinstance(stream, httpx2.AsyncByteStream)  # noqa: S101 - for the type checker
            response.stream = _Events(stream, deadline, partial(self._end, request_id, deadline))
            return response
        if kind != "application/json":
            return self._failed(request_id, await self._wrong_content(response, kind))
        body, is_whole = await _read(response, MAX_ANSWER_BYTES)
        if not is_whole:
            failure = McpFailure(
                f"An answer of more than {MAX_ANSWER_BYTES} bytes",
                is_transient=False,
                status=status,
                advice="Ask the tool for less.",
            )
            return self._failed(request_id, failure)
        try:
            reply = msgspec.json.decode(body, type=_Reply)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            reply = _Reply("")
        if not reply.result and not reply.error:
            return self._failed(request_id, self._unreadable(body, status))
        return httpx2.Response(status, headers=_headers_of_json(response), content=body)

    async def _status_failure(self, request: httpx2.Request, response: httpx2.Response) -> McpFailure:
        body, _ = await _read(response, _MAX_ERROR_BYTES)
        status = response.status_code
        headers = {name.lower(): value for name, value in response.headers.items()}
        return failure_of_status(
            status,
            body,
            self._secrets.masks,
            in_session=_SESSION in request.headers,
            retry_after=parse_retry_after(HttpResponse(status, headers, b"")),
        )

    async def _wrong_content(self, response: httpx2.Response, kind: str) -> McpFailure:
        body, _ = await _read(response, _MAX_ERROR_BYTES)
        shown = self._secrets.masks.beginning(body, MAX_SHOWN)
        kind = self._secrets.masks.beginning(kind.encode(errors="replace"), MAX_SHOWN)
        return McpFailure(
            f"An answer that is not JSON but {kind or 'of no type'} ({shown})",
            is_transient=False,
            status=response.status_code,
            advice="Check the URL: it may be that of a page.",
        )

    def _unreadable(self, body: bytes, status: int) -> McpFailure:
        shown = self._secrets.masks.beginning(body, MAX_SHOWN)
        return McpFailure(
            f"An answer that is not a JSON-RPC message ({shown})", is_transient=False, status=status
        )

    def _failed(self, request_id: int | str, failure: McpFailure) -> httpx2.Response:
        key = token_hex(16)
        while len(self._failures) >= _MAX_FAILURES:
            # The oldest one: its caller no longer waits.
            del self._failures[next(iter(self._failures))]
        self._failures[key] = failure
        error = {"code": _FAILED, "message": "failed", "data": key}
        return httpx2.Response(200, json={"jsonrpc": "2.0", "id": request_id, "error": error})


class _Deadline:
    """Ends the waiting of a request whose caller no longer waits for it."""

    def __init__(self) -> None:
        self._is_over = False
        self._timeout: asyncio.Timeout | None = None

    def limit(self) -> asyncio.Timeout:
        """Return a context that raises TimeoutError when ``end`` is called."""
        self._timeout = asyncio.timeout(0 if self._is_over else None)
        return self._timeout

    def end(self) -> None:
        """End the open context, and all later ones."""
        self._is_over = True
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time())


class _Events(httpx2.AsyncByteStream):
    """The bytes of an event stream, until the stream ends or the request's deadline does."""

    def __init__(
        self, inner: httpx2.AsyncByteStream, deadline: _Deadline, when_closed: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._deadline = deadline
        self._when_closed = when_closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._inner)
        while True:
            async with self._deadline.limit():
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk

    async def aclose(self) -> None:
        self._when_closed()
        await self._inner.aclose()


def http_client(server: McpServer, transport: McpTransport) -> httpx2.AsyncClient:
    """Return the client with which the SDK sends the requests of a session.

    Args:
        server: the server.
        transport: sends them.
    """
    return httpx2.AsyncClient(
        headers={"User-Agent": "airflow-allma", **server.headers},
        # The step limits the time of its call.
        timeout=httpx2.Timeout(None, connect=server.options.connect_seconds),
        transport=transport,
        # No proxies and no .netrc, as in the HTTP client of other steps.
        trust_env=False,
    )


def network(server: McpServer) -> httpx2.AsyncBaseTransport:
    """Return what sends requests to a server over the network."""
    tls = server.options.tls()
    if isinstance(tls, bool):
        context = ssl.create_default_context()
        if not tls:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context = tls
    limits = httpx2.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_CONNECTIONS)
    return httpx2.AsyncHTTPTransport(verify=context, trust_env=False, limits=limits)


def _message_of(request: httpx2.Request) -> _Message:
    if request.method != "POST":
        return _Message()
    try:
        return msgspec.json.decode(request.content, type=_Message)
    except (msgspec.DecodeError, httpx2.StreamError):
        return _Message()


async def _read(response: httpx2.Response, limit: int) -> tuple[bytes, bool]:
    """Return a decoded body, cut at ``limit`` bytes, and whether it is whole."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.aiter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                break
    finally:
        await response.aclose()
    body = b"".join(chunks)
    return body[:limit], size <= limit


def _headers_of_json(response: httpx2.Response) -> dict[str, str]:
    kept = ("content-type", _SESSION)
    return {name: response.headers[name] for name in kept if name in response.headers}


def _network_failure(error: Exception) -> McpFailure:
    kind, message = type(error).__name__, str(error).rstrip(".")
    if _is_about_certificates(error):
        return McpFailure(
            f"Server certificate is not trusted ({message}), no answer",
            is_transient=False,
            advice="Check the host of the URL, or install the certificate's issuer on the machine.",
        )
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError | httpx2.InvalidURL):
        return McpFailure(f"Request cannot be sent ({kind}: {message}), no answer", is_transient=False)
    shown = f"{kind}: {message}" if message else kind
    return McpFailure(f"No answer ({shown})", is_transient=True)


def _is_about_certificates(error: BaseException | None) -> bool:
    for _ in range(10):
        if error is None:
            return False
        if isinstance(error, ssl.CertificateError):
            return True
        error = error.__cause__ or error.__context__
    return False
