"""What failed requests and statuses mean: step errors."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.masking import mask_url
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.exceptions import PermanentStepError, StepError, TransientStepError

__all__ = ["classify_response", "network_error", "parse_retry_after", "request_details"]

_MAX_SHOWN: Final = 500


def request_details(method: str, url: str, status: int | None = None) -> dict[str, Any]:
    """Return a request as ``errorDetails`` have it, secrets masked by the names of parameters."""
    details: dict[str, Any] = {"method": method, "url": mask_url(url)}
    if status is not None:
        details["status"] = status
    return details


@dataclass(frozen=True, slots=True)
class _NetworkFailure:
    """What a failed request means.

    Attributes:
        raised: exceptions of the client library.
        error: the step error that they become.
        message: format of its message; can contain ``{call}``, ``{reason}`` and ``{timeout}``.
    """

    raised: tuple[type[Exception], ...]
    error: type[StepError]
    message: str


@functools.cache
def _network_failures() -> tuple[_NetworkFailure, ...]:
    """Return the table of network failures; the first row that matches counts."""
    import aiohttp

    return (
        _NetworkFailure(
            (TimeoutError,),
            TransientStepError,
            "No response within {timeout:g} seconds from {call}. Increase customConfig.timeoutMs if it needs "
            "more time.",
        ),
        _NetworkFailure(
            (ssl.CertificateError, aiohttp.ClientConnectorCertificateError),
            PermanentStepError,
            "Server certificate is not trusted ({call}): {reason}. Check the host of the URL, or install the "
            "certificate's issuer on the machine.",
        ),
        _NetworkFailure(
            (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError),
            PermanentStepError,
            "Request cannot be sent ({call}): {reason}.",
        ),
        _NetworkFailure((Exception,), TransientStepError, "{reason} ({call})."),
    )


def network_error(error: Exception, method: str, url: str, timeout: float) -> StepError:
    """Return what the client library raised as a step error."""
    failure = next(row for row in _network_failures() if isinstance(error, row.raised))
    message = failure.message.format(
        call=f"{method} {mask_url(url)}", reason=_reason(error, url), timeout=timeout
    )
    return failure.error(message, details=request_details(method, url))


def _reason(error: Exception, url: str) -> str:
    message = mask_url(str(error).replace(url, mask_url(url))).rstrip(".")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def classify_response(
    method: str,
    url: str,
    response: HttpResponse,
    masks: SecretMasks | None = None,
    more_secrets: Sequence[str] = (),
) -> None:
    """Return if the status is 2xx.

    Args:
        method: of the request.
        url: of the request.
        response: the response.
        masks: mask secrets that the body echoes: before it is cut, as a cut secret cannot be found; None:
            there are none.
        more_secrets: further values that the body must not show.

    Raises:
        TransientStepError: the status is 429 or 5xx; with ``retry_after`` if the server sent it.
        PermanentStepError: any other status.
    """
    if 200 <= response.status < 300:
        return
    masks = masks or SecretMasks()
    body = masks.beginning(response.body, _MAX_SHOWN, more_secrets)
    message = f"{response.status} from {method} {mask_url(url)}"
    message += f": {body}" if body else " with an empty body."
    details = {**request_details(method, url, response.status), "body": body}
    if response.status == 429 or response.status >= 500:
        raise TransientStepError(message, details=details, retry_after=parse_retry_after(response))
    if 300 <= response.status < 400 and "location" in response.headers:
        message += f" (location: {mask_url(response.headers['location'])})"
    raise PermanentStepError(message, details=details)


def parse_retry_after(response: HttpResponse) -> float | None:
    """Return the seconds that a response asks to wait, at least 0; None without a valid ``Retry-After``.

    A date is compared with the server's clock (the ``Date`` header) if it is sent, as clocks differ.
    """
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    until = _parse_http_date(value)
    if until is None:
        return None
    now = _parse_http_date(response.headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _parse_http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
