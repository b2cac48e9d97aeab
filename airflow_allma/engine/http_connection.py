"""What an Airflow connection says about HTTP requests, as Airflow's HTTP provider reads it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.http_options import HttpOptions
from airflow_allma.exceptions import PermanentStepError

__all__ = ["HttpConnection", "connection_error"]

_SCHEMES: Final = frozenset({"http", "https"})
_USED: Final = frozenset({"auth", "cert", "headers", "timeout", "verify", "verify_ssl"})
_WORDS: Final[Mapping[str, bool]] = {"true": True, "false": False, "1": True, "0": False}
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f\\]")


@dataclass(frozen=True, slots=True)
class HttpConnection:
    """The parts of requests that a connection provides. Its ``repr`` shows no secrets.

    Attributes:
        id: the connection's id.
        base_url: scheme, host, port and the beginning of the path, without a slash at the end; empty if the
            connection has no host.
        headers: the headers of ``extra.headers``, and ``Authorization``.
        timeout: seconds for a whole request; None: the step's own.
        options: TLS and the time to connect.
        unused: keys of ``extra`` that have no effect here.
    """

    id: str
    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    timeout: float | None
    options: HttpOptions
    unused: tuple[str, ...]

    @classmethod
    def of(cls, secret: ConnectionSecret) -> HttpConnection:
        """Read a connection.

        Raises:
            PermanentStepError: a field of it cannot be used; the message names the field, not its value.
        """
        extra = secret.extra
        connect, timeout = _timeouts(secret)
        verify = extra.get("verify", extra.get("verify_ssl"))
        headers = {**_authorization(secret), **_headers(secret)}
        return cls(
            secret.id,
            _base_url(secret),
            headers,
            timeout,
            HttpOptions(
                _verify(secret, verify),
                _cert(secret),
                connect,
                frozenset(name.lower() for name in headers),
            ),
            tuple(sorted(extra.keys() - _USED)),
        )

    @property
    def origin(self) -> str:
        """Scheme, host and port; empty without a host."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}" if self.base_url else ""


def _base_url(secret: ConnectionSecret) -> str:
    host = secret.host.strip()
    if not host:
        return ""
    if "://" in host:
        url = host
    else:
        # Whoever writes AIRFLOW_CONN_X='https://host' does not mean to send secrets openly.
        scheme = secret.schema or ("https" if secret.kind == "https" else "http")
        url = f"{scheme}://{host}"
    try:
        parts = urlsplit(url)
        has_port = parts.port is not None
    except ValueError:
        raise connection_error(
            secret, "host", "must be a host, or a URL such as https://api.example.com/v2"
        ) from None
    if parts.scheme.lower() not in _SCHEMES:
        raise connection_error(secret, "schema", "must be http or https")
    if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment or _CONTROL.search(url):
        raise connection_error(
            secret,
            "host",
            "must be a host, or a URL without user info and query, such as https://api.example.com/v2",
        )
    if secret.port and not has_port:
        url = f"{parts.scheme}://{parts.netloc}:{secret.port}{parts.path}"
    return url.rstrip("/")


def _authorization(secret: ConnectionSecret) -> dict[str, str]:
    kind = secret.extra.get("auth", "basic")
    if kind == "bearer":
        if not secret.password:
            raise connection_error(
                secret, "password", 'is empty, but extra.auth is "bearer"; set it to the token'
            )
        return {"Authorization": f"Bearer {secret.password}"}
    if kind != "basic":
        raise connection_error(secret, "extra.auth", 'must be "bearer" or "basic"')
    if not secret.login:
        return {}
    if ":" in secret.login:
        raise connection_error(
            secret, "login", "must not contain ':', which ends the login in basic authentication"
        )
    pair = f"{secret.login}:{secret.password}".encode(errors="replace")
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _headers(secret: ConnectionSecret) -> dict[str, str]:
    headers = secret.extra.get("headers", {})
    if not isinstance(headers, Mapping):
        raise connection_error(
            secret, "extra.headers", 'must be an object of strings, such as {"X-Api-Key": "..."}'
        )
    for name, value in headers.items():
        if not isinstance(value, str):
            raise connection_error(secret, f"extra.headers[{name!r}]", "must be a string, in double quotes")
    return dict(headers)


def _verify(secret: ConnectionSecret, value: Any) -> bool | str:
    if value is None or isinstance(value, bool):
        return value is not False
    if isinstance(value, str) and value:
        # In a connection's URI every value is a string.
        return _WORDS.get(value.lower(), value)
    raise connection_error(
        secret, "extra.verify", "must be true, false, or the path of a file of certificates"
    )


def _cert(secret: ConnectionSecret) -> tuple[str, str | None] | None:
    value = secret.extra.get("cert")
    if value is None:
        return None
    if isinstance(value, str) and value:
        return value, None
    if isinstance(value, list) and len(value) == 2 and all(isinstance(file, str) and file for file in value):
        return value[0], value[1]
    raise connection_error(
        secret, "extra.cert", "must be the path of a PEM file, or a list of two: certificate and key"
    )


def _timeouts(secret: ConnectionSecret) -> tuple[float | None, float | None]:
    """Return the seconds to connect, and those of the whole request."""
    value = secret.extra.get("timeout")
    if value is None:
        return None, None
    pair = value if isinstance(value, list) else [None, value]
    seconds = [None if number is None else _seconds(number) for number in pair]
    if len(pair) == 2 and not any(number == 0 for number in seconds):
        return seconds[0], seconds[1]
    raise connection_error(
        secret,
        "extra.timeout",
        "must be a number of seconds above 0, or a list of two",
    )


def _seconds(value: Any) -> float:
    """Return a number of seconds above 0; 0 if this is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        seconds = float(value)
    except ValueError:
        return 0
    return seconds if 0 < seconds < float("inf") else 0


def connection_error(secret: ConnectionSecret, where: str, problem: str) -> PermanentStepError:
    """Return the error about a field of a connection; it never shows the value.

    Args:
        secret: the connection.
        where: the field, such as ``extra.timeout``.
        problem: what is wrong with it: the end of a sentence.
    """
    return PermanentStepError(
        f"{where} of connection {secret.id!r} {problem}. Correct it in Admin > Connections, or where the "
        "connection is defined.",
        details={"connection": secret.id},
    )
