"""Sending an e-mail through Amazon SES."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from airflow_allma.common.aws_clients import AwsClients
from airflow_allma.engine.errors import step_error_from
from airflow_allma.exceptions import PermanentStepError

__all__ = ["MAX_SES_RECIPIENTS", "send_by_ses"]

MAX_SES_RECIPIENTS: Final = 50
"""SES takes no more in one message."""


def send_by_ses(aws: AwsClients | None, sender: str, recipients: Sequence[str], message: bytes) -> str:
    """Send a message and return SES's id of it; blocks.

    Raises:
        StepError: no AWS credentials are configured, or SES refused the message or did not answer.
    """
    if aws is None:
        raise PermanentStepError(
            "This step sends an e-mail through SES, but no AWS credentials are configured. Configure an AWS "
            "connection, or name an SMTP connection in `connection` of the step."
        )
    try:
        client = aws.client("ses", retries=False)
        response = client.send_raw_email(
            Source=sender, Destinations=list(recipients), RawMessage={"Data": message}
        )
    except Exception as error:
        raise step_error_from(
            error, doing=f"SES e-mail from {sender!r}", connection=aws.connection
        ) from error
    return str(response["MessageId"])
