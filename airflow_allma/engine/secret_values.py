"""The connections and Variables that templates name, put in front of the data that they see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.masking import MASK
from airflow_allma.engine.secrets import Secrets
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions.find_references import template_references
from airflow_allma.flow.secret_names import SecretName, secret_name

__all__ = ["SecretValues", "names_in_template", "resolve_secrets"]

_SHOWN_FIELDS = frozenset({"host", "port", "schema"})


def names_in_template(source: str) -> frozenset[SecretName]:
    """Return the fields of connections and the Variables that a template names.

    Raises:
        ExpressionSyntaxError: this is not a template.
    """
    if "{{" not in source:
        return frozenset()
    named = (
        secret_name(reference.names) for reference in template_references(source) if not reference.in_block
    )
    return frozenset(name for name in named if name is not None)


@dataclass(frozen=True, slots=True)
class SecretValues:
    """The values of names.

    Attributes:
        values: name -> value.
        hosts: the hosts among the values, in lower case.
    """

    values: Mapping[SecretName, str] = field(repr=False)
    hosts: frozenset[str]

    def over(self, root: Mapping[str, Any]) -> dict[str, Any]:
        """Return data of a template with the values in it."""
        return _merged(root, self.values)

    def masked_over(self, root: Mapping[str, Any]) -> dict[str, Any]:
        """Return data of a template with ``***`` in place of the values, except host, port and schema."""
        shown = {name: value if name.field in _SHOWN_FIELDS else MASK for name, value in self.values.items()}
        return _merged(root, shown)


async def resolve_secrets(secrets: Secrets, names: Iterable[SecretName]) -> SecretValues:
    """Look up the values of names, and mask them from now on.

    Raises:
        SecretError: as ``Secrets.connection``.
        PermanentStepError: a connection lacks the field.
    """
    values: dict[SecretName, str] = {}
    for name in names:
        if name.is_variable:
            values[name] = await secrets.variable(name.name)
        else:
            values[name] = _field(await secrets.connection(name.name), name)
    # Members of extra are secret because they are used as such; the others are known already.
    await secrets.hide(value for name, value in values.items() if name.field == "extra")
    hosts = {
        urlsplit(value if "://" in value else f"//{value}").hostname or ""
        for name, value in values.items()
        if name.field == "host"
    }
    return SecretValues(values, frozenset(hosts))


def _field(connection: ConnectionSecret, name: SecretName) -> str:
    value: Any = connection.extra if name.keys else getattr(connection, name.field)
    for key in name.keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if value is None or value == "":
        where = ".".join((name.field, *name.keys))
        raise PermanentStepError(
            f"Connection {connection.id!r} has no {where}, which the step's template names. Set it in "
            "Admin > Connections, or where the connection is defined.",
            details={"connection": connection.id},
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        where = ".".join((name.field, *name.keys))
        raise PermanentStepError(
            f"{where} of connection {connection.id!r} must be a string or a number to be used in a template.",
            details={"connection": connection.id},
        )
    return str(value)


def _merged(root: Mapping[str, Any], values: Mapping[SecretName, str]) -> dict[str, Any]:
    """Return the root with each value at ``conn.<id>.<field>`` or ``var.<name>``, over data of that name."""
    merged = dict(root)
    for name, value in values.items():
        keys = ("var", name.name) if name.is_variable else ("conn", name.name, name.field, *name.keys)
        target = merged
        for key in keys[:-1]:
            inner = target.get(key)
            # A copy: the data belongs to the run.
            target[key] = dict(inner) if isinstance(inner, Mapping) else {}
            target = target[key]
        target[keys[-1]] = value
    return merged
