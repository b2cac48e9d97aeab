"""The demo's data in AWS: a table of users and a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from demo.servers import REGION, aws_client
from demo.shop_api import user_id

TABLE = "users"
BUCKET = "my-data-bucket"
TENANT = "acme"
REGIONS = ("eu", "us", "apac")
BATCH = 25  # the limit of BatchWriteItem


def user_record(number: int) -> dict[str, str]:
    """Return the record of one user; numbers start at 0."""
    return {
        "tenant": TENANT,
        "userId": user_id(number),
        "region": REGIONS[number % len(REGIONS)],
        "email": f"user{number}@example.com",
    }


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
