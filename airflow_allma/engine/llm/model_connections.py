"""Airflow connections to model providers: base URL, key, headers and TLS.

The password is the key, and the host the base URL, as in the connections of Airflow's providers for OpenAI
and of ``common.ai``. Headers, timeout and TLS in the extra are those of HTTP connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.http_connection import HttpConnection, connection_error
from airflow_allma.engine.http_options import DEFAULT_OPTIONS, HttpOptions
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import PermanentStepError, SecretError
from airflow_allma.flow.steps.llm import LlmProvider

__all__ = [
    "KeyHeader",
    "ModelEndpoint",
    "ParsedConnections",
    "check_destination",
    "connection_type",
    "extra_value",
    "read_endpoint",
    "read_http",
    "require_connection",
]

_T = TypeVar("_T")

_MAX_KEPT: Final = 64
_JSON: Final = "application/json"
_TYPES: Final[Mapping[str, LlmProvider]] = {
    "aws": LlmProvider.AWS_BEDROCK,
    "google_cloud_platform": LlmProvider.GEMINI,
    "pydanticai_azure": LlmProvider.OPENAI,
    "pydanticai_bedrock": LlmProvider.AWS_BEDROCK,
    "pydanticai_vertex": LlmProvider.GEMINI,
}
"""Connection types that belong to one provider; any other type can be used with each provider."""


@dataclass(frozen=True, slots=True)
class KeyHeader:
    """The header in which a provider expects the key.

    Attributes:
        name: the header.
        prefix: the string before the key.
    """

    name: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class ModelEndpoint:
    """A model provider's server, and what each request to it has. Its ``repr`` shows no secrets.

    Attributes:
        connection: the connection's id.
        base_url: scheme, host, port and the beginning of the path, without a slash at the end.
        headers: of each request.
        timeout: seconds for a whole request; None: not set.
        options: TLS, the time to connect, and which headers are secret.
        key_field: the field of the connection that has the key, as messages name it.
    """

    connection: str
    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    timeout: float | None = None
    options: HttpOptions = DEFAULT_OPTIONS
    key_field: str = "its password"

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.base_url).netloc


class ParsedConnections(Generic[_T]):
    """A cache of parsed connections, each valid until its connection changes.

    Args:
        parse: parses a connection.
    """

    def __init__(self, parse: Callable[[ConnectionSecret], _T]) -> None:
        self._parse = parse
        self._known: dict[str, tuple[ConnectionSecret, _T]] = {}

    def get(self, secret: ConnectionSecret) -> _T:
        """Return a parsed connection.

        Raises:
            PermanentStepError: what ``parse`` raises.
        """
        known = self._known.get(secret.id)
        if known is not None and known[0] is secret:
            return known[1]
        # Connections are looked up again every minute, and are nearly always unchanged.
        parsed = known[1] if known is not None and known[0] == secret else self._parse(secret)
        self._known[secret.id] = secret, parsed
        if len(self._known) > _MAX_KEPT:
            self._known.pop(next(iter(self._known)), None)
        return parsed


async def require_connection(
    call: StepCall, connection: str | None, provider: LlmProvider
) -> ConnectionSecret:
    """Return the connection of a provider.

    Raises:
        StepError: no connection is set, it does not exist, or it cannot be read.
    """
    if connection is None:
        example = f'{{"{provider.value}": "my_connection"}}'
        raise PermanentStepError(
            f"No connection for provider {provider.value}: set `connection` in the step, or "
            f"[allma] llm_connections = {example} (AIRFLOW__ALLMA__LLM_CONNECTIONS in the environment).",
            details={"provider": provider.value},
        )
    try:
        return await call.services.secrets.connection(connection)
    except SecretError as error:
        raise step_error_from(error, details={"provider": provider.value}) from error


async def check_destination(call: StepCall, connection: str, provider: LlmProvider) -> None:
    """Check that the run's data, which names the provider, does not decide who gets the key of a connection.

    Args:
        call: the step's call.
        connection: the id of the step's connection.
        provider: the provider that the data names.

    Raises:
        PermanentStepError: the connection has no host, so that its key would go to that provider.
    """
    secret = await call.services.secrets.connection(connection)
    if not secret.host.strip() and _owner(secret) is None:
        raise PermanentStepError(
            f"Connection {connection!r} has no host, and `llmProvider` is computed from the run's data: "
            f"its key would go to the provider in the data, now {provider.value}. Set the connection's host, "
            "or remove `connection` from the step and set [allma] llm_connections.",
            details={"connection": connection},
        )


def connection_type(secret: ConnectionSecret, provider: LlmProvider) -> str:
    """Return the type of a connection, in its current spelling.

    Raises:
        PermanentStepError: it is the type of another provider.
    """
    owner = _owner(secret)
    if owner is not None and owner is not provider:
        raise PermanentStepError(
            f"The type of connection {secret.id!r} is {secret.kind!r}, which is one for {owner.value} and "
            f"not for {provider.value}. Use a connection of type 'http' or 'pydanticai' with the key of "
            f"{provider.value} as its password.",
            details={"connection": secret.id},
        )
    return _type_of(secret)


def _type_of(secret: ConnectionSecret) -> str:
    # Early releases of Airflow's common.ai wrote a hyphen.
    return secret.kind.replace("-", "_")


def _owner(secret: ConnectionSecret) -> LlmProvider | None:
    """Return the only provider that a connection of this type can be used with; None for any."""
    return _TYPES.get(_type_of(secret))


def read_endpoint(secret: ConnectionSecret, key: KeyHeader, default_url: str) -> ModelEndpoint:
    """Return the endpoint of a connection whose password is the key.

    ``https`` is the default scheme. A connection with a host may have no key. Headers in the extra take
    precedence over the key's header.

    Args:
        secret: the connection.
        key: the header for the key.
        default_url: the base URL if the connection has no host; empty if it must have one.

    Raises:
        PermanentStepError: a field of the connection cannot be used; the message names it, not its value.
    """
    http = read_http(secret)
    if not http.base_url and not default_url:
        raise connection_error(secret, "host", "is empty; set it to the URL of the resource")
    headers = {"Content-Type": _JSON, **http.headers}
    own = {name.lower() for name in http.headers}
    secret_names = http.options.secret_headers
    if own.isdisjoint({key.name.lower(), "authorization"}):
        value = secret.password.strip()
        if value:
            if not (value.isascii() and value.isprintable()):
                raise connection_error(
                    secret, "password", "must be one line of ASCII characters; copy the key again"
                )
            headers[key.name] = key.prefix + value
            secret_names |= {key.name.lower()}
        elif not http.base_url:
            raise connection_error(secret, "password", "is empty; set it to the API key")
    return ModelEndpoint(
        secret.id,
        http.base_url or default_url,
        headers,
        http.timeout,
        replace(http.options, secret_headers=secret_names),
    )


def read_http(secret: ConnectionSecret) -> HttpConnection:
    """Return base URL, headers, timeout and TLS of a connection, without its login and password.

    Raises:
        PermanentStepError: a field of the connection cannot be used.
    """
    extra = {name: value for name, value in secret.extra.items() if name != "auth"}
    # The default of HTTP connections is http, which would send the key unencrypted.
    scheme = secret.schema or "https"
    return HttpConnection.of(replace(secret, login="", password="", schema=scheme, extra=extra))


def extra_value(secret: ConnectionSecret, *names: str) -> Any:
    """Return the first of several members of the extra that is set; None if none is.

    Old Google Cloud connections prefix each name with their type.
    """
    for name in names:
        for key in (name, f"extra__google_cloud_platform__{name}"):
            value = secret.extra.get(key)
            if value not in (None, ""):
                return value
    return None
