"""Connections and Variables: what a source of them provides, and what a connection contains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_allma.common.json_reader import decode_object
from airflow_allma.exceptions import SecretError

__all__ = ["ConnectionSecret", "SecretSource", "decode_extra"]


@dataclass(frozen=True, slots=True)
class ConnectionSecret:
    """A connection of Airflow. Its ``repr`` shows no secrets.

    Attributes:
        id: its id.
        kind: its type, such as ``http`` or ``smtp``; may be empty.
        host: a host name, or a URL with a scheme; may be empty.
        port: the port, or None.
        schema: for HTTP the scheme; may be empty.
        login: may be empty.
        password: may be empty.
        extra: the object in the field ``extra``; empty without one.
    """

    id: str
    kind: str = ""
    host: str = ""
    port: int | None = None
    schema: str = ""
    login: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


class SecretSource(Protocol):
    """Looks up connections and Variables. Its methods can block, and are called in any thread."""

    def connection(self, conn_id: str, /) -> ConnectionSecret:
        """Return a connection.

        Raises:
            SecretNotFoundError: there is none with this id.
            SecretUnavailableError: the place where it is stored does not answer.
            SecretError: it is not a valid connection.
        """

    def variable(self, name: str, /) -> str:
        """Return the value of a Variable; raise as ``connection`` does."""

    def hide(self, values: Iterable[str], /) -> None:
        """Mask these values in whatever this process logs from now on."""


def decode_extra(conn_id: str, text: str | None) -> Mapping[str, Any]:
    """Return the object in a connection's ``extra``.

    Raises:
        SecretError: it is not a JSON object. The message shows nothing of it.
    """
    if not text or not text.strip():
        return {}
    extra = decode_object(text)
    if extra is None:
        raise SecretError(
            f'The extra of connection {conn_id!r} must be a JSON object such as {{"timeout": 10}}. Correct '
            "it in Admin > Connections, or where the connection is defined."
        )
    return extra
