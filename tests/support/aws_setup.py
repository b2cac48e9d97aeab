"""Queues, topics, tables and functions that an example needs, on local servers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.fake_lambda import FakeLambda
from tests.support.moto import EndpointClients


def set_up_aws(needs: Mapping[str, Any], moto_endpoint: str, functions: FakeLambda) -> EndpointClients:
    """Create what an example needs and return clients for it.

    Args:
        needs: ``queues`` (names, or name -> bodies of its messages), ``topics`` (names), ``tables`` (name ->
            items, with the key ``id`` and the index ``by_state``), ``functions`` (name -> what it returns).
        moto_endpoint: the server of all services but Lambda.
        functions: the server of Lambda.
    """
    clients = EndpointClients(moto_endpoint, services={"lambda": functions.url})
    queues: Any = needs.get("queues", ())
    for name in queues:
        url = _new_queue(clients, name)
        for body in queues[name] if isinstance(queues, Mapping) else ():
            clients.client("sqs").send_message(QueueUrl=url, MessageBody=body)
    for name in needs.get("topics", ()):
        clients.client("sns").create_topic(Name=name)
    for name, items in needs.get("tables", {}).items():
        make_table(clients, name, items)
    for name, value in needs.get("functions", {}).items():
        functions.answer(name, (200, {}, json.dumps(value).encode()))
    return clients


def _new_queue(clients: EndpointClients, name: str) -> str:
    sqs = clients.client("sqs")
    for url in sqs.list_queues(QueueNamePrefix=name).get("QueueUrls", []):
        sqs.delete_queue(QueueUrl=url)
    return str(sqs.create_queue(QueueName=name)["QueueUrl"])


def make_table(clients: EndpointClients, name: str, items: Iterable[Mapping[str, str]]) -> None:
    """Create a table with the key ``id`` and the index ``by_state``, in place of one with this name."""
    client = clients.client("dynamodb")
    if name in client.list_tables()["TableNames"]:
        client.delete_table(TableName=name)
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "state", "AttributeType": "S"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_state",
                "KeySchema": [{"AttributeName": "state", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    for item in items:
        client.put_item(TableName=name, Item={key: {"S": value} for key, value in item.items()})
