"""Requests to models over HTTP, and the reading of their responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, read_json
from airflow_allma.engine.http_calls import recorded_request
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.llm.model_connections import ModelEndpoint
from airflow_allma.engine.llm.model_failures import ModelExchange, foreign_answer
from airflow_allma.engine.llm.model_request import ModelRequest
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.engine.steps.call_timeout import timeout_seconds
from airflow_allma.exceptions import PermanentStepError

__all__ = ["DEFAULT_TIMEOUT_SECONDS", "count_of", "post_request", "read_answer", "request_timeout"]

_T = TypeVar("_T")

DEFAULT_TIMEOUT_SECONDS: Final = 600.0
"""As long as the providers' own clients wait; models that think take minutes."""

_encode = msgspec.json.Encoder().encode


def request_timeout(request: ModelRequest, of_connection: float | None = None) -> float:
    """Return the seconds that a call can take: the step's ``timeoutMs``, else the connection's timeout.

    Raises:
        PermanentStepError: ``customConfig.timeoutMs`` is not a number above 0.
    """
    own = timeout_seconds(request.config.get("timeoutMs"))
    return own or of_connection or DEFAULT_TIMEOUT_SECONDS


async def post_request(
    call: StepCall,
    request: ModelRequest,
    endpoint: ModelEndpoint,
    url: str,
    *,
    body: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> tuple[HttpResponse, ModelExchange]:
    """Send a request and return the response, whatever its status, and the request as errors name it.

    Args:
        call: the step's call, which records the request.
        request: what is asked.
        endpoint: where.
        url: the whole URL.
        body: a JSON object; bytes in it are sent as Base64.
        headers: all headers; None: those of the endpoint.

    Raises:
        TransientStepError: no response in time, or a lost connection.
        PermanentStepError: the request cannot be sent.
    """
    try:
        encoded = _encode(body)
    except UnicodeEncodeError as error:
        raise PermanentStepError(
            "The prompt or a tool contains broken Unicode (half of a surrogate pair), which cannot be sent. "
            "Remove it from the data."
        ) from error
    response = await recorded_request(
        call.calls,
        call.services.http,
        "POST",
        url,
        headers=endpoint.headers if headers is None else headers,
        body=encoded,
        timeout=request_timeout(request, endpoint.timeout),
        options=endpoint.options,
    )
    return response, ModelExchange(request.model, endpoint, url, call.services.secrets.masks)


def read_answer(response: HttpResponse, decoder: msgspec.json.Decoder[_T], sent: ModelExchange) -> _T:
    """Return the body of a response with status 2xx as the provider's object.

    Raises:
        StepError: it is not the provider's object.
    """
    try:
        return decoder.decode(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _read_slowly(response, decoder, sent, error)


def _read_slowly(
    response: HttpResponse, decoder: msgspec.json.Decoder[_T], sent: ModelExchange, error: Exception
) -> _T:
    # An answer that ends in the middle of an emoji has half of it as an escape, which is not Unicode.
    try:
        value = read_json(response.body, "utf-8").value
    except (NotJsonError, UnreadableJsonError) as not_json:
        raise foreign_answer(response, sent, f"it is not JSON ({not_json.reason})") from error
    try:
        answer: _T = msgspec.convert(value, decoder.type)
    except msgspec.ValidationError as invalid:
        raise foreign_answer(response, sent, f"{invalid}") from error
    return answer


def count_of(usage: Any, *names: str) -> int:
    """Return a count of tokens, or the sum of several; what is missing or not a number counts as 0.

    Args:
        usage: an object of the response, or None.
        names: its members.
    """
    if not isinstance(usage, dict):
        return 0
    total = 0
    for name in names:
        value = usage.get(name)
        if isinstance(value, int | float) and 0 <= value < 1e15:
            total += int(value)
    return total
