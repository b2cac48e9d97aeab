"""What the servers of all vendors have in common: parsed requests, replies and errors."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec

from demo.model_servers.behaviour import Behaviour, CalledTool

__all__ = [
    "Asked",
    "Call",
    "Dialect",
    "ModelApiError",
    "Reply",
    "Strict",
    "StrictCamel",
    "bearer_token",
    "check_base64",
    "decode_strictly",
    "identifier",
]

T = TypeVar("T")


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object of a request; unknown fields are errors."""


class StrictCamel(Strict, frozen=True, kw_only=True, rename="camel"):
    """The same, with names such as ``maxTokens``."""


class ModelApiError(Exception):
    """A request is rejected.

    Attributes:
        status: the HTTP status.
        code: the vendor's code or type; empty for the usual one of the status.
        param: the field that is wrong, if it is one.
        retry_after: seconds until another try can succeed; None if unknown.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request to a model.

    Attributes:
        path: decoded.
        place: the parts of the path that the route names, such as ``model``.
        query: of the URL.
        headers: case does not matter.
        body: as it was sent.
        number: of the request, from 1.
    """

    path: str
    place: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to a model, without its vendor.

    Attributes:
        model: its name.
        prompt: all text of the user.
        words: of all text, instructions included.
        media: how many pictures and documents there are.
        functions: names of the functions that the model can call.
        provider_tools: names of the vendor's own tools that it can use.
        needs_tool: whether it must call a function.
        max_tokens: largest length of the answer; None without.
        json_output: whether the vendor promises JSON.
        sampling: names of the sampling parameters that are set.
    """

    model: str
    prompt: str
    words: int
    media: int = 0
    functions: tuple[str, ...] = ()
    provider_tools: tuple[str, ...] = ()
    needs_tool: bool = False
    max_tokens: int | None = None
    json_output: bool = False
    sampling: frozenset[str] = frozenset()

    @property
    def tokens(self) -> int:
        """A word is a token, a medium 100, a tool 10."""
        return self.words + 100 * self.media + 10 * (len(self.functions) + len(self.provider_tools))

    def exceeded(self, behaviour: Behaviour) -> int | None:
        """Return the model's maximum length of an answer, if the request asks for more."""
        allowed = behaviour.max_output_tokens
        return allowed if allowed is not None and (self.max_tokens or 0) > allowed else None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of a model, without its vendor.

    Attributes:
        text: empty for none.
        calls: the functions that it calls.
        incomplete: whether it reached its maximum length.
        input_tokens: of the request, cached ones included.
        output_tokens: of the answer, reasoning included.
        behaviour: that of the model.
    """

    text: str
    input_tokens: int
    output_tokens: int
    behaviour: Behaviour
    calls: tuple[CalledTool, ...] = ()
    incomplete: bool = False


@dataclass(frozen=True, slots=True)
class LimitState:
    """What is left of a limit.

    Attributes:
        limit: of one period.
        remaining: of it.
        reset_seconds: until all of it is available again.
    """

    limit: int
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The state of a model's limits after a request.

    Attributes:
        requests: None without a limit.
        tokens: None without a limit.
        wait_seconds: until a refused request can be served; 0 if it was not refused.
    """

    requests: LimitState | None = None
    tokens: LimitState | None = None
    wait_seconds: float = 0.0


class Dialect(Protocol):
    """The request and response formats of one vendor."""

    def authorize(self, call: Call, key: str | None) -> str:
        """Return the key of a request.

        Args:
            call: the request.
            key: the only key that is accepted; None: any key is.

        Raises:
            ModelApiError: the key is missing or wrong.
        """

    def read(self, call: Call) -> Asked:
        """Return what a request asks.

        Raises:
            ModelApiError: a field is missing, unknown or wrong.
        """

    def check(self, asked: Asked, behaviour: Behaviour) -> None:
        """Raise ModelApiError if the model does not take the request."""

    def answer(self, asked: Asked, reply: Reply, call: Call) -> Mapping[str, Any]:
        """Return the body of an answer."""

    def error(self, error: ModelApiError, call: Call) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """Return the body and the headers of an error."""

    def limit_headers(self, limits: Limits) -> Mapping[str, str]:
        """Return the rate limit headers; none if the vendor has none."""


@dataclass(frozen=True)
class Found:
    """Texts and media in the messages of a request, counted as they are found."""

    texts: list[str] = field(default_factory=list)
    media: list[str] = field(default_factory=list)

    def asked(self, others: Iterable[str], **fields: Any) -> Asked:
        """Return what the request asks.

        Args:
            others: texts that count as words, but are not the prompt.
            fields: the other fields.
        """
        words = sum(len(text.split()) for text in (*self.texts, *others))
        return Asked(prompt="\n".join(self.texts), words=words, media=len(self.media), **fields)


def decode_strictly(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return a decoded request body.

    Raises:
        ModelApiError: it is not JSON, or not what the decoder expects; with status 400.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message, _, location = str(error).partition(" - at `$")
        path = location.rstrip("`").lstrip(".")
        if message.startswith("Object contains unknown field"):
            name = message.split("`")[1]
            raise ModelApiError(
                400, name, code="unknown field", param=f"{path}.{name}".lstrip(".")
            ) from error
        raise ModelApiError(400, f"{path}: {message}" if path else message, param=path or None) from error
    except msgspec.DecodeError as error:
        raise ModelApiError(400, f"The body is not valid JSON: {error}") from error


def bearer_token(call: Call) -> str:
    """Return the token of ``Authorization: Bearer``; empty without."""
    scheme, _, token = call.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def check_base64(data: str, field_name: str) -> None:
    """Raise ModelApiError unless a string is Base64 of something."""
    try:
        if base64.b64decode(data, validate=True):
            return
    except (binascii.Error, ValueError) as error:
        raise ModelApiError(400, f"{field_name}: invalid base64 data", param=field_name) from error
    raise ModelApiError(400, f"{field_name}: must not be empty", param=field_name)


def identifier(prefix: str, number: int) -> str:
    """Return an id in the manner of the vendors, the same for the same request number."""
    return f"{prefix}{number:024d}"
