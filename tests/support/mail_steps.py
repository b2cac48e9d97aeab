"""E-mail steps that send through a test's SMTP server."""

from __future__ import annotations

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.secrets import Secrets
from airflow_allma.exceptions import SecretNotFoundError
from tests.support.engine import run

DESK = "desk@corp.example"


class Connections:
    """A source with connections alone."""

    def __init__(self, *connections):
        self._connections = {one.id: one for one in connections}

    def connection(self, conn_id):
        if conn_id not in self._connections:
            raise SecretNotFoundError(f"Connection {conn_id!r} does not exist.")
        return self._connections[conn_id]

    def variable(self, name):
        raise SecretNotFoundError(name)

    def hide(self, values):
        del values


def mail_step(**fields):
    return {
        "stepType": "EMAIL",
        "from": DESK,
        "to": "ada@corp.example",
        "subject": "Hi",
        "body": "<p>Hi</p>",
        **fields,
    }


def connection(port, **fields):
    extra = {"disable_ssl": True, "disable_tls": True, "timeout": 5, **fields.pop("extra", {})}
    return ConnectionSecret("post", "smtp", "127.0.0.1", port, extra=extra, **fields)


def send(smtp, payload=None, *, store=None, connections=None, **fields):
    """Send one e-mail through the SMTP server."""
    return run(
        {"mail": mail_step(connection="post", **fields)},
        payload,
        store=store,
        secrets=Secrets(connections or Connections(connection(smtp.port))),
    )


def body_of(mail, kind):
    return mail.get_body((kind,)).get_content()
