"""What to send after a redirect, and what another host must not get."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from airflow_allma.engine.http_options import DEFAULT_OPTIONS, HttpOptions
from airflow_allma.engine.masking import looks_secret_in_request, mask_url
from airflow_allma.exceptions import PermanentStepError

if TYPE_CHECKING:
    from yarl import URL

__all__ = ["MAX_REDIRECTS", "REDIRECTS", "SentRequest", "redirected"]

MAX_REDIRECTS: Final = 10
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""The statuses that are followed if the response has a location."""

_BODY_HEADERS: Final = frozenset(
    {"content-encoding", "content-language", "content-length", "content-location", "content-type"}
)

# Values of Authorization, which gateways also read from headers of other names.
_CREDENTIALS: Final = re.compile(
    r"\s*(?:apikey|aws4-hmac-sha256|basic|bearer|digest|negotiate|token)\s", re.IGNORECASE
)


class SentRequest(msgspec.Struct, frozen=True):
    """A request of a chain of redirects.

    Attributes:
        method: in upper case.
        url: absolute.
        headers: all that the step sets.
        body: None: no body.
        options: TLS and such, and the headers that only the first host gets.
    """

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None
    options: HttpOptions = DEFAULT_OPTIONS


def redirected(request: SentRequest, status: int, location: str) -> SentRequest:
    """Return the request that follows a redirect.

    Method and body change as in browsers: 303 becomes GET, and so does a POST after 301 and 302. To another
    host, to another port or from https to http, ``Host``, headers that are or look secret and a client's
    certificate are not sent; and a body is not sent at all, as the step's author chose its receiver.

    Args:
        request: what was sent.
        status: one of ``REDIRECTS``.
        location: the header of the response.

    Raises:
        PermanentStepError: the body would go to another host.
        ValueError: ``location`` is not a URL.
    """
    from yarl import URL

    method, headers, body = request.method, dict(request.headers), request.body
    if (status == 303 and method != "HEAD") or (status in {301, 302} and method == "POST"):
        method, body = "GET", None
        headers = {name: value for name, value in headers.items() if name.lower() not in _BODY_HEADERS}
    url = request.url.join(URL(location))
    if _is_same_origin(request.url, url):
        if request.url.raw_user is not None and url.raw_user is None:
            url = url.with_user(request.url.user).with_password(request.url.password)
        return SentRequest(method, url, headers, body, request.options)
    if body is not None:
        where = mask_url(str(url))
        raise PermanentStepError(
            f"{status} from {method} {mask_url(str(request.url))} redirects to another host, {where}, which "
            "would receive the request's body. Nothing was sent there. If that host may have the body, write "
            "its URL into the step.",
            details={
                "method": method,
                "url": mask_url(str(request.url)),
                "status": status,
                "location": where,
            },
        )
    kept = {
        name: value
        for name, value in headers.items()
        # A Host header names the host that the step's author chose, not this one.
        if not (
            looks_secret_in_request(name)
            or _CREDENTIALS.match(value)
            or name.lower() == "host"
            or name.lower() in request.options.secret_headers
        )
    }
    return SentRequest(method, url, kept, None, request.options.for_other_host())


def _is_same_origin(sent: URL, target: URL) -> bool:
    if sent.host != target.host:
        return False
    if (sent.scheme, sent.port) == (target.scheme, target.port):
        return True
    # The usual upgrade of a host to TLS.
    return (sent.scheme, target.scheme) == ("http", "https") and (sent.port, target.port) == (80, 443)
