from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.common.aws_names import is_aws_host, parse_queue_url, region_of_arn

PATH = "/000011112222/bills"


@pytest.mark.parametrize(
    ("url", "region"),
    [
        (f"https://sqs.eu-west-3.amazonaws.com{PATH}", "eu-west-3"),
        (f"https://sqs.cn-north-1.amazonaws.com.cn{PATH}", "cn-north-1"),
        (f"https://sqs.us-gov-west-1.amazonaws.com{PATH}", "us-gov-west-1"),
        (f"https://sqs-fips.us-east-1.amazonaws.com{PATH}", "us-east-1"),
        (f"https://sqs.eu-west-3.api.aws{PATH}", "eu-west-3"),
        (f"https://vpce-0a-1b.sqs.eu-west-3.vpce.amazonaws.com{PATH}", "eu-west-3"),
        (f"https://eu-west-3.queue.amazonaws.com{PATH}", "eu-west-3"),
        (f"https://queue.amazonaws.com{PATH}", "us-east-1"),
        (f"HTTPS://SQS.EU-WEST-3.AMAZONAWS.COM{PATH}", "eu-west-3"),
        (f"http://localhost:4566{PATH}", None),
        (f"http://sqs.eu-west-3.localhost.localstack.cloud:4566{PATH}", None),
        ("http://127.0.0.1:9324/queue/bills", None),
        ("http://127.0.0.1:9324/bills", None),
    ],
)
def test_the_region_of_a_queue_is_in_its_url(url, region):
    parts = parse_queue_url(url)
    assert (parts.name, parts.region, parts.is_fifo) == ("bills", region, False)


def test_a_fifo_queue_has_its_suffix():
    assert parse_queue_url(f"http://localhost{PATH}.fifo").is_fifo


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "begins with https"),
        ("bills", "begins with https"),
        ("arn:aws:sqs:eu-west-3:000011112222:bills", "begins with https"),
        ("ftp://sqs.eu-west-3.amazonaws.com/1/q", "begins with https"),
        ("https:///1/q", "begins with https"),
        ("https://sqs.eu-west-3.amazonaws.com/1/q q", "begins with https"),
        ("https://sqs.eu-west-3.amazonaws.com/1/q\n", "begins with https"),
        ("https://sqs.eu-west-3.amazonaws.com/1/é", "begins with https"),
        (f"https://sqs.eu-west-3.amazonaws.com/{'1/' * 600}q", "begins with https"),
        ("https://[::1/1/q", "is not a URL"),
        ("https://host:99999/1/q", "is not a URL"),
        ("https://sqs.eu-west-3.amazonaws.com@evil.test/1/q", "a user"),
        ("https://sqs.eu-west-3.amazonaws.com/1/q?Action=DeleteQueue", "a query"),
        ("https://sqs.eu-west-3.amazonaws.com/1/q#x", "a fragment"),
        ("https://sqs.eu-west-3.amazonaws.com", "name of a queue"),
        ("https://sqs.eu-west-3.amazonaws.com/1/", "name of a queue"),
        ("https://sqs.eu-west-3.amazonaws.com/1/q.txt", "name of a queue"),
        (f"https://sqs.eu-west-3.amazonaws.com/1/{'q' * 81}", "name of a queue"),
        (f"https://sqs.eu-west-3.amazonaws.com/1/{'q' * 76}.fifo", "name of a queue"),
        ("https://bucket.s3.amazonaws.com/1/q", "another AWS service"),
        ("https://sns.eu-west-3.amazonaws.com/1/q", "another AWS service"),
    ],
)
def test_what_is_not_the_url_of_a_queue_is_refused_with_the_reason(url, reason):
    with pytest.raises(ValueError, match=reason):
        parse_queue_url(url)


@given(st.text() | st.text().map(lambda text: f"https://{text}"))
def test_any_text_is_a_queue_or_an_error(text):
    try:
        parts = parse_queue_url(text)
    except ValueError:
        return
    assert parts.name
    assert parts.host


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("arn:aws:sns:eu-west-3:000011112222:orders", "eu-west-3"),
        ("arn:aws-cn:dynamodb:cn-north-1:1:table/t", "cn-north-1"),
        ("arn:aws:s3:::bucket", None),
        ("orders", None),
    ],
)
def test_the_region_of_an_arn(name, region):
    assert region_of_arn(name) == region


def test_hosts_of_aws():
    assert is_aws_host("https://sqs.eu-west-3.amazonaws.com")
    assert not is_aws_host("http://127.0.0.1:5000")
    assert not is_aws_host("https://sqs.amazonaws.com.evil.test")
