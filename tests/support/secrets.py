"""A source of connections and Variables in memory, for tests."""

from __future__ import annotations

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.exceptions import SecretNotFoundError


class SecretsInMemory:
    """A source that counts its lookups; an exception in place of a value is raised.

    Attributes:
        lookups: the names that were looked up, in order.
        hidden: the values that were to be masked in logs.
    """

    def __init__(self, connections=(), variables=()):
        self._connections = {one["id"]: one for one in connections}
        self._variables = dict(variables)
        self.lookups = []
        self.hidden = []

    def connection(self, conn_id):
        self.lookups.append(conn_id)
        found = self._connections.get(conn_id)
        if found is None:
            raise SecretNotFoundError(f"Connection {conn_id!r} does not exist. Set AIRFLOW_CONN_X.")
        return ConnectionSecret(**found)

    def variable(self, name):
        self.lookups.append(name)
        value = self._variables.get(name)
        if value is None:
            raise SecretNotFoundError(f"Variable {name!r} does not exist. Set AIRFLOW_VAR_X.")
        if isinstance(value, list):
            value = value.pop(0) if len(value) > 1 else value[0]
        if isinstance(value, Exception):
            raise value
        return value

    def hide(self, values):
        self.hidden += values
