from __future__ import annotations

import base64
import itertools

import msgspec
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.modules import ModuleContext, run_module
from airflow_allma.engine.modules.dynamodb_types import from_dynamodb, to_dynamodb
from airflow_allma.engine.services import EngineSettings
from airflow_allma.exceptions import (
    ObjectAccessDeniedError,
    ObjectNotFoundError,
    PermanentStepError,
    TransientStepError,
)
from airflow_allma.storage import MemoryStore, Pointer
from tests.support.moto import EndpointClients

_numbers = itertools.count()


@pytest.fixture
def clients(moto_endpoint):
    return EndpointClients(moto_endpoint)


@pytest.fixture
def table(clients):
    """A table with 25 users of tenant a and one of tenant b."""
    name = f"users-{next(_numbers)}"
    client = clients.client("dynamodb")
    client.create_table(
        TableName=name,
        KeySchema=[
            {"AttributeName": "tenant", "KeyType": "HASH"},
            {"AttributeName": "id", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "tenant", "AttributeType": "S"},
            {"AttributeName": "id", "AttributeType": "N"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(25):
        client.put_item(
            TableName=name,
            Item={
                "tenant": {"S": "a"},
                "id": {"N": str(number)},
                "odd": {"BOOL": number % 2 == 1},
                "score": {"N": "0.5"},
            },
        )
    client.put_item(
        TableName=name,
        Item={"tenant": {"S": "b"}, "id": {"N": "1"}, "blob": {"B": b"\xff"}, "tags": {"SS": ["x"]}},
    )
    return name


def load(clients, **inputs):
    return run_module("system/dynamodb-data-loader", inputs, ModuleContext(aws=clients))["content"]


def query_of(table, tenant="a"):
    return {
        "operation": "QUERY",
        "tableName": table,
        "keyConditionExpression": "tenant = :t",
        "expressionAttributeValues": {":t": tenant},
    }


def test_get_returns_an_item_as_json(clients, table):
    item = load(clients, operation="GET", tableName=table, key={"tenant": "b", "id": 1})
    assert item == {"tenant": "b", "id": 1, "blob": base64.b64encode(b"\xff").decode(), "tags": ["x"]}
    assert isinstance(item["id"], int)
    assert load(clients, operation="GET", tableName=table, key={"tenant": "zz", "id": 1}) is None
    named = load(
        clients,
        operation="GET",
        tableName=table,
        key={"tenant": "b", "id": 1},
        projectionExpression="#t",
        expressionAttributeNames={"#t": "tenant"},
    )
    assert named == {"tenant": "b"}


def test_a_query_returns_items_in_key_order(clients, table):
    items = load(clients, **query_of(table))
    assert [item["id"] for item in items] == list(range(25))
    assert items[0]["score"] == 0.5
    backwards = load(clients, **query_of(table), scanIndexForward=False, limit=2)
    assert [item["id"] for item in backwards] == [24, 23]


def test_the_limit_counts_items_after_the_filter(clients, table):
    items = load(
        clients,
        **{**query_of(table), "expressionAttributeValues": {":t": "a", ":o": True}},
        filterExpression="odd = :o",
        limit=3,
    )
    assert [item["id"] for item in items] == [1, 3, 5]


def test_a_scan_reads_the_whole_table(clients, table):
    assert len(load(clients, operation="SCAN", tableName=table)) == 26


@pytest.mark.parametrize(("limit", "count"), [(None, 25), (4, 4), (100.0, 25)])
def test_select_count_returns_counts(clients, table, limit, count):
    counted = load(clients, **query_of(table), select="COUNT", limit=limit)
    assert counted["Count"] == count
    assert counted["ScannedCount"] >= count


class _Paged:
    """A DynamoDB with pages of two items, whatever the limit."""

    connection = "test connection 'pages'"

    def __init__(self, count, error=None):
        self.items = [{"id": {"N": str(number)}, "text": {"S": "x" * number}} for number in range(count)]
        self.error = error
        self.calls = []

    def client(self, service, region=None, *, retries=True):
        assert service == "dynamodb"
        return self

    def query(self, **parameters):
        self.calls.append(parameters)
        start = int(parameters.get("ExclusiveStartKey", {"id": {"N": "-1"}})["id"]["N"]) + 1
        if self.error is not None and start >= 4:
            raise self.error
        found = self.items[start : start + 2]
        page = {"Items": found, "Count": len(found), "ScannedCount": 2 * len(found)}
        if start + 2 < len(self.items):
            page["LastEvaluatedKey"] = {"id": found[-1]["id"]}
        return page


def test_only_as_many_pages_are_read_as_needed():
    paged = _Paged(9)
    assert len(load(paged, **query_of("t"))) == 9
    assert len(paged.calls) == 5
    paged.calls.clear()
    assert [item["id"] for item in load(paged, **query_of("t"), limit=3)] == [0, 1, 2]
    assert len(paged.calls) == 2
    paged.calls.clear()
    assert load(paged, **query_of("t"), select="COUNT", limit=3) == {"Count": 3, "ScannedCount": 8}
    assert len(paged.calls) == 2


def manifest(clients, store, *, settings=None, **more):
    query = query_of(more.pop("table", "t"))
    query.pop("operation")
    context = ModuleContext(store=store, aws=clients, settings=settings or EngineSettings())
    inputs = {"query": query, "destination": {"bucketName": "lake", "key": "m/x.jsonl"}, **more}
    return run_module("system/ddb-query-to-s3-manifest", inputs, context)


def lines_of(store, key="m/x.jsonl"):
    return [msgspec.json.decode(line) for line in store.read(Pointer("lake", key)).splitlines()]


def test_a_query_is_written_as_json_lines(clients, table):
    store = MemoryStore()
    output = manifest(clients, store, table=table)
    meta = output.pop("_meta")
    assert output == {
        "manifest": {"_s3_output_pointer": {"bucket": "lake", "key": "m/x.jsonl"}},
        "itemCount": 25,
        "itemsOffloaded": 0,
    }
    assert [item["id"] for item in lines_of(store)] == list(range(25))
    assert store.head(Pointer("lake", "m/x.jsonl")).content_type == "application/x-ndjson"
    assert meta["dynamodb_params"]["TableName"] == table


def test_all_pages_are_written_to_the_manifest_in_order():
    store, paged = MemoryStore(), _Paged(7)
    assert manifest(paged, store)["itemCount"] == 7
    assert [item["id"] for item in lines_of(store)] == list(range(7))
    assert all("Limit" not in call for call in paged.calls)


def test_an_empty_query_writes_an_empty_manifest():
    store = MemoryStore()
    assert manifest(_Paged(0), store)["itemCount"] == 0
    assert store.read(Pointer("lake", "m/x.jsonl")) == b""


def test_large_items_become_separate_objects_if_enabled():
    store = MemoryStore()
    settings = EngineSettings(output_offload_bytes=21)
    output = manifest(_Paged(5), store, settings=settings, enableItemOffloading=True)
    assert (output["itemCount"], output["itemsOffloaded"]) == (5, 1)
    lines = lines_of(store)
    assert lines[3] == {"id": 3, "text": "xxx"}
    key = "m/x.jsonl.items/000000004.json"
    assert lines[4] == {"_s3_output_pointer": {"bucket": "lake", "key": key}}
    assert lines_of(store, key) == [{"id": 4, "text": "xxxx"}]
    assert manifest(_Paged(5), store, settings=settings)["itemsOffloaded"] == 0


def _answer(code, status=400, message="said so"):
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Query"
    )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_answer("ProvisionedThroughputExceededException"), TransientStepError),
        (_answer("ThrottlingException"), TransientStepError),
        (_answer("Odd", 503), TransientStepError),
        (_answer("ResourceNotFoundException"), PermanentStepError),
        (_answer("AccessDeniedException"), PermanentStepError),
    ],
)
def test_a_manifest_does_not_appear_if_the_query_fails_half_way(error, kind):
    store = MemoryStore()
    with pytest.raises(kind) as caught:
        manifest(_Paged(9, error), store)
    assert caught.value.details["awsErrorCode"] == error.response["Error"]["Code"]
    with pytest.raises(ObjectNotFoundError):
        store.head(Pointer("lake", "m/x.jsonl"))


class _RefusingStore(MemoryStore):
    def open_writer(self, pointer, **_options):
        raise ObjectAccessDeniedError(f"{pointer}: access is denied")


def test_a_denied_write_names_the_manifest():
    with pytest.raises(PermanentStepError, match=r"s3://lake/m/x\.jsonl: access is denied"):
        manifest(_Paged(1), _RefusingStore())


def test_an_invalid_destination_key_is_rejected():
    with pytest.raises(PermanentStepError, match="control characters"):
        manifest(_Paged(1), MemoryStore(), destination={"bucketName": "lake", "key": "a\nb"})


def test_a_missing_table_is_named_with_the_connection(clients):
    with pytest.raises(PermanentStepError) as caught:
        load(clients, **query_of("no-such-table"))
    assert "'no-such-table'" in caught.value.message
    assert clients.connection in caught.value.message
    assert "ResourceNotFoundException" in caught.value.message
    assert caught.value.details["dynamodb_params"]["TableName"] == "no-such-table"


def test_secret_looking_values_are_masked_in_details():
    inputs = {
        **query_of("t"),
        "filterExpression": "#k = :one AND begins_with(sessionId, :two) AND name = :three AND :apiToken < x",
        "expressionAttributeNames": {"#k": "apiKey"},
        "expressionAttributeValues": {
            ":t": "shown",
            ":one": "hidden1",
            ":two": "hidden2",
            ":three": "shown too",
            ":apiToken": "hidden3",
        },
    }
    output = run_module("system/dynamodb-data-loader", inputs, ModuleContext(aws=_Paged(1)))
    values = output["_meta"]["dynamodb_params"]["ExpressionAttributeValues"]
    assert values == {":t": "shown", ":one": "***", ":two": "***", ":three": "shown too", ":apiToken": "***"}
    failing = _Paged(9, _answer("ValidationException"))
    with pytest.raises(PermanentStepError) as caught:
        run_module("system/dynamodb-data-loader", inputs, ModuleContext(aws=failing))
    assert "hidden" not in str(caught.value.as_dict())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"operation": "GET", "tableName": "t"}, "GET needs `key`"),
        ({"operation": "QUERY", "tableName": "t"}, "QUERY needs `keyConditionExpression`"),
        ({"operation": "PUT", "tableName": "t"}, r"\$\.operation"),
        ({"operation": "SCAN", "tableName": "t", "limit": "5"}, r"\$\.limit.*JSONPath alone keeps the type"),
        ({"operation": "SCAN", "tableName": "t", "limit": 0}, r"\$\.limit"),
    ],
)
def test_an_incomplete_input_is_rejected(inputs, message):
    with pytest.raises(PermanentStepError, match=message):
        load(_Paged(1), **inputs)


def test_nan_is_rejected():
    with pytest.raises(PermanentStepError, match="float that is not a JSON value"):
        load(_Paged(1), **{**query_of("t"), "expressionAttributeValues": {":t": float("nan")}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(-1e15, 1e15) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_values_survive_a_round_trip_through_dynamodb(value):
    assert from_dynamodb(to_dynamodb(value)) == value


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ({"N": "12345678901234567890123456789012345678"}, 12345678901234567890123456789012345678),
        ({"N": "1E+2"}, 100),
        ({"N": "-0.25"}, -0.25),
        ({"N": "5.0"}, 5),
        ({"NS": ["1", "2.5"]}, [1, 2.5]),
        ({"BS": [b"\x00", b"\x01"]}, ["AA==", "AQ=="]),
        ({"M": {"l": {"L": [{"NULL": True}, {"BOOL": False}]}}}, {"l": [None, False]}),
    ],
)
def test_dynamodb_types_become_json(typed, value):
    found = from_dynamodb(typed)
    assert found == value
    assert type(found) is type(value)
