"""Step errors for failed responses of model providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, read_json
from airflow_allma.common.printable import printable, shortened
from airflow_allma.engine.http_failures import parse_retry_after, request_details
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.llm.model_connections import ModelEndpoint
from airflow_allma.engine.llm.model_request import ModelName, RateLimitedError, RateLimits
from airflow_allma.engine.llm.rate_limit_headers import parse_duration
from airflow_allma.engine.masking import mask_url
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.exceptions import PermanentStepError, StepError, TransientStepError

__all__ = ["ModelExchange", "ProviderError", "foreign_response", "provider_error", "response_error"]

_MAX_SHOWN: Final = 500
_MAX_BEGINNING: Final = 100
_MAX_NAME: Final = 200
_NO_QUOTA: Final = frozenset({"billing_hard_limit_reached", "billing_not_active", "insufficient_quota"})
_REQUEST_IDS: Final = ("x-request-id", "request-id", "apim-request-id")


@dataclass(frozen=True, slots=True)
class _Rejection:
    """A response that stays the same until somebody changes something.

    Attributes:
        statuses: the HTTP statuses that mean it.
        codes: the provider's error codes that mean it, whatever the status.
        name: the name of the step error.
        message: what is wrong and what to do; can contain ``{connection}``, ``{model}``, ``{host}`` and
            ``{key_field}``.
        is_quoted: whether the provider's message is shown.
    """

    statuses: frozenset[int]
    codes: frozenset[str]
    name: str
    message: str
    is_quoted: bool = True


_REJECTIONS: Final = (
    _Rejection(
        frozenset({401}),
        frozenset({"API_KEY_INVALID", "authentication_error", "invalid_api_key"}),
        "ModelAuthenticationError",
        "the key of connection {connection!r} was rejected. Correct {key_field}",
        # The provider's message contains a part of the key.
        is_quoted=False,
    ),
    _Rejection(
        frozenset({404}),
        frozenset({"DeploymentNotFound", "model_not_found"}),
        "ModelNotFoundError",
        "model {model!r} does not exist at {host}, or the key of connection {connection!r} may not use it. "
        "Check `modelId` and the host of the connection",
    ),
    _Rejection(
        frozenset({403}),
        frozenset(),
        "ModelAuthenticationError",
        "the key of connection {connection!r} may not use model {model!r}. Check the permissions of the key",
    ),
    _Rejection(
        frozenset(),
        _NO_QUOTA,
        "InsufficientQuotaError",
        "the account of connection {connection!r} has no quota left. Check its plan and billing",
    ),
)
"""The first row that matches is used."""


@dataclass(frozen=True, slots=True)
class ModelExchange:
    """A request to a model, as errors name it.

    Attributes:
        model: the model.
        endpoint: the provider's server.
        url: the request's URL, without secrets.
        masks: mask secrets that the response may echo.
    """

    model: ModelName
    endpoint: ModelEndpoint
    url: str
    masks: SecretMasks

    def details(self, status: int) -> dict[str, Any]:
        """Return ``errorDetails`` for a response with a status."""
        return {
            **request_details("POST", self.url, status),
            "provider": self.model.provider.value,
            "model": self.model.model_id,
        }

    def shown(self, value: str) -> str:
        """Return a header's value or a name as messages show it: masked, printable and shortened."""
        return shortened(printable(self.masks.text(value)), _MAX_NAME)


@dataclass(frozen=True, slots=True)
class ProviderError:
    """An error in the body of a response.

    Attributes:
        message: the provider's message, masked, on one line and shortened; the beginning of the body if that
            has no message.
        codes: the provider's codes, types and reasons.
        retry_after: seconds to wait before a retry, as the body says; None if it does not.
    """

    message: str = ""
    codes: frozenset[str] = frozenset()
    retry_after: float | None = None


def provider_error(response: HttpResponse, masks: SecretMasks) -> ProviderError:
    """Return the error in a response of any known provider or compatible server."""
    try:
        body = read_json(response.body, "utf-8").value if response.body else None
    except (NotJsonError, UnreadableJsonError):
        body = None
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        message = error if isinstance(error, str) else None
        return ProviderError(_shown(response.body if message is None else message.encode(), masks))
    message = next((error[name] for name in ("message", "detail", "msg") if error.get(name)), None)
    encoded = message.encode(errors="replace") if isinstance(message, str) else response.body
    details = [one for one in _list(error.get("details")) if isinstance(one, dict)]
    codes = [error.get(name) for name in ("code", "type", "status")]
    codes += [detail.get("reason") for detail in details]
    waits = [parse_duration(wait) for one in details if isinstance(wait := one.get("retryDelay"), str)]
    return ProviderError(
        _shown(encoded, masks),
        frozenset(code for code in codes if isinstance(code, str) and len(code) <= _MAX_NAME),
        next((wait for wait in waits if wait is not None), None),
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _shown(data: bytes, masks: SecretMasks) -> str:
    return printable(masks.beginning(data, _MAX_SHOWN))


def response_error(
    response: HttpResponse, sent: ModelExchange, limits: RateLimits | None = None
) -> StepError:
    """Return the step error for a response whose status is not 2xx.

    Args:
        response: the response.
        sent: the request.
        limits: the rate limits in the response's headers.
    """
    error = provider_error(response, sent.masks)
    status, details = response.status, sent.details(response.status)
    if error.codes:
        details["codes"] = sorted(map(sent.shown, error.codes))
    if request_id := next((value for name in _REQUEST_IDS if (value := response.headers.get(name))), None):
        details["requestId"] = sent.shown(request_id)
    if status == 429 and not error.codes & _NO_QUOTA:
        return RateLimitedError(
            f"429 from {_call(sent)}{_colon(error.message)}",
            details=details,
            retry_after=_retry_after(response, error),
            limits=limits,
        )
    if status == 408 or status >= 500:
        return TransientStepError(
            f"{status} from {_call(sent)}{_colon(error.message)}",
            details=details,
            retry_after=_retry_after(response, error),
        )
    return _permanent(response, sent, error, details)


def _call(sent: ModelExchange) -> str:
    return f"POST {mask_url(sent.url)}"


def _colon(message: str) -> str:
    return f": {message}" if message else " with an empty body."


def _retry_after(response: HttpResponse, error: ProviderError) -> float | None:
    milliseconds = response.headers.get("retry-after-ms", "")
    if milliseconds.isascii() and milliseconds.isdigit():
        # Not as an int: headers can have thousands of digits.
        return float(milliseconds) / 1000
    # OpenAI also sends fractions of a second, which HTTP does not allow.
    after = parse_retry_after(response)
    if after is None:
        after = parse_duration(response.headers.get("retry-after", "").strip())
    return error.retry_after if after is None else after


def _permanent(
    response: HttpResponse, sent: ModelExchange, error: ProviderError, details: dict[str, Any]
) -> PermanentStepError:
    """Return an error that no retry can fix; it says what to change."""
    status, host = response.status, sent.endpoint.host
    for row in _REJECTIONS:
        if status in row.statuses or error.codes & row.codes:
            model = shortened(printable(sent.model.model_id), _MAX_NAME)
            message = row.message.format(
                connection=sent.endpoint.connection,
                model=model,
                host=host,
                key_field=sent.endpoint.key_field,
            )
            return PermanentStepError(
                f"{status} from {host}: {message}{_says(error) if row.is_quoted else '.'}",
                details=details,
                error_name=row.name,
            )
    message = f"{status} from {_call(sent)}{_colon(error.message)}"
    if 300 <= status < 400 and "location" in response.headers:
        message += f" (location: {sent.shown(mask_url(response.headers['location']))})"
    return PermanentStepError(message, details=details)


def _says(error: ProviderError) -> str:
    return f" (the provider says: {error.message})" if error.message else "."


def foreign_response(response: HttpResponse, sent: ModelExchange, reason: str) -> StepError:
    """Return the step error for a response with status 2xx that is not in the provider's format.

    Args:
        response: the response.
        sent: the request.
        reason: what is wrong with it: the end of a sentence.
    """
    # Gateways report errors of the provider with status 200.
    if status := _status_in(response):
        return response_error(msgspec.structs.replace(response, status=status), sent)
    content_type = response.headers.get("content-type") or "no content type"
    beginning = printable(sent.masks.beginning(response.body, _MAX_BEGINNING))
    provider = sent.model.provider.value
    return PermanentStepError(
        f"{sent.endpoint.host} answered with {sent.shown(content_type)}, which is "
        f"not an answer of {provider}: {reason}. Check the host of connection "
        f"{sent.endpoint.connection!r}; a proxy may have answered. The answer begins with {beginning!r}.",
        details=sent.details(response.status),
    )


def _status_in(response: HttpResponse) -> int | None:
    try:
        body = read_json(response.body, "utf-8").value
    except (NotJsonError, UnreadableJsonError):
        return None
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else None
