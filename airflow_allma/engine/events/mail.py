"""E-mails that SES has received: notifications with the e-mail, or with the object in which it is stored."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import EmailPolicy
from email.utils import getaddresses
from typing import Any, Final

from airflow_allma.common.printable import printable, shortened
from airflow_allma.engine.mail.plain_text import text_of_html
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow.js_regex import JsRegexError, to_python
from airflow_allma.storage import Pointer

__all__ = [
    "MAX_FILES",
    "MAX_MAIL_BYTES",
    "FoundMail",
    "MailFile",
    "ReceivedMail",
    "find_mail",
    "read_mail",
    "trigger_pattern",
]

MAX_MAIL_BYTES: Final = 40 << 20
"""As large as SES accepts e-mails."""

MAX_FILES: Final = 200
"""How many attachments an e-mail can have."""
_MAX_HEADER_WORK: Final = 1_000_000_000
"""Half a minute: a header of 10,000 characters takes a tenth of it."""
_PARSED_AS_FAST: Final = 2_000
"""Shorter headers take a time in proportion to their length, longer ones to its square."""

_MAX_SEARCHED: Final = 1 << 20
"""Characters of the text in which a pattern is searched; the pattern's own cost is bounded at load."""


@dataclass(frozen=True, slots=True)
class FoundMail:
    """Where an e-mail is, as a message says.

    Attributes:
        recipients: those of the envelope; empty if the message does not say.
        content: the e-mail itself, or None.
        pointer: the object that has it, or None.
    """

    recipients: tuple[str, ...] = ()
    content: bytes | None = None
    pointer: Pointer | None = None


@dataclass(frozen=True, slots=True)
class MailFile:
    """An attachment.

    Attributes:
        facts: its fields in ``triggeringEmail`` without the object.
        content: its bytes.
    """

    facts: Mapping[str, Any]
    content: bytes


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """An e-mail.

    Attributes:
        recipient: the first recipient's address.
        text: the plain text.
        fields: the fields of ``triggeringEmail`` but attachments and pattern.
        files: the attachments.
    """

    recipient: str
    text: str
    fields: Mapping[str, Any]
    files: tuple[MailFile, ...]


def find_mail(body: Any, objects: Sequence[Mapping[str, Any]]) -> FoundMail | None:
    """Return where the e-mail of a message is; None if the message is not about one.

    Args:
        body: the message's body.
        objects: the objects that S3 reports in it; SES stores e-mails in objects.

    Raises:
        PermanentStepError: it is a notification of SES that has neither.
    """
    if isinstance(body, dict) and body.get("notificationType") == "Received":
        return _of_notification(body)
    created = [one for one in objects if str(one.get("eventName", "")).startswith("ObjectCreated")]
    if not created:
        return None
    if len(created) > 1:
        raise PermanentStepError("it reports several objects, and an e-mail is one.")
    return FoundMail(pointer=Pointer.parse(created[0]["pointer"]))


def _of_notification(body: Mapping[str, Any]) -> FoundMail:
    receipt = body.get("receipt")
    receipt = receipt if isinstance(receipt, dict) else {}
    listed = receipt.get("recipients")
    recipients = tuple(one for one in listed if isinstance(one, str)) if isinstance(listed, list) else ()
    action = receipt.get("action")
    action = action if isinstance(action, dict) else {}
    content = body.get("content")
    if isinstance(content, str):
        if action.get("encoding") != "BASE64":
            return FoundMail(recipients, content.encode("utf-8", "surrogateescape"))
        try:
            return FoundMail(recipients, base64.b64decode(content, validate=True))
        except (binascii.Error, ValueError):
            raise PermanentStepError("the content of its e-mail is not Base64.") from None
    bucket, key = action.get("bucketName"), action.get("objectKey")
    if not isinstance(bucket, str) or not isinstance(key, str):
        raise PermanentStepError(
            "the notification of SES has no e-mail: let the receipt rule include it (SNS action), or store "
            "it in S3."
        )
    return FoundMail(recipients, pointer=Pointer(bucket, key))


def read_mail(raw: bytes, recipients: Sequence[str] = ()) -> ReceivedMail:
    """Return an e-mail.

    Args:
        raw: the e-mail as it was received.
        recipients: those of the envelope; empty: those of its ``To`` count.

    Raises:
        PermanentStepError: it has no recipient, too many attachments, or headers that are too long.
    """
    policy: Any = _BoundedHeaders
    mail: Any = BytesParser(policy=policy(spent=[0])).parsebytes(raw)
    to = _addresses(mail, "to")
    recipient = next(iter((*recipients, *(address for _, address in to))), "")
    if not recipient:
        raise PermanentStepError("the e-mail has no recipient.")
    html = _text(mail, "html")
    plain = _text(mail, "plain")
    text = plain if plain is not None else text_of_html(html or "")
    fields: dict[str, Any] = {
        **_sender(mail),
        "to": recipient,
        **{name: [one for _, one in _addresses(mail, header)] for name, header in _LISTS.items()},
        "subject": _header(mail, "subject"),
        "headers": [{"key": key, "value": _plain(value)} for key, value in mail.items()],
        "body": text,
        "htmlBody": html,
    }
    return ReceivedMail(
        recipient,
        text,
        {name: value for name, value in fields.items() if value not in (None, [])},
        tuple(_files(mail)),
    )


class _BoundedHeaders(EmailPolicy):
    """The default policy, which refuses headers that would take minutes to parse.

    The time that Python's parser needs grows with the square of a header's length: strangers could occupy a
    worker with one e-mail.

    Attributes:
        spent: one number, what was spent so far.
    """

    spent: list[int] = []  # noqa: RUF012 - policies are set up by class attributes

    def header_fetch_parse(self, name: str, value: str) -> Any:
        self.spent[0] += len(value) * (len(value) + _PARSED_AS_FAST)
        if self.spent[0] > _MAX_HEADER_WORK:
            raise PermanentStepError(
                f"its header {shortened(printable(name), 80)} is too long, or it has too many."
            )
        return super().header_fetch_parse(name, value)


_LISTS: Final = {"cc": "cc", "bcc": "bcc", "replyTo": "reply-to"}


def trigger_pattern(pattern: str | None, text: str) -> str | None:
    """Return what the first group of a pattern of JavaScript matches first; None without a match."""
    if pattern is None:
        return None
    try:
        found = re.search(to_python(pattern), text[:_MAX_SEARCHED])
    except JsRegexError:
        # The flow's file has a warning: no e-mail matches.
        return None
    return found[1] if found is not None and found.re.groups else None


def _sender(mail: Any) -> dict[str, Any]:
    name, address = next(iter(_addresses(mail, "from")), ("", ""))
    return {
        "from": _header(mail, "from"),
        "senderName": name or None,
        "senderFullEmail": address or None,
        "senderEmailPrefix": address.rpartition("@")[0] or None,
    }


def _addresses(mail: Any, header: str) -> list[tuple[str, str]]:
    values = [_plain(value) for value in mail.get_all(header, [])]
    return [(name, address) for name, address in getaddresses(values) if "@" in address]


def _header(mail: Any, name: str) -> str | None:
    value = mail.get(name)
    return None if value is None else _plain(value)


def _plain(value: Any) -> str:
    # What could not be decoded has half surrogate pairs, which no JSON can have.
    return str(value).encode("utf-8", "replace").decode()


def _text(mail: Any, kind: str) -> str | None:
    part = mail.get_body(preferencelist=(kind,))
    return None if part is None else _content(part)


def _content(part: Any) -> str:
    try:
        return _plain(part.get_content())
    except (LookupError, ValueError, MessageError, KeyError):
        # An unknown charset, for example.
        return (part.get_payload(decode=True) or b"").decode("utf-8", "replace")


def _files(mail: Any) -> Iterator[MailFile]:
    for number, part in enumerate(mail.iter_attachments(), start=1):
        if number > MAX_FILES:
            raise PermanentStepError(f"the e-mail has more than {MAX_FILES} attachments.")
        content = _bytes_of(part)
        facts = {
            "filename": _plain(part.get_filename() or f"attachment-{number}"),
            "contentType": part.get_content_type(),
            "size": len(content),
            "contentId": _header(part, "content-id"),
            "disposition": part.get_content_disposition(),
        }
        yield MailFile({name: value for name, value in facts.items() if value is not None}, content)


def _bytes_of(part: EmailMessage) -> bytes:
    if part.get_content_maintype() == "message":
        inner: Any = part.get_payload()
        return b"".join(one.as_bytes() for one in inner) if isinstance(inner, list) else b""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""
