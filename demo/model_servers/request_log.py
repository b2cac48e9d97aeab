"""What the servers were asked and what they answered."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

__all__ = ["LoggedRequest", "RequestLog"]


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request.

    Attributes:
        number: from 1, in the order of arrival.
        at: when it arrived, in seconds of Unix time.
        path: with its query, as it was sent.
        headers: with the key; names in lower case.
        content: the body.
        model: empty if the request was rejected before it was parsed.
        status: of the answer; 0 if there was none.
        seconds: until the answer was ready.
    """

    number: int
    at: float
    path: str
    headers: Mapping[str, str]
    content: bytes
    model: str
    status: int
    seconds: float

    @property
    def body(self) -> Any:
        """The body as JSON; as text if it is not JSON."""
        try:
            return msgspec.json.decode(self.content)
        except msgspec.DecodeError:
            return self.content.decode(errors="replace")

    def as_dict(self) -> dict[str, Any]:
        """Return the request as JSON."""
        return {
            "number": self.number,
            "at": self.at,
            "path": self.path,
            "headers": dict(self.headers),
            "body": self.body,
            "model": self.model,
            "status": self.status,
            "seconds": self.seconds,
        }


@dataclass
class RequestLog:
    """The last requests, and counts of all of them.

    Attributes:
        keep: how many requests are kept.
    """

    keep: int
    calls: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    first: float = 0.0
    last: float = 0.0
    requests: deque[LoggedRequest] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.requests = deque(maxlen=self.keep)

    def begin(self) -> int:
        """Count a request that arrived and return its number."""
        self.calls += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        if self.calls == 1:
            self.first = time.time()
        return self.calls

    def end(self, request: LoggedRequest) -> None:
        """Record a request with its answer."""
        self.in_flight = max(0, self.in_flight - 1)
        self.statuses[request.status] += 1
        self.models[request.model] += 1
        self.last = time.time()
        if self.keep:
            self.requests.append(request)

    def stats(self) -> dict[str, Any]:
        """Return the counts as JSON; ``first`` is when the first request arrived, ``last`` when one ended."""
        return {
            "calls": self.calls,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "models": dict(self.models),
            "first": self.first,
            "last": self.last,
        }

    def clear(self) -> None:
        """Forget all requests; those that are being answered stay in flight."""
        self.calls, self.max_in_flight = 0, self.in_flight
        self.statuses.clear()
        self.models.clear()
        self.requests.clear()
