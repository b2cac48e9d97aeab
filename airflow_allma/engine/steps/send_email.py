"""Handler of EMAIL: one e-mail, through SES or an SMTP server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any, ClassVar, Final

import msgspec

from airflow_allma.common.json_types import type_name
from airflow_allma.engine.mail.addresses import check_header_value, parse_address, parse_addresses
from airflow_allma.engine.mail.attachments import AttachedFile, parse_attachments, read_attachments
from airflow_allma.engine.mail.message import Mail, check_headers, message_bytes, new_message_id
from airflow_allma.engine.mail.ses import MAX_SES_RECIPIENTS, send_by_ses
from airflow_allma.engine.mail.smtp import MAX_SMTP_RECIPIENTS, SmtpServer, send_by_smtp, server_of
from airflow_allma.engine.outside_calls import MailCall
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions import NOTHING, compile_config, compile_path
from airflow_allma.expressions.configs import resolve_final_pointer
from airflow_allma.expressions.js_values import to_string
from airflow_allma.flow import EmailStep

__all__ = ["SendEmail"]

_RENDERED: Final = (
    "from",
    "fromName",
    "subject",
    "body",
    "to",
    "cc",
    "bcc",
    "replyTo",
    "customHeaders",
    "attachments",
)
_OPTIONAL_LISTS: Final = ("cc", "bcc", "replyTo")


class SendEmail(AsyncHandler):
    """Handler of EMAIL steps; the output is ``{"sesMessageId", "renderedEmail"}``.

    Everything is evaluated and checked before the e-mail is handed over.
    """

    blocks_thread: ClassVar[bool] = True
    has_side_effects = True

    def __init__(self, step: EmailStep) -> None:
        fields = step.model_dump(mode="json", by_alias=True, exclude_none=True)
        self._fields = compile_config({name: fields[name] for name in _RENDERED if name in fields})
        self._attachments_path = compile_path(step.attachments_path) if step.attachments_path else None
        self._connection = step.connection

    async def __call__(self, call: StepCall) -> Any:
        """Send the e-mail.

        Raises:
            TransientStepError: the service does not answer, or asks to try later.
            PermanentStepError: an address, a header or an attachment is not valid, there are too many
                recipients, the e-mail is too large, or the service refuses it.
        """
        root = call.root()
        rendered = self._fields.render(root, call.load)
        if self._attachments_path is not None:
            found = self._attachments_path.find(root, call.load)
            found = resolve_final_pointer(found, self._attachments_path.source, call.load)
            if found is not NOTHING and found is not None:
                rendered["attachments"] = found
        files = parse_attachments(rendered.get("attachments"))
        mail, shown = _mail_of(rendered, files)
        server = None
        if self._connection is not None:
            server = server_of(await call.services.secrets.connection(self._connection))
        _check_recipients(mail, MAX_SMTP_RECIPIENTS if server else MAX_SES_RECIPIENTS)
        message_id = await call.services.threads.run(_send, call, mail, files, server)
        return {"sesMessageId": message_id, "renderedEmail": shown, "_meta": {"status": "SUCCESS"}}


def _send(call: StepCall, mail: Mail, files: list[AttachedFile], server: SmtpServer | None) -> str:
    """Send an e-mail and return its id; runs in a thread."""
    mail = replace(mail, attachments=read_attachments(files, call.services.store))
    message_id = new_message_id(mail.sender)
    data = message_bytes(mail, message_id)
    started, sent, failure = perf_counter(), "", None
    try:
        if server is not None:
            send_by_smtp(server, mail.sender, mail.recipients, data)
            sent = message_id.strip("<>")
        else:
            sent = send_by_ses(call.services.aws, mail.sender, mail.recipients, data)
    except BaseException as error:
        failure = type(error.__cause__ or error).__name__
        raise
    finally:
        milliseconds = (perf_counter() - started) * 1000
        call.calls.add(MailCall(sent, tuple(mail.recipients), milliseconds, failure))
    return sent


def _mail_of(rendered: Mapping[str, Any], files: list[AttachedFile]) -> tuple[Mail, dict[str, Any]]:
    """Return the e-mail of rendered fields, without its attachments, and what the output shows of it."""
    addresses = {name: parse_addresses(rendered[name], name) for name in _OPTIONAL_LISTS if name in rendered}
    headers = _custom_headers(rendered.get("customHeaders"))
    name = check_header_value(_string(rendered, "fromName"), "fromName") if "fromName" in rendered else ""
    mail = Mail(
        sender=parse_address(rendered.get("from"), "from"),
        sender_name=name,
        subject=check_header_value(_string(rendered, "subject"), "subject"),
        body=_string(rendered, "body"),
        to=tuple(parse_addresses(rendered.get("to"), "to")),
        cc=tuple(addresses.get("cc", ())),
        bcc=tuple(addresses.get("bcc", ())),
        reply_to=tuple(addresses.get("replyTo", ())),
        headers=check_headers(headers),
    )
    if not mail.to:
        raise PermanentStepError("`to` has no address: its path or template finds nothing in the data.")
    shown = {
        "from": mail.sender,
        **({"fromName": name} if name else {}),
        "to": list(mail.to),
        **addresses,
        "subject": mail.subject,
        "body": mail.body,
        **({"customHeaders": [{"name": key, "value": value} for key, value in headers]} if headers else {}),
        **({"attachments": [file.as_json() for file in files]} if files else {}),
    }
    return mail, shown


def _check_recipients(mail: Mail, limit: int) -> None:
    if len(mail.recipients) > limit:
        raise PermanentStepError(
            f"The e-mail has {len(mail.recipients)} recipients; at most {limit} can be sent at once. Send "
            "to each in a fork, or to a list's own address."
        )


def _string(rendered: Mapping[str, Any], field: str) -> str:
    value = rendered.get(field)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return to_string(value)
    found = "its path finds nothing" if field not in rendered else f"it is {type_name(value)}"
    raise PermanentStepError(f"`{field}` must be a string; {found}.", details={"field": field})


def _custom_headers(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return []
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            value = None
    elif value is None:
        return []
    if not isinstance(value, list):
        raise PermanentStepError(
            "`customHeaders` must be a list of {name, value}, or render to the JSON of one, as "
            "{{json headers}} does."
        )
    headers = []
    for index, header in enumerate(value):
        name = header.get("name") if isinstance(header, dict) else None
        content = header.get("value") if isinstance(header, dict) else None
        if not isinstance(name, str) or not isinstance(content, str | int | float):
            raise PermanentStepError(f"`customHeaders` [{index}] must be {{name, value}}, both strings.")
        headers.append((name, to_string(content)))
    return headers
