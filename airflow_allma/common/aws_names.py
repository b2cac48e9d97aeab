"""Names of AWS resources: their region, and whether they can be names at all."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import urlsplit

__all__ = ["QueueUrl", "is_aws_host", "parse_queue_url", "queue_url_of_arn", "region_of_arn"]

_ARN: Final = re.compile(r"arn:aws[a-z0-9-]*:[a-z0-9-]+:([a-z0-9-]+):")
_QUEUE_ARN: Final = re.compile(r"arn:(aws[a-z0-9-]*):sqs:([a-z0-9-]+):(\d+):([A-Za-z0-9_-]+(?:\.fifo)?)")
_MAX_URL: Final = 1024
_PRINTABLE: Final = re.compile(rf"[\x21-\x7e]{{1,{_MAX_URL}}}")
_QUEUE_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_.-]+)*/([A-Za-z0-9_-]{1,80}(?:\.fifo)?)")
_MAX_QUEUE_NAME: Final = 80
_AWS_HOST: Final = re.compile(
    r"(?:.*\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws|api\.amazonwebservices\.com\.cn)"
)
# Regional, dual-stack and FIPS endpoints, those of a VPC, and two forms that old queues still have.
_SQS_HOST: Final = re.compile(
    r"(?:(?:[a-z0-9-]+\.)*sqs(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?"
    r"|(?:(?P<legacy>[a-z0-9-]+)\.)?queue\.)"
    r"(?:amazonaws\.com(?:\.cn)?|api\.aws|api\.amazonwebservices\.com\.cn)"
)
_LEGACY_REGION: Final = "us-east-1"


class QueueUrl(NamedTuple):
    """A valid queue URL.

    Attributes:
        name: the queue.
        host: host, and port if it has one.
        region: the region that an AWS host names; None for the host of something that acts as SQS.
    """

    name: str
    host: str
    region: str | None

    @property
    def is_fifo(self) -> bool:
        """Whether it is a FIFO queue."""
        return self.name.endswith(".fifo")


@lru_cache(maxsize=256)
def parse_queue_url(url: str) -> QueueUrl:
    """Return the parts of a queue URL.

    Raises:
        ValueError: it is not the URL of a queue; the message says why, without the URL.
    """
    try:
        parts = urlsplit(url[: _MAX_URL + 1])
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    host = (parts.hostname or "").lower()
    if parts.scheme not in {"https", "http"} or not host or not _PRINTABLE.fullmatch(url):
        raise ValueError("is not a URL that begins with https://")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("has a user, a query or a fragment, which no queue URL has")
    path = _QUEUE_PATH.fullmatch(parts.path)
    if path is None or len(path[1]) > _MAX_QUEUE_NAME:
        raise ValueError("does not end in the name of a queue")
    region = None
    if _AWS_HOST.fullmatch(host):
        found = _SQS_HOST.fullmatch(host)
        if found is None:
            raise ValueError("is the URL of another AWS service, not of SQS")
        region = found["region"] or found["legacy"] or _LEGACY_REGION
    return QueueUrl(path[1], f"{host}:{port}" if port else host, region)


def queue_url_of_arn(name: str) -> str | None:
    """Return the URL of the queue with an ARN; None if the name is not the ARN of a queue."""
    arn = _QUEUE_ARN.fullmatch(name)
    if arn is None:
        return None
    partition, region, account, queue = arn.groups()
    suffix = ".cn" if partition == "aws-cn" else ""
    return f"https://sqs.{region}.amazonaws.com{suffix}/{account}/{queue}"


def is_aws_host(endpoint: str) -> bool:
    """Return whether an endpoint URL is one of AWS, and not of something that acts as AWS."""
    return _AWS_HOST.fullmatch(urlsplit(endpoint).hostname or "") is not None


def region_of_arn(name: str) -> str | None:
    """Return the region of an ARN; None if the name is not an ARN, or one without region."""
    found = _ARN.match(name)
    return found[1] if found else None
