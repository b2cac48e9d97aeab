"""Sending an e-mail through an SMTP server: to all of its recipients, or to nobody."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.exceptions import PermanentStepError, StepError, TransientStepError

if TYPE_CHECKING:
    import smtplib

__all__ = ["MAX_SMTP_RECIPIENTS", "SmtpServer", "send_by_smtp", "server_of"]

MAX_SMTP_RECIPIENTS: Final = 100
"""As many recipients as each server must take in one message (RFC 5321)."""

_MAX_SHOWN: Final = 300
_MAX_LINES: Final = 100
_OK: Final = frozenset({250, 251})
_MAX_TIMEOUT: Final = 600.0
_KIND: Final = "smtp"


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """An SMTP server and how to reach it.

    Attributes:
        name: the name of its connection, for errors.
        host: its host name.
        port: its port; 0: the usual one.
        login: the user; empty: no authentication.
        password: that user's password.
        use_ssl: whether TLS begins with the connection.
        use_starttls: whether TLS begins after it, if ``use_ssl`` is not set.
        verify: whether the server's certificate must be trusted.
        timeout: seconds that each answer may take.
    """

    name: str
    host: str
    port: int = 0
    login: str = ""
    password: str = field(default="", repr=False)
    use_ssl: bool = True
    use_starttls: bool = True
    verify: bool = True
    timeout: float = 30.0


def server_of(connection: ConnectionSecret) -> SmtpServer:
    """Return the server of a connection, whose fields mean what they mean to Airflow's SMTP provider.

    Raises:
        PermanentStepError: the connection is of another type, has no host, or a field of its extra is wrong.
    """
    name = f"connection {connection.id!r}"
    if connection.kind not in {"", _KIND, "email"}:
        raise PermanentStepError(
            f"The type of {name} is {connection.kind!r}; an EMAIL step needs one of type {_KIND!r}. Without "
            "`connection`, the step sends through SES."
        )
    if not connection.host:
        raise PermanentStepError(f"The {name} has no host. Enter that of the SMTP server.")
    extra = connection.extra
    if extra.get("auth_type", "basic") != "basic":
        raise PermanentStepError(
            f"The extra of {name} has an auth_type other than 'basic', which is not supported. Use a "
            "password."
        )
    timeout = extra.get("timeout", 30)
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds <= _MAX_TIMEOUT:
        raise PermanentStepError(
            f"The timeout in the extra of {name} must be a number of seconds from 1 to {_MAX_TIMEOUT:g}."
        )
    return SmtpServer(
        name=name,
        host=connection.host,
        port=connection.port or 0,
        login=connection.login,
        password=connection.password,
        use_ssl=not _is_true(extra.get("disable_ssl")),
        use_starttls=not _is_true(extra.get("disable_tls")),
        verify=extra.get("ssl_context", "default") != "none",
        timeout=seconds,
    )


def _is_true(value: object) -> bool:
    # In the URI form of a connection everything is a string.
    return value.strip().lower() in {"1", "true", "yes", "on"} if isinstance(value, str) else bool(value)


def send_by_smtp(server: SmtpServer, sender: str, recipients: Sequence[str], message: bytes) -> None:
    """Send a message; blocks.

    A recipient that the server refuses is an error, and then nobody gets the message.

    Raises:
        TransientStepError: the server cannot be reached, does not answer, or asks to try later (4xx).
        PermanentStepError: it refuses the user, the sender, a recipient or the message (5xx), has no TLS, or
            its certificate is not trusted.
    """
    import smtplib

    try:
        smtp = _connect(server)
        try:
            _send(smtp, server, sender, recipients, message)
            # It is sent: what happens from here on must not send it again.
            with suppress(smtplib.SMTPException, OSError):
                smtp.quit()
        finally:
            smtp.close()
    except StepError:
        raise
    except smtplib.SMTPResponseException as error:
        raise _refusal(server, "the connection", error.smtp_code, error.smtp_error) from error
    except smtplib.SMTPNotSupportedError as error:
        raise PermanentStepError(
            f"SMTP through {server.name} failed: {str(error).rstrip('.')}. Set disable_ssl or disable_tls of "
            "the connection as the server needs it."
        ) from error
    except ssl.CertificateError as error:
        raise PermanentStepError(
            f"SMTP through {server.name} failed: the server's certificate is not trusted: "
            f"{error.verify_message}. Check the host of the connection, or install the certificate's issuer "
            "on the machine."
        ) from error
    except (smtplib.SMTPException, OSError) as error:
        raise TransientStepError(
            f"SMTP through {server.name} failed: {type(error).__name__}: {str(error)[:_MAX_SHOWN]}. If this "
            "persists, check host, port and TLS of the connection."
        ) from error


def _connect(server: SmtpServer) -> smtplib.SMTP:
    import smtplib

    options: dict[str, Any] = {"timeout": server.timeout, "local_hostname": _own_name()}
    if server.use_ssl:
        options["context"] = _context(server.verify)
    client = _with_short_replies(smtplib.SMTP_SSL if server.use_ssl else smtplib.SMTP)
    smtp: smtplib.SMTP = client(server.host, server.port, **options)
    if server.use_ssl:
        return smtp
    try:
        if server.use_starttls:
            smtp.starttls(context=_context(server.verify))
    except BaseException:
        smtp.close()
        raise
    return smtp


@cache
def _own_name() -> str:
    """Return the name with which this machine greets servers."""
    # The library would ask the name server for each e-mail, which can take long.
    name = socket.getfqdn()
    return name if "." in name else "[127.0.0.1]"


class _Replies:
    """The lines of replies; one reply cannot have lines without end, which the library would all keep."""

    def __init__(self, lines: Any) -> None:
        self._lines = lines
        self._count = 0

    def readline(self, size: int) -> bytes:
        line: bytes = self._lines.readline(size)
        self._count = self._count + 1 if line[3:4] == b"-" else 0
        if self._count > _MAX_LINES:
            raise OSError(f"a reply has more than {_MAX_LINES} lines")
        return line

    def close(self) -> None:
        self._lines.close()


@lru_cache(maxsize=2)
def _with_short_replies(kind: type[Any]) -> type[Any]:
    """Return a subclass of a client of the library; that is not imported before the first e-mail."""

    def getreply(self: Any) -> Any:
        if self.file is None:
            self.file = _Replies(self.sock.makefile("rb"))
        return kind.getreply(self)

    return type(kind.__name__, (kind,), {"getreply": getreply})


@lru_cache(maxsize=2)
def _context(verify: bool) -> ssl.SSLContext:
    # Reading the certificates of the machine takes longer than sending an e-mail.
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _send(
    smtp: smtplib.SMTP, server: SmtpServer, sender: str, recipients: Sequence[str], message: bytes
) -> None:
    smtp.ehlo_or_helo_if_needed()
    if server.login:
        _log_in(smtp, server)
    options = []
    if smtp.has_extn("size"):
        options = [f"size={len(message)}"]
        limit = smtp.esmtp_features["size"]
        if limit.isdigit() and 0 < int(limit) < len(message):
            raise PermanentStepError(
                f"The e-mail has {len(message)} bytes; the server of {server.name} takes {limit}. Shorten "
                "`body`, or send a link to the files."
            )
    _require(server, f"the sender {sender}", *smtp.mail(sender, options))
    refused: dict[str, tuple[int, str]] = {}
    for recipient in recipients:
        code, answer = smtp.rcpt(recipient)
        if code not in _OK:
            refused[recipient] = (code, _shown(answer))
    if refused:
        smtp.rset()
        raise _refused_recipients(server, refused)
    _require(server, "the message", *smtp.data(message))


def _log_in(smtp: smtplib.SMTP, server: SmtpServer) -> None:
    """Log in by one method: the library's own login tries several, which can lock an account."""
    import smtplib

    offered = smtp.esmtp_features.get("auth", "").upper().split()
    is_encrypted = server.use_ssl or server.use_starttls
    order = ("PLAIN", "LOGIN", "CRAM-MD5") if is_encrypted else ("CRAM-MD5", "PLAIN", "LOGIN")
    method = next((name for name in order if name in offered), None)
    if method is None:
        raise PermanentStepError(
            f"The server of {server.name} offers no login with a password. Remove login and password from "
            "the connection, or use TLS, without which many servers offer none."
        )
    smtp.user, smtp.password = server.login, server.password
    try:
        smtp.auth(method, getattr(smtp, f"auth_{method.lower().replace('-', '_')}"))
    except smtplib.SMTPAuthenticationError as error:
        raise _refusal(server, "the login", error.smtp_code, error.smtp_error) from error
    except UnicodeEncodeError:
        # The cause would show a part of the password.
        raise PermanentStepError(
            f"Login and password of {server.name} must be ASCII characters to be sent."
        ) from None


def _require(server: SmtpServer, what: str, code: int, answer: bytes) -> None:
    if code != 250:
        raise _refusal(server, what, code, answer)


def _refusal(server: SmtpServer, what: str, code: int, answer: bytes | str) -> StepError:
    kind = TransientStepError if 400 <= code < 500 else PermanentStepError
    return kind(
        f"The server of {server.name} refused {what}: {code} {_shown(answer)}",
        details={"smtpCode": code, "smtpAnswer": _shown(answer)},
    )


def _refused_recipients(server: SmtpServer, refused: dict[str, tuple[int, str]]) -> StepError:
    kind = (
        TransientStepError if all(400 <= code < 500 for code, _ in refused.values()) else PermanentStepError
    )
    first, (code, answer) = next(iter(refused.items()))
    more = f" (and {len(refused) - 1} more recipients)" if len(refused) > 1 else ""
    return kind(
        f"The server of {server.name} refused the recipient {first}{more}: {code} {answer}. Nobody got the "
        "e-mail; remove the address, or send to each recipient in a step of its own.",
        details={"smtpCode": code, "refusedRecipients": list(refused)},
    )


def _shown(answer: bytes | str) -> str:
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    return "".join(character for character in " ".join(text.split()) if character.isprintable())[:_MAX_SHOWN]
