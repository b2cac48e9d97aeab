"""Notifications in the bodies of messages: the envelope of SNS, and what S3 reports about objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, decode_json

__all__ = ["decoded", "is_test_of_s3", "s3_objects", "unwrap"]

_BRIDGE_TYPES: Final[Mapping[str, str]] = {
    "Object Created": "ObjectCreated",
    "Object Deleted": "ObjectRemoved",
}
"""EventBridge's ``detail-type`` -> the beginning of S3's own name for it."""


def decoded(body: str) -> Any:
    """Return the JSON value of a body, or the body itself if it is not JSON that a value can hold."""
    try:
        return decode_json(body.encode())
    except (NotJsonError, UnreadableJsonError, UnicodeEncodeError):
        return body


def unwrap(value: Any) -> Any:
    """Return what SNS has put into its envelope; any other value unchanged."""
    if (
        isinstance(value, dict)
        and value.get("Type") == "Notification"
        and isinstance(value.get("TopicArn"), str)
        and isinstance(value.get("Message"), str)
    ):
        return decoded(value["Message"])
    return value


def is_test_of_s3(value: Any) -> bool:
    """Return whether a body is what S3 sends once, when notifications are configured."""
    return isinstance(value, dict) and value.get("Event") == "s3:TestEvent"


def s3_objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects that a notification of S3 is about, sent by S3 itself or by EventBridge.

    Each has ``bucket`` and ``key``, a ``pointer`` that a flow can read the object with, and if S3 reports
    them ``eventName``, ``eventTime``, ``size``, ``eTag`` and ``versionId``.
    """
    if not isinstance(value, dict):
        return
    records = value.get("Records")
    for record in records if isinstance(records, list) else ():
        if isinstance(record, dict) and record.get("eventSource") == "aws:s3":
            # S3 itself encodes keys as a form does; EventBridge does not.
            yield from _object(
                record.get("s3"), record.get("eventName"), record.get("eventTime"), unquote_plus
            )
    if value.get("source") == "aws.s3":
        kind = value.get("detail-type")
        name = _BRIDGE_TYPES.get(kind, kind) if isinstance(kind, str) else None
        yield from _object(value.get("detail"), name, value.get("time"), str)


def _object(found: Any, name: Any, time: Any, decode_key: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(found, dict):
        return
    bucket, stored = found.get("bucket"), found.get("object")
    if not isinstance(bucket, dict) or not isinstance(stored, dict):
        return
    bucket_name, key = bucket.get("name"), stored.get("key")
    if not isinstance(bucket_name, str) or not isinstance(key, str):
        return
    facts = {
        "eventName": name,
        "eventTime": time,
        "size": stored.get("size"),
        "eTag": stored.get("eTag", stored.get("etag")),
        "versionId": stored.get("versionId", stored.get("version-id")),
    }
    known = {fact: value for fact, value in facts.items() if value is not None}
    pointer = {"bucket": bucket_name, "key": decode_key(key)}
    version = known.get("versionId")
    # "null" is the version of an object that was stored while its bucket kept no versions.
    is_versioned = isinstance(version, str) and version not in {"", "null"}
    yield {**pointer, **known, "pointer": {**pointer, "versionId": version} if is_versioned else pointer}
