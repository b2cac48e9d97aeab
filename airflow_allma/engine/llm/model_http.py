"""HTTP requests to model providers, and how their responses are decoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, read_json
from airflow_allma.engine.http_calls import recorded_request
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.llm.model_connections import ModelEndpoint
from airflow_allma.engine.llm.model_failures import ModelExchange, foreign_response
from airflow_allma.engine.llm.model_request import ModelRequest
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.engine.steps.call_timeout import timeout_seconds
from airflow_allma.exceptions import PermanentStepError

__all__ = ["DEFAULT_TIMEOUT_SECONDS", "count_of", "post_request", "read_answer", "request_timeout"]

_T = TypeVar("_T")

DEFAULT_TIMEOUT_SECONDS: Final = 600.0
"""The default of the providers' own SDKs; reasoning models take minutes."""

_encode = msgspec.json.Encoder().encode


def request_timeout(request: ModelRequest, of_connection: float | None = None) -> float:
    """Return the time limit of a call in seconds: the step's ``timeoutMs``, else the connection's timeout.

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
    """Send a request; return the response, whatever its status, and the request as errors describe it.

    Args:
        call: the step's call, which records the request.
        request: the request to the model.
        endpoint: headers, timeout and TLS.
        url: the whole URL.
        body: a JSON object; bytes in it are sent as Base64.
        headers: all headers; None for those of the endpoint.

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
    """Return the decoded body of a response with status 2xx.

    Raises:
        StepError: the body is not in the provider's format.
    """
    try:
        return decoder.decode(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _read_slowly(response, decoder, sent, error)


def _read_slowly(
    response: HttpResponse, decoder: msgspec.json.Decoder[_T], sent: ModelExchange, error: Exception
) -> _T:
    # An answer that was cut in the middle of an emoji ends with half a surrogate pair, which msgspec rejects.
    try:
        value = read_json(response.body, "utf-8").value
    except (NotJsonError, UnreadableJsonError) as not_json:
        raise foreign_response(response, sent, f"it is not JSON ({not_json.reason})") from error
    try:
        answer: _T = msgspec.convert(value, decoder.type)
    except msgspec.ValidationError as invalid:
        raise foreign_response(response, sent, f"{invalid}") from error
    return answer


def count_of(usage: Any, *names: str) -> int:
    """Return the sum of token counts; a count that is missing or not a number is 0.

    Args:
        usage: the response's object with counts, or None.
        names: the members to add up.
    """
    if not isinstance(usage, dict):
        return 0
    total = 0
    for name in names:
        value = usage.get(name)
        if isinstance(value, int | float) and 0 <= value < 1e15:
            total += int(value)
    return total
