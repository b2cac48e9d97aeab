"""HTTP requests of steps: sent by the client of the services, and recorded as what the step did outside."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from airflow_allma.engine.http import HttpClient, HttpResponse
from airflow_allma.engine.http_options import DEFAULT_OPTIONS, HttpOptions
from airflow_allma.engine.outside_calls import HttpCall, OutsideCalls
from airflow_allma.exceptions import StepError

__all__ = ["recorded_request"]


async def recorded_request(
    calls: OutsideCalls,
    client: HttpClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
    timeout: float,
    options: HttpOptions = DEFAULT_OPTIONS,
    shown_url: str | None = None,
) -> HttpResponse:
    """Send a request as ``HttpClient.request`` does, and add it to the step's calls, successful or not.

    Args:
        calls: ``StepCall.calls`` or ``ModuleContext.calls``.
        client: the client.
        method: in upper case.
        url: absolute and encoded.
        headers: sent unchanged.
        body: None: no body.
        timeout: in seconds.
        options: TLS and such.
        shown_url: the URL without secrets, for the record; None: the URL.

    Raises:
        StepError: what the client raises.
    """
    started = perf_counter()
    response, failure = None, None
    try:
        response = await client.request(
            method, url, headers=headers, body=body, timeout=timeout, options=options
        )
    except BaseException as error:
        failure = error
        raise
    finally:
        calls.add(
            HttpCall(
                method,
                shown_url or url,
                _status_of(failure) if response is None else response.status,
                (perf_counter() - started) * 1000,
                len(body or b""),
                0 if response is None else len(response.body),
                None if failure is None else type(failure.__cause__ or failure).__name__,
            )
        )
    return response


def _status_of(failure: BaseException | None) -> int | None:
    """Return the status of a response that could not be read, such as one that is too large."""
    status = failure.details.get("status") if isinstance(failure, StepError) else None
    return status if isinstance(status, int) else None
