"""The demo's data in AWS: a table of users, a bucket, and a manifest of support tickets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from demo.servers import REGION, aws_client
from demo.shop_api import KINDS, user_id

TABLE = "users"
BUCKET = "my-data-bucket"
TENANT = "acme"
REGIONS = ("eu", "us", "apac")
BATCH = 25  # the limit of BatchWriteItem
TICKETS_KEY = "tickets/tickets.jsonl"
# category, whether the ticket is urgent, and what the customer writes
TICKETS: tuple[tuple[str, bool, str], ...] = (
    ("billing", False, "The invoice for my {product} shows an amount that I did not expect."),
    ("delivery", False, "My {product} has not arrived. The parcel was due on Monday."),
    ("defect", True, "The {product} is broken after two days, and I cannot use it any more."),
    ("return", False, "I do not need the {product} any more. How do I get a refund?"),
    ("question", False, "Which colors does the {product} come in?"),
    ("billing", False, "I was charged twice for one {product}."),
    ("defect", True, "One part of the {product} is broken. Can you send me another?"),
)


def user_record(number: int) -> dict[str, str]:
    """Return the record of one user; numbers start at 0."""
    return {
        "tenant": TENANT,
        "userId": user_id(number),
        "region": REGIONS[number % len(REGIONS)],
        "email": f"user{number}@example.com",
    }


def ticket(number: int) -> dict[str, str]:
    """Return one support ticket; numbers start at 0."""
    product = KINDS[number % len(KINDS)].lower()
    text = TICKETS[number % len(TICKETS)][2].format(product=product)
    return {"id": f"t-{number:05d}", "text": f"{text} My order number is {10_000 + number}."}


def write_tickets(endpoint: str, count: int) -> dict[str, str]:
    """Write a manifest of `count` tickets to the bucket and return its pointer."""
    lines = "".join(json.dumps(ticket(number)) + "\n" for number in range(count))
    aws_client("s3", endpoint).put_object(Bucket=BUCKET, Key=TICKETS_KEY, Body=lines.encode())
    return {"bucket": BUCKET, "key": TICKETS_KEY}


def create_bucket(endpoint: str) -> None:
    """Create the empty bucket `my-data-bucket`."""
    aws_client("s3", endpoint).create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
    )


def create_users(endpoint: str, count: int) -> None:
    """Create the table `users` (partition key `tenant`, sort key `userId`) and write `count` records."""
    dynamodb = aws_client("dynamodb", endpoint)
    dynamodb.create_table(
        TableName=TABLE,
        AttributeDefinitions=[
            {"AttributeName": "tenant", "AttributeType": "S"},
            {"AttributeName": "userId", "AttributeType": "S"},
        ],
        KeySchema=[
            {"AttributeName": "tenant", "KeyType": "HASH"},
            {"AttributeName": "userId", "KeyType": "RANGE"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    for batch in _batches(count):
        response = dynamodb.batch_write_item(RequestItems={TABLE: batch})
        while unprocessed := response["UnprocessedItems"]:
            response = dynamodb.batch_write_item(RequestItems=unprocessed)


def _batches(count: int) -> Iterator[list[dict[str, Any]]]:
    numbers = iter(range(count))
    while batch := list(islice(numbers, BATCH)):
        yield [{"PutRequest": {"Item": _typed(user_record(number))}} for number in batch]


def _typed(record: dict[str, str]) -> dict[str, dict[str, str]]:
    return {name: {"S": value} for name, value in record.items()}
