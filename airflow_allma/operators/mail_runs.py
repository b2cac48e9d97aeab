"""E-mails of a queue: which flow one is for, and the payload of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_allma.engine.events import QueueMessage
from airflow_allma.engine.events.mail import (
    MAX_MAIL_BYTES,
    FoundMail,
    ReceivedMail,
    find_mail,
    read_mail,
    trigger_pattern,
)
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.flow.mail_routes import MailRoute, find_route
from airflow_allma.operators.task_context import LOG, TaskContext

if TYPE_CHECKING:
    from airflow_allma.storage import ObjectStore

__all__ = ["mail_payload"]


def mail_payload(
    current: TaskContext, message: QueueMessage
) -> tuple[MailRoute | None, dict[str, Any]] | None:
    """Return the start point of this flow that an e-mail starts, and the run's payload.

    Args:
        current: the task that starts the runs.
        message: a message.

    Returns:
        None if the message is not about an e-mail; no start point if the e-mail is for another flow, or
        for none.

    Raises:
        PermanentStepError: the e-mail cannot be read.
        StorageError: an attachment cannot be stored.
    """
    found = find_mail(message.body, message.objects)
    if found is None:
        return None
    mail = _read(_content(current, found), found)
    route = find_route(current.flow_ref.mail, mail.recipient, mail.text)
    if route is None:
        LOG.warning("Message %s: no flow takes e-mails to %s", message.message_id, mail.recipient)
    elif route.flow_id != current.flow.id:
        LOG.info("Message %s: its e-mail is for flow %s", message.message_id, route.flow_id)
        route = None
    if route is None:
        return None, {}
    return route, {"triggeringEmail": _triggering_email(current, message, mail, route)}


def _read(content: bytes, found: FoundMail) -> ReceivedMail:
    try:
        return read_mail(content, found.recipients)
    except PermanentStepError:
        raise
    except Exception as error:
        # Anybody can send anything; the other e-mails must start their runs.
        raise PermanentStepError(f"its e-mail cannot be read: {type(error).__name__}.") from error


def _content(current: TaskContext, found: FoundMail) -> bytes:
    if found.content is not None:
        return found.content
    if found.pointer is None:
        raise PermanentStepError("the notification names no object.")
    store = _store(current)
    try:
        content = store.read(found.pointer, 0, MAX_MAIL_BYTES + 1)
    except StorageError as error:
        raise PermanentStepError(f"its e-mail cannot be read. {error}") from error
    if len(content) > MAX_MAIL_BYTES:
        raise PermanentStepError(f"its e-mail has more than {MAX_MAIL_BYTES} bytes.")
    return content


def _triggering_email(
    current: TaskContext, message: QueueMessage, mail: ReceivedMail, route: MailRoute
) -> dict[str, Any]:
    email: dict[str, Any] = {**mail.fields, "attachments": _attachments(current, message, mail)}
    matched = trigger_pattern(route.pattern, mail.text)
    return email if matched is None else {**email, "triggerPattern": matched}


def _attachments(current: TaskContext, message: QueueMessage, mail: ReceivedMail) -> list[dict[str, Any]]:
    """Store the attachments; the same e-mail always has the same keys."""
    location = current.services.settings.offload_location
    if mail.files and location is None:
        LOG.warning(
            "Message %s: its %d attachments are dropped, as no [allma] offload_location is set",
            message.message_id,
            len(mail.files),
        )
    listed: list[dict[str, Any]] = []
    for number, file in enumerate(mail.files, start=1):
        facts = dict(file.facts)
        if location is not None:
            pointer = location.pointer(current.ti.dag_id, "mail", message.message_id, str(number))
            _store(current).write(pointer, file.content, content_type=facts["contentType"])
            facts["s3Location"] = {"bucket": pointer.bucket, "key": pointer.key}
        listed.append(facts)
    return listed


def _store(current: TaskContext) -> ObjectStore:
    store = current.services.store
    if store is None:
        raise PermanentStepError("no store is configured; set an AWS connection.")
    return store
