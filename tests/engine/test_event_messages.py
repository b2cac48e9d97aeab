"""Messages of a queue as flows see them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.events import QueueMessage, is_test_of_s3, recorded_message, s3_objects
from airflow_allma.storage import Pointer

RECORD = {
    "eventSource": "aws:s3",
    "eventName": "ObjectCreated:Put",
    "eventTime": "2026-03-01T06:00:00.000Z",
    "s3": {
        "bucket": {"name": "lake", "arn": "arn:aws:s3:::lake"},
        "object": {"key": "in/a+b%2Bc/%C3%A4.jsonl", "size": 7, "eTag": "e1", "versionId": "v1"},
    },
}
FROM_S3 = {"Records": [RECORD]}
FROM_EVENTBRIDGE = {
    "source": "aws.s3",
    "detail-type": "Object Created",
    "time": "2026-03-01T06:00:00Z",
    "detail": {"bucket": {"name": "lake"}, "object": {"key": "in/a b+c/ä.jsonl", "size": 7, "etag": "e1"}},
}


def in_sns(body):
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-3:1:t", "Message": body}


def message(body, **more):
    body = body if isinstance(body, str) else json.dumps(body)
    return QueueMessage.of({"messageId": "m-1", "body": body, **more})


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ({"order": 7}, {"order": 7}),
        ([1], [1]),
        ("plain text", "plain text"),
        ("", ""),
        ('{"a": ', '{"a": '),
        ('{"a": 1e999}', '{"a": 1e999}'),
        ("[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000),
        (in_sns('{"order": 7}'), {"order": 7}),
        (in_sns("plain text"), "plain text"),
        ({"Type": "Notification", "Message": "{}"}, {"Type": "Notification", "Message": "{}"}),
        (in_sns(json.dumps(in_sns('{"x": 1}'))), in_sns('{"x": 1}')),
    ],
)
def test_a_body_is_its_json_without_one_envelope_of_sns_or_else_its_text(body, seen):
    assert message(body).body == seen


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (FROM_S3, {"versionId": "v1", "eventTime": RECORD["eventTime"]}),
        (in_sns(json.dumps(FROM_S3)), {"versionId": "v1", "eventTime": RECORD["eventTime"]}),
        (FROM_EVENTBRIDGE, {"eventTime": "2026-03-01T06:00:00Z", "eventName": "ObjectCreated"}),
    ],
)
def test_the_objects_that_s3_reports_are_pointers(body, more):
    found = message(body)
    expected = {"bucket": "lake", "key": "in/a b+c/ä.jsonl", "size": 7, "eTag": "e1"}
    (one,) = found.objects
    pointer = one["pointer"]
    assert one == {"eventName": "ObjectCreated:Put", **expected, **more, "pointer": pointer}
    assert pointer.get("versionId") == more.get("versionId")
    assert Pointer.parse(pointer).uri == "s3://lake/in/a b+c/ä.jsonl"
    assert found.extra["s3Objects"] == [one]
    assert json.loads(found.extra["rawBody"]) == body


@pytest.mark.parametrize(
    "body",
    [
        None,
        7,
        {"Records": 7},
        {"Records": [7, {"eventSource": "aws:s3"}, {"eventSource": "aws:ses"}]},
        {"Records": [{"eventSource": "aws:s3", "s3": {"bucket": "b", "object": {}}}]},
        {"Records": [{"eventSource": "aws:s3", "s3": {"bucket": {}, "object": {"key": "k"}}}]},
        {"source": "aws.s3", "detail": []},
    ],
)
def test_other_bodies_report_no_objects(body):
    assert list(s3_objects(body)) == []


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers(-9, 9), st.lists))
def test_no_body_is_too_odd_to_look_at(body):
    assert list(s3_objects({"Records": body, "source": "aws.s3", "detail-type": body, "detail": body})) == []
    assert not is_test_of_s3(body)


def test_the_test_message_of_s3_is_recognized():
    assert is_test_of_s3({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "lake"})


def test_a_message_is_recorded_with_its_attributes_and_without_its_receipt():
    received = {
        "MessageId": "m-1",
        "ReceiptHandle": "secret",
        "Body": '{"a": "\\u0000"}',
        "Attributes": {"SentTimestamp": "1700000000123", "MessageGroupId": "g"},
        "MessageAttributes": {
            "kind": {"DataType": "String", "StringValue": "bill"},
            "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        },
    }
    assert recorded_message(received) == {
        "messageId": "m-1",
        "body": '{"a": "\\u0000"}',
        "attributes": {"kind": "bill", "raw": "AP8="},
        "sentTimestamp": 1700000000123,
        "messageGroupId": "g",
    }
