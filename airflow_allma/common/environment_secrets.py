"""Connections and Variables of the environment: ``AIRFLOW_CONN_<ID>`` and ``AIRFLOW_VAR_<NAME>``.

Both forms of a connection are read as Airflow reads them, a URI and a JSON object, without Airflow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, decode_json
from airflow_allma.common.secret_sources import ConnectionSecret, decode_extra
from airflow_allma.exceptions import SecretError, SecretNotFoundError

__all__ = ["EnvironmentSecrets"]

_EXTRA_KEY: Final = "__extra__"
_FIELDS: Final = ("host", "login", "password", "schema")


class EnvironmentSecrets:
    """The connections and Variables that environment variables define.

    Args:
        environment: name -> value; None: that of the process.
        hide: masks values in the process's logs; None: nothing to mask.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        hide: Callable[[Iterable[str]], None] | None = None,
    ) -> None:
        self._environment = os.environ if environment is None else environment
        self._hide = hide

    def connection(self, conn_id: str) -> ConnectionSecret:
        """Return a connection.

        Raises:
            SecretNotFoundError: the environment does not define it.
            SecretError: its value is neither a URI nor a JSON object.
        """
        name = f"AIRFLOW_CONN_{conn_id.upper()}"
        value = self._environment.get(name)
        if not value:
            raise SecretNotFoundError(
                f"Connection {conn_id!r} does not exist. Set {name} to its URI, or to its fields as a JSON "
                "object; in Airflow create it in Admin > Connections."
            )
        try:
            if value.lstrip().startswith("{"):
                return _from_json(conn_id, value)
            return _from_uri(conn_id, value)
        except (NotJsonError, UnreadableJsonError, UnicodeEncodeError, TypeError, ValueError):
            # The cause would show a part of the value.
            pass
        raise SecretError(
            f"{name} must be a connection as a URI (https://login:password@host:443/) or as a JSON object "
            '({"host": "...", "login": "...", "password": "...", "port": 443}). Characters such as \'@\' '
            "and '/' in a part of a URI must be percent-encoded."
        )

    def variable(self, name: str) -> str:
        """Return the value of a Variable.

        Raises:
            SecretNotFoundError: the environment does not define it.
        """
        variable = f"AIRFLOW_VAR_{name.upper()}"
        value = self._environment.get(variable)
        if value is None:
            raise SecretNotFoundError(
                f"Variable {name!r} does not exist. Set {variable}; in Airflow create it in Admin > "
                "Variables."
            )
        return value

    def hide(self, values: Iterable[str]) -> None:
        """Mask these values in the process's logs."""
        if self._hide is not None:
            self._hide(values)


def _from_json(conn_id: str, value: str) -> ConnectionSecret:
    fields = decode_json(value.encode())
    if not isinstance(fields, dict):
        raise TypeError
    extra = fields.get("extra")
    port = fields.get("port")
    return ConnectionSecret(
        conn_id,
        _kind(_text(fields.get("conn_type"))),
        port=int(port) if port else None,
        **{name: _text(fields.get(name)) for name in _FIELDS},
        extra=extra if isinstance(extra, dict) else decode_extra(conn_id, _text(extra)),
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError
    return value


def _from_uri(conn_id: str, uri: str) -> ConnectionSecret:
    """Read a connection's URI: ``type://login:password@host:port/schema?key=value``.

    A second scheme (``http://https://host``) belongs to the host, as in Airflow.
    """
    kind, separator, rest = uri.partition("://")
    scheme, has_scheme, after = rest.partition("://")
    if not kind or not separator or (has_scheme and ("@" in scheme or ":" in scheme)):
        raise ValueError
    parts = urlsplit(f"{scheme}://{after}" if has_scheme else f"//{rest}")
    host = _host(parts.netloc, unquote(parts.hostname or ""))
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    encoded = query.get(_EXTRA_KEY)
    return ConnectionSecret(
        conn_id,
        _kind(kind),
        f"{scheme}://{host}" if has_scheme and host else host,
        parts.port,
        unquote(parts.path[1:]),
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        decode_extra(conn_id, encoded) if encoded is not None else query,
    )


def _host(netloc: str, hostname: str) -> str:
    """Return the host; one that contains a slash (a URL, percent-encoded) keeps its case."""
    if "/" not in hostname:
        return hostname
    return unquote(netloc.rpartition("@")[2].partition(":")[0])


def _kind(name: str) -> str:
    return "postgres" if name == "postgresql" else name.replace("-", "_")
