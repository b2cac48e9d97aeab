"""The names of connections and Variables in templates, and which of them flows may use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

__all__ = ["CONNECTION_FIELDS", "CONNECTION_ID", "AllowedSecrets", "SecretName", "secret_name"]

CONNECTION_ID: Final = re.compile(r"[\w#!()\-.:/\\]{1,250}")
"""The ids that Airflow accepts for a connection."""

CONNECTION_FIELDS: Final = ("extra", "host", "login", "password", "port", "schema")
"""The fields of a connection that a template can name."""


@dataclass(frozen=True, slots=True)
class SecretName:
    """A field of a connection, or a Variable, that a template names.

    Attributes:
        name: the connection's id, or the Variable's name.
        field: the field of the connection; "" for a Variable.
        keys: the keys within the connection's ``extra``.
    """

    name: str
    field: str = ""
    keys: tuple[str, ...] = ()

    @property
    def is_variable(self) -> bool:
        """Whether this is a Variable."""
        return not self.field


def secret_name(names: Sequence[str]) -> SecretName | None:
    """Return what the reserved names mean: ``conn.<id>.<field>`` and ``var.<name>``; None for other names.

    Args:
        names: the keys from the root on.
    """
    match names:
        case ("var", name):
            return SecretName(name)
        case ("conn", name, "extra", _, *_):
            return SecretName(name, "extra", tuple(names[3:]))
        case ("conn", name, field) if field in CONNECTION_FIELDS and field != "extra":
            return SecretName(name, field)
    return None


@dataclass(frozen=True, slots=True)
class AllowedSecrets:
    """What flows may name, as patterns with ``*`` and ``?``; without any, nothing.

    Attributes:
        connections: patterns of ids of connections.
        variables: patterns of names of Variables.
        queues: patterns of URLs of queues.
    """

    connections: tuple[str, ...] = ("*",)
    variables: tuple[str, ...] = ("*",)
    queues: tuple[str, ...] = ("*",)

    def refusal(self, name: str, *, is_variable: bool = False) -> str | None:
        """Return why a connection or a Variable cannot be used, as a sentence; None if it can."""
        if is_variable:
            return _refusal("Variable", name, "allowed_variables", self.variables)
        return _refusal("connection", name, "allowed_connections", self.connections)

    def queue_refusal(self, url: str) -> str | None:
        """Return why a queue cannot be watched, as a sentence; None if it can."""
        return _refusal("queue", url, "allowed_queues", self.queues)


def _refusal(kind: str, name: str, setting: str, patterns: Sequence[str]) -> str | None:
    if any(fnmatchcase(name, pattern) for pattern in patterns):
        return None
    listed = ", ".join(patterns[:20]) or "empty"
    return (
        f"the {kind} `{name}` is not among those that flows may use; use another one, or add it to "
        f"`[allma] {setting}` ({listed})"
    )
