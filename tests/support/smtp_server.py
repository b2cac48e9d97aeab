"""An SMTP server on loopback, which keeps the e-mails that it gets and refuses what a test tells it to."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

logging.getLogger("mail.log").setLevel(logging.WARNING)

LOGIN, PASSWORD = "mailer", "pass-w0rd"


class SmtpFake:
    """What the server got, and how it answers.

    Attributes:
        envelopes: one for each e-mail that was accepted.
        refused: recipient -> the answer that refuses it.
        answer: the answer to a message; None: it is accepted.
        hangs_up: whether the connection ends when a message has been sent.
    """

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.refused: dict[str, str] = {}
        self.answer: str | None = None
        self.hangs_up = False
        self.port = 0

    # Not a property: the server looks at all members of its handler, once for each connection.
    def mails(self) -> list[EmailMessage]:
        """Return the e-mails that were accepted."""
        parser: Any = BytesParser(policy=policy.default)
        return [parser.parsebytes(envelope.original_content) for envelope in self.envelopes]

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del server, session, options
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        del session
        if self.hangs_up:
            server.transport.close()
        if self.answer is not None:
            return self.answer
        self.envelopes.append(envelope)
        return "250 accepted"


def _authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    is_right = isinstance(data, LoginPassword) and (data.login, data.password) == (
        LOGIN.encode(),
        PASSWORD.encode(),
    )
    return AuthResult(success=is_right, handled=is_right)


class _AnyPort(Controller):
    """A controller on any free port, which the library itself does not look up."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def running_smtp(*, tls: ssl.SSLContext | None = None, max_bytes: int = 33_554_432) -> Iterator[SmtpFake]:
    """Run a server; with ``tls`` it offers STARTTLS."""
    fake = SmtpFake()
    controller = _AnyPort(
        fake,
        hostname="127.0.0.1",
        port=0,
        # Without it, each connection asks the name server.
        server_hostname="localhost",
        ready_timeout=10,
        data_size_limit=max_bytes,
        auth_require_tls=False,
        authenticator=_authenticate,
        **({"tls_context": tls} if tls else {}),
    )
    controller.start()
    fake.port = controller.port
    try:
        yield fake
    finally:
        controller.stop(no_assert=True)
