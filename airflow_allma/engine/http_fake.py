"""An in-memory HTTP client, for tests of flows and of everything above the HTTP protocol."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_allma.engine.http_options import DEFAULT_OPTIONS, HttpOptions
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.http_stream import HttpStream
from airflow_allma.engine.masking import mask_url
from airflow_allma.exceptions import PermanentStepError

__all__ = ["FakeHttpClient", "RecordedRequest", "json_response"]


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that the fake received."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout: float
    options: HttpOptions = DEFAULT_OPTIONS

    def json(self) -> Any:
        """Return the JSON value of the body."""
        return msgspec.json.decode(self.body or b"")


Reply = HttpResponse | BaseException | Callable[[RecordedRequest], HttpResponse]


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return a response with a JSON body."""
    return HttpResponse(
        status, {"content-type": "application/json", **(headers or {})}, msgspec.json.encode(value)
    )


class _Body:
    """A body as ``HttpStream`` reads it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self, size: int) -> bytes:
        data, self._body = self._body[:size], self._body[size:]
        return data

    async def readany(self) -> bytes:
        return await self.read(len(self._body))


class FakeHttpClient:
    """An HTTP client that replies from a table and records the requests.

    ``route`` sets the replies for a method and a URL: responses, exceptions to raise, or functions of the
    request. Several replies are used one after the other; the last one is repeated.

    Attributes:
        requests: all requests so far, in order.
        closed: whether ``close`` was called after the last request.
    """

    def __init__(self) -> None:
        self.requests: list[RecordedRequest] = []
        self.closed = False
        self._replies: dict[tuple[str, str], list[Reply]] = defaultdict(list)

    def route(self, method: str, url: str, *replies: Reply) -> FakeHttpClient:
        """Add replies for a method and a URL; a URL that ends in ``*`` matches all URLs with that prefix."""
        self._replies[method, url].extend(replies)
        return self

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
        """Record the request and return the reply of its route.

        Raises:
            PermanentStepError: no route matches; the message lists the routes.
        """
        self.closed = False
        request = RecordedRequest(method, url, dict(headers), body, timeout, options)
        self.requests.append(request)
        replies = self._find_replies(method, url)
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, BaseException):
            raise reply
        return reply if isinstance(reply, HttpResponse) else reply(request)

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
        """Record the request and open the reply of its route.

        Raises:
            PermanentStepError: no route matches; the message lists the routes.
        """
        response = await self.request(
            method, url, headers=headers, body=None, timeout=timeout, options=options
        )
        yield HttpStream((method, url), response.status, response.headers, _Body(response.body), timeout)

    def _find_replies(self, method: str, url: str) -> list[Reply]:
        exact = self._replies.get((method, url))
        if exact:
            return exact
        for (routed_method, routed_url), replies in self._replies.items():
            if routed_method == method and routed_url.endswith("*") and url.startswith(routed_url[:-1]):
                return replies
        routes = ", ".join(f"{routed_method} {routed_url}" for routed_method, routed_url in self._replies)
        raise PermanentStepError(f"No route of the fake matches {method} {mask_url(url)}; routes: {routes}.")

    async def close(self) -> None:
        """Record that the client was closed."""
        self.closed = True
