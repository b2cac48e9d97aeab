"""An HTTP client in memory, for tests of flows and of everything above the HTTP seam."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_allma.engine.http import HttpResponse, mask_url
from airflow_allma.exceptions import PermanentStepError

__all__ = ["FakeHttpClient", "RecordedRequest", "json_response"]


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that the fake has received."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout: float

    def json(self) -> Any:
        """The body's JSON value."""
        return msgspec.json.decode(self.body or b"")


Answer = HttpResponse | BaseException | Callable[[RecordedRequest], HttpResponse]


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """An answer whose body is JSON."""
    return HttpResponse(
        status, {"content-type": "application/json", **(headers or {})}, msgspec.json.encode(value)
    )


class FakeHttpClient:
    """Answers from a table and keeps what it was asked.

    ``route`` says how a method and URL are answered: by responses, by exceptions that are raised, or by a
    function of the request. Several answers are given one after the other; the last one stays.

    Attributes:
        requests: every request so far, in order.
        closed: whether ``close`` was called after the last request.
    """

    def __init__(self) -> None:
        self.requests: list[RecordedRequest] = []
        self.closed = False
        self._answers: dict[tuple[str, str], list[Answer]] = defaultdict(list)

    def route(self, method: str, url: str, *answers: Answer) -> FakeHttpClient:
        """Add answers for a method and a URL; a URL that ends in ``*`` stands for all that start so."""
        self._answers[method, url].extend(answers)
        return self

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> HttpResponse:
        """Answer as routed.

        Raises:
            PermanentStepError: there is no route; names those there are.
        """
        self.closed = False
        request = RecordedRequest(method, url, dict(headers), body, timeout)
        self.requests.append(request)
        answers = self._find(method, url)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, HttpResponse) else answer(request)

    def _find(self, method: str, url: str) -> list[Answer]:
        exact = self._answers.get((method, url))
        if exact:
            return exact
        for (known_method, known_url), answers in self._answers.items():
            if known_method == method and known_url.endswith("*") and url.startswith(known_url[:-1]):
                return answers
        routes = ", ".join(f"{known_method} {known_url}" for known_method, known_url in self._answers)
        raise PermanentStepError(f"The fake has no answer for {method} {mask_url(url)}; it has: {routes}.")

    async def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True
