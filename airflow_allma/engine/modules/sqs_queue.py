"""The queue that a step names."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator

from airflow_allma.common.aws_names import QueueUrl, is_aws_host, parse_queue_url
from airflow_allma.engine.modules.aws_call import AwsResource
from airflow_allma.engine.modules.definition import ModuleContext
from airflow_allma.exceptions import PermanentStepError

__all__ = ["QueueUrlText", "queue_of"]

_FORM: Final = "https://sqs.<region>.amazonaws.com/<account>/<queue>"


def _check_url(value: str) -> str:
    try:
        parse_queue_url(value)
    except ValueError as error:
        raise ValueError(f"{error}; a queue URL is {_FORM}") from None
    return value


QueueUrlText = Annotated[str, AfterValidator(_check_url)]
"""A string that is the URL of a queue."""


def queue_of(url: str, context: ModuleContext) -> tuple[AwsResource, QueueUrl]:
    """Return the queue with a valid URL, for calls in its own region, and the parts of the URL.

    Raises:
        PermanentStepError: the URL has another host than AWS, and the connection's endpoint is AWS.
    """
    parts = parse_queue_url(url)
    if parts.region is None:
        clients = context.require_aws()
        if is_aws_host(clients.client("sqs", retries=False).meta.endpoint_url):
            raise PermanentStepError(
                f"$.queueUrl has the host {parts.host!r}, which is not SQS; a queue URL is {_FORM}. For "
                "something that acts as SQS, set an endpoint_url in the connection "
                f"({clients.connection}).",
                details={"queueUrl": url},
            )
    return AwsResource("sqs", "SQS queue", "queueUrl", url, parts.region), parts
