"""URL and credentials of an MCP server, from an Airflow connection, an exported one, or both."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final
from urllib.parse import urlsplit

from airflow_allma.common.json_reader import decode_object
from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.http_connection import HttpConnection, connection_error
from airflow_allma.engine.http_options import DEFAULT_OPTIONS, HttpOptions
from airflow_allma.engine.masking import looks_secret, mask_url
from airflow_allma.engine.secrets import Secrets
from airflow_allma.engine.urls import origin_of
from airflow_allma.exceptions import PermanentStepError, SecretNotFoundError
from airflow_allma.flow import McpAuthenticationType, McpConnection

__all__ = ["DEFAULT_PATH", "McpServer", "resolve_server"]

DEFAULT_PATH: Final = "/mcp"
"""The path of the server if the host of a connection has none."""

_HTTP: Final = frozenset({"http", "streamable-http", "streamable_http"})
# `--token=...`, `Authorization: ...`
_NAME_AND_VALUE: Final = re.compile(r"([^=:\s]+)[=:]\s*(\S.*)", re.DOTALL)
_HEADERS: Final[Mapping[McpAuthenticationType, str]] = {
    McpAuthenticationType.BEARER_TOKEN: "Authorization",
    McpAuthenticationType.API_KEY: "X-API-Key",
}


@dataclass(frozen=True, slots=True)
class McpServer:
    """An MCP server. Its ``repr`` shows no secrets.

    Attributes:
        id: the id of its connection.
        url: its URL; empty for a program.
        headers: the headers of each request, with the credentials.
        timeout: seconds for one call; None for the default.
        options: TLS and the time to connect.
        command: the program to start and its arguments; empty for a URL.
        environment: further environment variables of the program.
    """

    id: str
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float | None = None
    options: HttpOptions = DEFAULT_OPTIONS
    command: tuple[str, ...] = field(default=(), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """What messages call the server."""
        return f"the MCP server of connection {self.id!r}"

    @property
    def shown_url(self) -> str:
        """The URL without secrets; for a program its name."""
        return mask_url(self.url) if self.url else self.command[0]


async def resolve_server(
    entry: McpConnection | None, conn_id: str | None, secrets: Secrets, *, allow_stdio: bool
) -> McpServer:
    """Return the server that a step calls.

    Args:
        entry: the exported connection that ``mcpConnectionId`` names; None if the step names none.
        conn_id: the Airflow connection that the step names as ``connection``; None: that of the entry's id.
        secrets: looks up the Airflow connection.
        allow_stdio: whether a connection may start a program.

    Raises:
        PermanentStepError: a connection cannot be used; the message names the field, not its value.
        SecretError: the Airflow connection cannot be read.
    """
    if entry is None:
        if conn_id is None:
            raise PermanentStepError("An MCP_CALL step needs `connection` or `mcpConnectionId`.")
        secret = await secrets.connection(conn_id)
        server = _of_connection(secret, allow_stdio=allow_stdio)
        await secrets.hide(_program_secrets(server))
        return server
    kind = entry.authentication.type
    if conn_id is None and kind is McpAuthenticationType.NONE:
        return McpServer(entry.id, entry.server_url)
    try:
        secret = await secrets.connection(conn_id or entry.id)
    except SecretNotFoundError as error:
        if conn_id is not None:
            raise
        raise PermanentStepError(
            f"MCP connection {entry.id!r} has the authentication {kind.value}, and no Airflow connection "
            f"{entry.id!r} with the token exists. Create it in Admin > Connections (type http, the token as "
            f"its password); {entry.authentication.secret_arn or '`secretArn`'} is not read here.",
            details={"connection": entry.id},
        ) from error
    server = _of_entry(entry, secret)
    # A key in the JSON of a secret is a part of the password.
    await secrets.hide(server.headers[name] for name in _HEADERS.values() if name in server.headers)
    return server


def _of_connection(secret: ConnectionSecret, *, allow_stdio: bool) -> McpServer:
    transport = secret.extra.get("transport", "http")
    if transport == "stdio":
        return _program(secret, allow_stdio=allow_stdio)
    if transport == "sse":
        raise connection_error(
            secret, "extra.transport", 'is "sse", the old transport of MCP; use "http" instead'
        )
    if transport not in _HTTP:
        raise connection_error(secret, "extra.transport", 'must be "http" or "stdio"')
    if secret.password and not secret.login and "auth" not in secret.extra:
        secret = replace(secret, extra={**secret.extra, "auth": "bearer"})
    connection = HttpConnection.of(secret)
    if not connection.base_url:
        raise connection_error(
            secret,
            "host",
            f"is empty; set it to the server's URL, such as https://mcp.example.com{DEFAULT_PATH}",
        )
    return McpServer(
        secret.id, _url(connection, secret.host), connection.headers, connection.timeout, connection.options
    )


def _url(connection: HttpConnection, host: str) -> str:
    """Return the URL of a connection's server; a slash at the end of its host counts."""
    if host.strip().endswith("/"):
        return f"{connection.base_url}/"
    return connection.base_url if urlsplit(connection.base_url).path else connection.base_url + DEFAULT_PATH


def _of_entry(entry: McpConnection, secret: ConnectionSecret) -> McpServer:
    kind = entry.authentication.type
    if kind is McpAuthenticationType.NONE:
        connection = HttpConnection.of(secret)
        headers = dict(connection.headers)
    else:
        # The password is the token, whatever else the connection says about authentication.
        extra = {name: value for name, value in secret.extra.items() if name != "auth"}
        connection = HttpConnection.of(replace(secret, login="", extra=extra))
        headers = dict(connection.headers)
        token = _token(entry, secret)
        name = _HEADERS[kind]
        if name.lower() not in {other.lower() for other in headers}:
            headers[name] = f"Bearer {token}" if kind is McpAuthenticationType.BEARER_TOKEN else token
    if connection.base_url and origin_of(connection.base_url) != origin_of(entry.server_url):
        raise PermanentStepError(
            f"MCP connection {entry.id!r} is on another host than Airflow connection {secret.id!r} "
            f"({connection.origin}), whose credentials it would get. Correct its `serverUrl`, or remove the "
            "host from the Airflow connection.",
            details={"connection": secret.id},
        )
    secret_headers = connection.options.secret_headers | {name.lower() for name in headers}
    options = replace(connection.options, secret_headers=secret_headers)
    return McpServer(entry.id, entry.server_url, headers, connection.timeout, options)


def _token(entry: McpConnection, secret: ConnectionSecret) -> str:
    token, key = secret.password, entry.authentication.secret_json_key
    if key and token.lstrip().startswith("{"):
        value = (decode_object(token) or {}).get(key)
        token = value if isinstance(value, str) else ""
        if not token:
            raise connection_error(secret, "password", f"has no string {key!r}, which `secretJsonKey` names")
    if not token:
        raise connection_error(
            secret, "password", f"is empty; set it to the token for MCP connection {entry.id!r}"
        )
    return token


def _program(secret: ConnectionSecret, *, allow_stdio: bool) -> McpServer:
    if not allow_stdio:
        raise connection_error(
            secret,
            "extra.transport",
            'is "stdio", which starts a program on the worker; `[allma] mcp_stdio` must be True for that',
        )
    command, arguments = secret.extra.get("command"), _arguments(secret)
    if not isinstance(command, str) or not command:
        raise connection_error(secret, "extra.command", 'must be the program to start, such as "uvx"')
    environment = secret.extra.get("env", {})
    if not isinstance(environment, Mapping) or not all(
        isinstance(value, str) for pair in environment.items() for value in pair
    ):
        raise connection_error(secret, "extra.env", 'must be an object of strings, such as {"TOKEN": "..."}')
    return McpServer(secret.id, command=(command, *arguments), environment=dict(environment))


def _program_secrets(server: McpServer) -> Iterator[str]:
    """Yield what a program knows and must not show; what it writes is masked line by line."""
    for value in server.environment.values():
        yield value
        yield from value.splitlines()
    for option, argument in pairwise(server.command):
        named = _NAME_AND_VALUE.fullmatch(argument)
        if named and looks_secret(named[1]):
            yield named[2]
        elif option.startswith("-") and looks_secret(option):
            yield argument


def _arguments(secret: ConnectionSecret) -> list[str]:
    arguments: Any = secret.extra.get("args", [])
    if isinstance(arguments, list) and all(isinstance(argument, str) for argument in arguments):
        return arguments
    raise connection_error(secret, "extra.args", 'must be a list of strings, such as ["mcp-server-time"]')
