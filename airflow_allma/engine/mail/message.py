"""An e-mail with everything in it, and its form on the wire (MIME)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from airflow_allma.engine.mail.addresses import check_header_value
from airflow_allma.engine.mail.plain_text import text_of_html
from airflow_allma.exceptions import PermanentStepError

__all__ = ["MAX_MESSAGE_BYTES", "Attachment", "Mail", "check_headers", "message_bytes", "new_message_id"]

MAX_MESSAGE_BYTES: Final = 10_000_000
"""SES takes no larger message; attachments grow by a third in it."""

_MAX_HEADERS: Final = 50
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,126}")
_OWN_HEADERS: Final = frozenset(
    {
        "bcc",
        "cc",
        "date",
        "from",
        "message-id",
        "mime-version",
        "reply-to",
        "return-path",
        "sender",
        "subject",
        "to",
    }
)
# Headers that servers add, whose forgery would mislead them, and those of a message's parts.
_OWN_PREFIXES: Final = ("arc-", "authentication-", "content-", "dkim-", "received", "resent-", "x-ses-")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9 ]{1,40}")
_MEDIA_TYPE: Final = re.compile(r"([A-Za-z0-9!#$&^_.+-]+)/([A-Za-z0-9!#$&^_.+-]+)\s*(?:;.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of an e-mail.

    Attributes:
        filename: the name that the recipient sees.
        content_type: its media type; one that is not valid becomes ``application/octet-stream``.
        data: its content.
    """

    filename: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Mail:
    """An e-mail. Addresses and header values are those that ``addresses`` has checked.

    Attributes:
        sender: the sender's address.
        sender_name: the sender's name; empty for none.
        subject: the subject.
        body: the body, HTML.
        to: recipients.
        cc: recipients of a copy.
        bcc: recipients that the others do not see.
        reply_to: addresses for replies.
        headers: names and values of further headers.
        attachments: files.
    """

    sender: str
    sender_name: str
    subject: str
    body: str
    to: tuple[str, ...]
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()

    @property
    def recipients(self) -> list[str]:
        """Everybody who gets the e-mail, each once."""
        return list(dict.fromkeys((*self.to, *self.cc, *self.bcc)))


def check_headers(headers: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the further headers of an e-mail if they can be sent.

    Raises:
        PermanentStepError: a name is not valid or not for a flow to set, a value is not safe, or there are
            too many.
    """
    if len(headers) > _MAX_HEADERS:
        raise PermanentStepError(
            f"`customHeaders` has {len(headers)} headers; at most {_MAX_HEADERS} can be sent."
        )
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name):
            raise PermanentStepError(
                f"`customHeaders` {name[:80]!r} is not a valid header name. Use letters, digits and '-'."
            )
        if name.lower() in _OWN_HEADERS or name.lower().startswith(_OWN_PREFIXES):
            raise PermanentStepError(
                f"`customHeaders` cannot set {name!r}. Addresses and subject have fields of their own in the "
                "step; the rest is set by mail servers."
            )
        check_header_value(value, f"customHeaders.{name}")
    return tuple(headers)


def new_message_id(sender: str) -> str:
    """Return a new ``Message-ID``, with angle brackets.

    Args:
        sender: the sender's address, whose domain it gets: the machine's name is nobody's business.
    """
    from email.utils import make_msgid

    return make_msgid(domain=sender.rpartition("@")[2])


def message_bytes(mail: Mail, message_id: str) -> bytes:
    """Return the message as it is sent: HTML and its text, attachments, all headers but ``Bcc``.

    Args:
        mail: the e-mail.
        message_id: the value of ``Message-ID``, with angle brackets.

    Raises:
        PermanentStepError: the body contains broken Unicode, or the message is larger than SES and most
            servers take.
    """
    # Takes 30 ms to import, which a task without e-mails need not pay.
    from email.headerregistry import Address
    from email.message import EmailMessage
    from email.policy import SMTP
    from email.utils import formatdate

    try:
        size = len(mail.body.encode())
    except UnicodeEncodeError as error:
        raise PermanentStepError(f"`body` contains broken Unicode at character {error.start}.") from error
    _check_size(size + sum(len(attachment.data) for attachment in mail.attachments))
    # Servers need not take anything but ASCII.
    message = EmailMessage(SMTP.clone(cte_type="7bit", refold_source="none"))
    message.set_raw("From", _sender(mail))
    for name, addresses in (("To", mail.to), ("Cc", mail.cc), ("Reply-To", mail.reply_to)):
        if addresses:
            message[name] = [Address(addr_spec=address) for address in addresses]
    message["Subject"] = mail.subject
    message["Date"] = formatdate()
    message["Message-ID"] = message_id
    for name, value in mail.headers:
        message.add_header(name, value)
    message.set_content(text_of_html(mail.body))
    message.add_alternative(mail.body, subtype="html")
    for attachment in mail.attachments:
        main, sub = _media_type(attachment.content_type)
        message.add_attachment(attachment.data, maintype=main, subtype=sub, filename=attachment.filename)
    data = message.as_bytes()
    _check_size(len(data))
    return data


def _sender(mail: Mail) -> str:
    """Return the value of ``From``, with its name encoded unless it is plain words.

    Python's own header loses the quotes of a long name, and ``boss@example.com, ...`` becomes an address.
    """
    from email.header import Header

    name = mail.sender_name.strip()
    if not name:
        return mail.sender
    if not _PLAIN_NAME.fullmatch(name):
        name = Header(name, "utf-8", header_name="From").encode()
    return f"{name} <{mail.sender}>"


def _check_size(size: int) -> None:
    if size > MAX_MESSAGE_BYTES:
        raise PermanentStepError(
            f"The e-mail has {size} bytes; at most {MAX_MESSAGE_BYTES} can be sent, attachments as Base64. "
            "Shorten `body`, or send a link to the files.",
            details={"bytes": size},
        )


def _media_type(content_type: str) -> tuple[str, str]:
    match = _MEDIA_TYPE.fullmatch(content_type.strip())
    # A message or a multipart in a part is more than a file.
    if match is None or match[1].lower() in {"message", "multipart"}:
        return "application", "octet-stream"
    return match[1].lower(), match[2].lower()
