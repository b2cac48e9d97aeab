"""The HTTP server: which vendor a path belongs to, and how a request is answered."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from demo.model_servers.anthropic import AnthropicDialect
from demo.model_servers.behaviour import Behaviour, parse_behaviours
from demo.model_servers.converse import ConverseDialect
from demo.model_servers.exchange import Asked, Call, Dialect, Limits, ModelApiError
from demo.model_servers.gemini import GeminiDialect
from demo.model_servers.google_tokens import IssuedTokens
from demo.model_servers.openai import OpenAiDialect
from demo.model_servers.rate_limits import RateLimiter
from demo.model_servers.replies import make_reply
from demo.model_servers.request_log import LoggedRequest, RequestLog

__all__ = ["ANY_MODEL", "ModelService"]

ANY_MODEL = "*"
"""The behaviour of all models that have none of their own."""
HTML = b"<!doctype html><html><head><title>Bad Gateway</title></head><body>Bad Gateway</body></html>"
HANG_POLL_SECONDS = 0.05
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is sent: a status, a body and headers, or a fault."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    fault: str = ""
    model: str = ""


class _Model:
    """The state of one model."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.limiter = RateLimiter(behaviour.limit) if behaviour.limit else None
        self._served = 0

    def next_outcome(self) -> int | str:
        """Return the status or the fault of the next request."""
        self._served += 1
        behaviour, number = self.behaviour, self._served
        if behaviour.outcomes:
            return behaviour.outcomes[min(number, len(behaviour.outcomes)) - 1]
        rate = behaviour.error_rate
        return behaviour.error_status if int(number * rate) > int((number - 1) * rate) else 200


class ModelService:
    """The models of all vendors: `handle` answers requests.

    The package's docstring lists the paths.

    Args:
        behaviours: model -> behaviour; `ANY_MODEL` is for all others, and without it they do not exist.
        key: the only API key (AWS: access key id) that is accepted; None: any key is.
        keep: how many requests are kept for ``GET /requests``.
    """

    def __init__(
        self, behaviours: Mapping[str, Behaviour] | None = None, *, key: str | None = None, keep: int = 1000
    ) -> None:
        self.log = RequestLog(keep)
        self.tokens = IssuedTokens()
        self.key = key
        self._behaviours: dict[str, Behaviour] = {}
        self._models: dict[str, _Model] = {}
        self.configure({ANY_MODEL: Behaviour()} if behaviours is None else behaviours)
        openai, azure = OpenAiDialect(), OpenAiDialect(azure=True)
        gemini, vertex = GeminiDialect(), GeminiDialect(self.tokens)
        self._paths: dict[str, Dialect] = {
            "/v1/chat/completions": openai,
            "/openai/v1/chat/completions": azure,
            "/v1/messages": AnthropicDialect(),
        }
        self._patterns: tuple[tuple[re.Pattern[str], Dialect], ...] = (
            (re.compile(r"/openai/deployments/(?P<deployment>[^/]+)/chat/completions"), azure),
            (re.compile(r"/v1(?:beta)?/models/(?P<model>[^/:]+):generateContent"), gemini),
            (
                re.compile(
                    r"/v1(?:beta1)?/projects/[^/]+/locations/[^/]+/publishers/google/models/"
                    r"(?P<model>[^/:]+):generateContent"
                ),
                vertex,
            ),
            (re.compile(r"/model/(?P<model>[^/]+)/converse"), ConverseDialect()),
        )
        self._stop = asyncio.Event()

    def configure(self, behaviours: Mapping[str, Behaviour]) -> None:
        """Set the behaviours of some models; their outcomes and limits begin anew."""
        self._behaviours.update(behaviours)
        for name in list(self._models):
            if name in behaviours or (ANY_MODEL in behaviours and name not in self._behaviours):
                del self._models[name]

    def stop(self) -> None:
        """End the requests that hang."""
        self._stop.set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        path = request.raw_path
        found = self._find(path)
        if found is None or request.method != "POST":
            return await self._control(request)
        dialect, place = found
        arrived, started = time.time(), time.perf_counter()
        number = self.log.begin()
        content = await request.content.read()
        query = request.query if "?" in path else {}
        call = Call(path, place, query, request.headers, content, number)
        answer = _Answer(0, b"", {}, "reset")
        try:
            answer = await self._answer(dialect, call)
        finally:
            self.log.end(
                LoggedRequest(
                    number,
                    arrived,
                    path,
                    {name.lower(): value for name, value in request.headers.items()} if self.log.keep else {},
                    content if self.log.keep else b"",
                    answer.model,
                    0 if answer.fault in {"reset", "hang"} else answer.status,
                    time.perf_counter() - started,
                )
            )
        if answer.fault:
            return await self._fail(request, answer)
        return web.Response(body=answer.body, status=answer.status, headers={**_JSON, **answer.headers})

    def _find(self, raw_path: str) -> tuple[Dialect, Mapping[str, str]] | None:
        # Not `request.path`: parsing the URL takes a tenth of the time of a request.
        dialect = self._paths.get(raw_path)
        if dialect is not None:
            return dialect, {}
        path = raw_path.partition("?")[0]
        if dialect := self._paths.get(path):
            return dialect, {}
        # The model of an ARN has slashes, which are percent-encoded; so can be the colon before the method.
        encoded = path.replace("%3A", ":").replace("%3a", ":")
        for pattern, owner in self._patterns:
            if match := pattern.fullmatch(encoded):
                return owner, {name: unquote(value) for name, value in match.groupdict().items()}
        return None

    async def _answer(self, dialect: Dialect, call: Call) -> _Answer:
        key, model_name, limits, behaviour = "", "", Limits(), Behaviour()
        try:
            key = dialect.authorize(call, self.key)
            asked = dialect.read(call)
            model_name = asked.model
            model = self._model(model_name)
            behaviour = model.behaviour
            dialect.check(asked, behaviour)
            limits = _admit(model, asked)
            outcome = model.next_outcome()
            if behaviour.latency:
                await asyncio.sleep(behaviour.latency)
            _check_outcome(outcome, behaviour)
        except ModelApiError as error:
            return _Refusal(dialect, call, key, behaviour, model_name).answer(error)
        headers = dialect.limit_headers(limits) if behaviour.limit and behaviour.limit.headers else {}
        body = msgspec.json.encode(dialect.answer(asked, make_reply(asked, behaviour), call))
        return _Answer(200, body, headers, "" if outcome == 200 else str(outcome), model_name)

    def _model(self, name: str) -> _Model:
        model = self._models.get(name)
        if model is None:
            behaviour = self._behaviours.get(name, self._behaviours.get(ANY_MODEL))
            if behaviour is None:
                raise ModelApiError(404, f"The model {name} does not exist.")
            model = self._models[name] = _Model(behaviour)
        return model

    async def _fail(self, request: web.BaseRequest, answer: _Answer) -> web.StreamResponse:
        """Send a fault in place of an answer."""
        match answer.fault:
            case "html":
                return web.Response(body=HTML, content_type="text/html")
            case "empty":
                return web.Response(body=b"", content_type="application/json")
            case "garbage":
                return web.json_response(["not", "an", "answer"])
            case "cut":
                response = web.StreamResponse(headers={"Content-Type": "application/json"})
                response.content_length = len(answer.body)
                await response.prepare(request)
                await response.write(answer.body[: len(answer.body) // 2])
            case "hang":
                await self._hang(request)
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=500)

    async def _hang(self, request: web.BaseRequest) -> None:
        """Wait until the client leaves, or the server ends."""
        while request.transport is not None:
            try:
                async with asyncio.timeout(HANG_POLL_SECONDS):
                    await self._stop.wait()
            except TimeoutError:
                continue
            return

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request that is not for a model."""
        match request.method, request.path:
            case "GET", "/health":
                return _json({"status": "ok"})
            case "GET", "/stats":
                return _json(self.log.stats() | {"tokens_issued": self.tokens.issued})
            case "GET", "/requests":
                return _json([logged.as_dict() for logged in self.log.requests])
            case "DELETE", "/requests":
                self.log.clear()
                return _json({})
            case "PUT", "/behaviour":
                try:
                    self.configure(parse_behaviours(await request.content.read()))
                except msgspec.MsgspecError as error:
                    return _json({"error": str(error)}, 400)
                return _json({})
            case "POST", "/token":
                status, body = self.tokens.issue(await request.content.read())
                return _json(body, status)
        return _json({"error": {"message": f"{request.method} {request.path} does not exist."}}, 404)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A request that is rejected, with what its response depends on."""

    dialect: Dialect
    call: Call
    key: str
    behaviour: Behaviour
    model: str

    def answer(self, error: ModelApiError) -> _Answer:
        """Return the answer for an error."""
        behaviour = self.behaviour
        message = behaviour.error_message or str(error)
        if behaviour.echo_key:
            message = f"{message or 'The request failed.'} The key was {self.key}."
        shown = ModelApiError(
            error.status, message, code=error.code, param=error.param, retry_after=error.retry_after
        )
        body, vendor_headers = self.dialect.error(shown, self.call)
        headers = dict(vendor_headers)
        if isinstance(error, _OverLimitError) and behaviour.limit is not None:
            if behaviour.limit.headers:
                headers |= self.dialect.limit_headers(error.limits)
            if behaviour.limit.retry_after:
                headers["Retry-After"] = str(max(1, math.ceil(error.limits.wait_seconds)))
        if behaviour.retry_after:
            headers["Retry-After"] = behaviour.retry_after
        return _Answer(error.status, msgspec.json.encode(body), headers, model=self.model)


class _OverLimitError(ModelApiError):
    """A request is beyond the model's limit."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(429, "", retry_after=limits.wait_seconds)
        self.limits = limits


def _admit(model: _Model, asked: Asked) -> Limits:
    if model.limiter is None:
        return Limits()
    admitted, limits = model.limiter.admit(asked.tokens)
    if not admitted:
        raise _OverLimitError(limits)
    return limits


def _check_outcome(outcome: int | str, behaviour: Behaviour) -> None:
    if isinstance(outcome, int) and outcome != 200:
        raise ModelApiError(outcome, "", code=behaviour.error_code)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
