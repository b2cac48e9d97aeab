"""``system/dynamodb-update-item`` and ``system/dynamodb-query-and-update``."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from airflow_allma.common.aws_calls import observed
from airflow_allma.engine.modules import ModuleContext, run_module
from airflow_allma.engine.outside_calls import OutsideCalls
from airflow_allma.exceptions import PermanentStepError, StepError, TransientStepError
from tests.support.engine import run
from tests.support.moto import EndpointClients

_numbers = itertools.count()


@pytest.fixture
def clients(moto_endpoint):
    return EndpointClients(moto_endpoint)


@pytest.fixture
def jobs(clients):
    """A table with 30 pending jobs and one that is done, and an index by status."""
    name = f"jobs-{next(_numbers)}"
    client = clients.client("dynamodb")
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "jobId", "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": "jobId", "AttributeType": "S"},
            {"AttributeName": "status", "AttributeType": "S"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "StatusGSI",
                "KeySchema": [{"AttributeName": "status", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(30):
        item = {"jobId": {"S": f"j{number:02d}"}, "status": {"S": "PENDING"}, "n": {"N": str(number)}}
        client.put_item(TableName=name, Item=item)
    client.put_item(TableName=name, Item={"jobId": {"S": "done"}, "status": {"S": "DONE"}})
    return name


def update(clients, table, **inputs):
    given = {"tableName": table, "key": {"jobId": "j00"}, "updateExpression": "SET n = n + :one", **inputs}
    given.setdefault("expressionAttributeValues", {":one": 1})
    return run_module("system/dynamodb-update-item", given, ModuleContext(aws=clients))


def test_an_update_returns_the_new_values_of_what_it_changed(clients, jobs):
    output = update(clients, jobs)
    assert output["updatedAttributes"] == {"n": 1}
    assert output["_meta"]["dynamodb_params"]["TableName"] == jobs
    assert output["_meta"]["dynamodb_params"]["Key"] == {"jobId": "j00"}
    removed = update(clients, jobs, updateExpression="REMOVE n", expressionAttributeValues={})
    assert "updatedAttributes" not in removed


def test_mapped_dotted_keys_of_an_update_work(clients, jobs):
    step = {
        "stepType": "DATA_SAVE",
        "moduleIdentifier": "system/dynamodb-update-item",
        "customConfig": {"tableName": jobs, "updateExpression": "SET #s = :s, note = :n"},
        "literals": {"expressionAttributeValues.:s": "done", "expressionAttributeNames": {"#s": "status"}},
        "inputMappings": {"key.jobId": "$.job.id", "expressionAttributeValues.:n": "$.job.note"},
    }
    note = {"by": "ada", "tags": ["x", 1.5, None, True]}
    ran = run({"mark": step}, {"job": {"id": "j03", "note": note}}, aws=clients)
    assert ran.outputs["mark"] == {"updatedAttributes": {"status": "done", "note": note}}
    (call,) = ran.fakes.record("mark").calls.last
    assert (call.operation, call.resource) == ("UpdateItem", jobs)


@pytest.mark.parametrize(
    ("names", "tries"), [(None, 1), (["ConditionalCheckFailedException"], 3), (["TransientStepError"], 1)]
)
def test_a_condition_that_does_not_hold_is_an_error_with_its_own_name(clients, jobs, names, tries):
    retries = {"count": 2, "intervalSeconds": 1, **({"errorEquals": names} if names else {})}
    step = {
        "stepType": "DATA_SAVE",
        "moduleIdentifier": "system/dynamodb-update-item",
        "customConfig": {
            "tableName": jobs,
            "key": {"jobId": "done"},
            "updateExpression": "SET #s = :new",
            "conditionExpression": "#s = :old",
            "expressionAttributeNames": {"#s": "status"},
            "expressionAttributeValues": {":new": "CLAIMED", ":old": "PENDING"},
        },
        "onError": {"retries": retries},
    }
    ran = run({"mark": step}, aws=clients)
    assert ran.error["errorName"] == "ConditionalCheckFailedException"
    assert ran.error["isRetryable"] is False
    assert ran.fakes.record("mark").tries == tries
    assert ran.error["errorDetails"]["dynamodb_params"]["ConditionExpression"] == "#s = :old"


def test_a_failed_condition_can_be_the_steps_output(clients, jobs):
    step = {
        "stepType": "DATA_SAVE",
        "moduleIdentifier": "system/dynamodb-update-item",
        "customConfig": {
            "tableName": jobs,
            "key": {"jobId": "none"},
            "updateExpression": "SET n = :n",
            "conditionExpression": "attribute_exists(jobId)",
            "expressionAttributeValues": {":n": 1},
        },
        "onError": {"continueOnFailure": True},
    }
    assert run({"mark": step}, aws=clients).outputs["mark"]["errorName"] == "ConditionalCheckFailedException"


@pytest.mark.parametrize(
    ("inputs", "name", "message"),
    [
        ({"tableName": "none"}, "ResourceNotFoundException", "'none'"),
        ({"updateExpression": "SET SET"}, "ValidationException", "Check the expressions"),
        ({"key": {}}, "PermanentStepError", "$.key"),
        ({"updateExpression": ""}, "PermanentStepError", "$.updateExpression"),
        ({"expressionAttributeValues": {":one": float("nan")}}, "PermanentStepError", "not a JSON value"),
    ],
)
def test_errors_of_an_update_are_permanent(clients, jobs, inputs, name, message):
    with pytest.raises(PermanentStepError) as caught:
        update(clients, jobs, **inputs)
    assert caught.value.error_name == name
    assert message in caught.value.message
    if name == "ResourceNotFoundException":
        for part in ("test connection 'moto'", "`tableName`", "[allma] aws_conn_id"):
            assert part in caught.value.message


def test_values_of_secret_attributes_are_masked_in_errors(clients, jobs):
    with pytest.raises(StepError) as caught:
        update(
            clients,
            jobs,
            tableName="none",
            updateExpression="SET apiToken = :t",
            expressionAttributeValues={":t": "hunter2"},
        )
    assert "hunter2" not in str(caught.value.as_dict())


class Throttling:
    """A DynamoDB that throttles the first calls."""

    connection = "test connection 'throttling'"

    def __init__(self, times):
        self.times, self.regions = times, []

    def client(self, service, region=None, *, retries=True):
        assert not retries
        self.regions.append(region)
        return self

    def update_item(self, **_):
        self.times -= 1
        if self.times >= 0:
            raise ClientError(
                {"Error": {"Code": "ProvisionedThroughputExceededException", "Message": "slow"}}, "UpdateItem"
            )
        return {"Attributes": {"n": {"N": "1"}}}


@pytest.mark.parametrize(("times", "status"), [(2, "COMPLETED"), (9, "FAILED")])
def test_throttled_updates_are_tried_again(times, status):
    step = {
        "stepType": "DATA_SAVE",
        "moduleIdentifier": "system/dynamodb-update-item",
        "customConfig": {
            "tableName": "arn:aws:dynamodb:eu-west-3:000011112222:table/t",
            "key": {"id": 1},
            "updateExpression": "SET n = :n",
            "expressionAttributeValues": {":n": 1},
        },
    }
    aws = Throttling(times)
    ran = run({"mark": step}, aws=aws)
    assert ran.status == status
    assert set(aws.regions) == {"eu-west-3"}
    if status == "FAILED":
        assert ran.error["errorName"] == "TransientStepError"


# query and update


def claim(clients, table, *, query=None, update=None, calls=None, **more):
    inputs = {
        "query": {
            "tableName": table,
            "indexName": "StatusGSI",
            "keyConditionExpression": "#s = :p",
            "expressionAttributeNames": {"#s": "status"},
            "expressionAttributeValues": {":p": "PENDING"},
            **(query or {}),
        },
        "update": {
            "updateExpression": "SET #s = :c, worker = :w",
            "conditionExpression": "#s = :p",
            "expressionAttributeNames": {"#s": "status"},
            "expressionAttributeValues": {":c": "CLAIMED", ":p": "PENDING", ":w": "me"},
            **(update or {}),
        },
        **more,
    }
    context = ModuleContext(aws=clients, calls=calls or OutsideCalls())
    return observed(context.calls.add, run_module, "system/dynamodb-query-and-update", inputs, context)


@pytest.mark.parametrize("keys", [["jobId"], None])
def test_found_items_are_updated_and_returned_whole(clients, jobs, keys):
    calls = OutsideCalls()
    output = claim(
        clients, jobs, query={"limit": 5, **({"keyAttributes": keys} if keys else {})}, calls=calls
    )
    assert output["updatedItemCount"] == len(output["items"]) == 5
    assert all(
        item["status"] == "CLAIMED" and item["worker"] == "me" and "n" in item for item in output["items"]
    )
    assert len({item["jobId"] for item in output["items"]}) == 5
    # Updates are made by threads of their own; their calls are recorded too.
    assert calls.count == 5 + 1 + (keys is None)
    assert {call.operation for call in calls.last} <= {"Query", "UpdateItem", "DescribeTable"}
    again = claim(clients, jobs)
    assert again["updatedItemCount"] == 25
    nothing = claim(clients, jobs)
    assert (nothing["updatedItemCount"], nothing["items"]) == (0, [])


def test_the_documented_flow_claims_jobs(clients, jobs, tmp_path):
    """The documented example: objects of paths in inputMappings, and names that only the update defines."""
    document = json.loads((Path(__file__).parent / "claim_pending_jobs.json").read_text())
    document["steps"]["claim_pending_jobs"]["literals"]["query"]["tableName"] = jobs
    ran = run(document["steps"], aws=clients)
    assert ran.status == "COMPLETED", ran.error
    claimed = ran.outputs["claimed_jobs_list"]
    assert len(claimed) == 5
    assert all((job["status"], job["claimedBy"]) == ("CLAIMED", "run-1") for job in claimed)


class Pages:
    """A table of ``count`` items in pages of three; ``answer(key)`` answers an update, or raises."""

    connection = "test connection 'pages'"

    def __init__(self, count, answer=None, item=None):
        self.count, self.answer, self.item = count, answer, item or (lambda n: {"id": {"N": str(n)}})
        self.queries, self.updated, self.lock = [], [], threading.Lock()

    def client(self, service, region=None, *, retries=True):
        assert retries  # boto3 retries each update
        return self

    def query(self, **parameters):
        self.queries.append(parameters)
        start = int(parameters.get("ExclusiveStartKey", {"id": {"N": "0"}})["id"]["N"])
        end = min(start + min(3, parameters.get("Limit", 3)), self.count)
        page = {"Items": [self.item(n) for n in range(start, end)]}
        return page | ({"LastEvaluatedKey": {"id": {"N": str(end)}}} if end < self.count else {})

    def update_item(self, **parameters):
        number = int(parameters["Key"]["id"]["N"])
        if self.answer is not None:
            self.answer(number)
        with self.lock:
            self.updated.append(number)
        return {"Attributes": {**parameters["Key"], "done": {"BOOL": True}}}


def failure(code, status=400):
    return ClientError(
        {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "U"
    )


KEYS = {"keyAttributes": ["id"]}


@pytest.mark.parametrize(
    ("count", "query", "updated", "queries"),
    [
        (250, {}, 100, 34),
        (250, {"limit": 250}, 250, 84),
        (250, {"limit": 7}, 7, 3),
        (7, {"limit": 1_000_000}, 7, 3),
        (7, {"limit": 2, "filterExpression": "x = :p"}, 2, 1),
        (0, {}, 0, 1),
    ],
)
def test_pages_are_read_up_to_the_limit(count, query, updated, queries):
    table = Pages(count)
    output = claim(table, "t", query={**KEYS, **query})
    assert output["updatedItemCount"] == updated
    assert [item["id"] for item in output["items"]] == list(range(updated))
    assert len(table.queries) == queries
    assert ("Limit" in table.queries[0]) == ("filterExpression" not in query)


@pytest.mark.parametrize(
    "key", [{"B": b"\xff\x00"}, {"N": "12345678901234567890123456789012345678"}, {"N": "0.1"}]
)
def test_a_key_is_sent_as_the_query_found_it(key):
    class Table(Pages):
        def update_item(self, **parameters):
            self.updated.append(parameters["Key"])
            return {"Attributes": {"done": {"BOOL": True}}}

    table = Table(1, item=lambda n: {"id": key})
    assert claim(table, "t", query=KEYS)["updatedItemCount"] == 1
    assert table.updated == [{"id": key}]


def test_items_whose_condition_fails_are_left_out():
    def answer(number):
        if number % 2:
            raise failure("ConditionalCheckFailedException")

    output = claim(Pages(9, answer), "t", query=KEYS)
    assert [item["id"] for item in output["items"]] == [0, 2, 4, 6, 8]
    assert output["_meta"]["notUpdated"] == 4


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ProvisionedThroughputExceededException", TransientStepError),
        ("ValidationException", PermanentStepError),
    ],
)
def test_if_no_item_was_updated_the_error_is_that_of_the_first(code, kind):
    def answer(number):
        raise failure(code)

    table = Pages(900, answer)
    with pytest.raises(kind) as caught:
        claim(table, "t", query={**KEYS, "limit": 900})
    assert code in caught.value.message
    assert table.updated == []


def test_a_failure_after_some_updates_names_both_and_is_not_repeated():
    def answer(number):
        if number in {105, 107}:
            raise failure("ProvisionedThroughputExceededException")

    step = {
        "stepType": "DATA_SAVE",
        "moduleIdentifier": "system/dynamodb-query-and-update",
        "customConfig": {
            "query": {
                "tableName": "t",
                "keyConditionExpression": "a = :a",
                "expressionAttributeValues": {":a": 1},
                "keyAttributes": ["id"],
                "limit": 900,
            },
            "update": {"updateExpression": "SET done = :a", "expressionAttributeValues": {":a": 1}},
        },
    }
    table = Pages(900, answer)
    ran = run({"claim": step}, aws=table)
    assert (ran.error["errorName"], ran.fakes.record("claim").tries) == ("PartialUpdateError", 1)
    details = ran.error["errorDetails"]
    assert (details["updatedItemCount"], details["failedItemCount"]) == (198, 2)
    assert details["failedKeys"] == [{"id": 105}, {"id": 107}]
    assert details["updatedKeys"][:2] == [{"id": 0}, {"id": 1}]
    assert len(details["updatedKeys"]) == 20
    # The updates after the failure are not made.
    assert max(table.updated) == 199


def test_an_item_without_a_key_attribute_is_an_error_before_any_update():
    table = Pages(9, item=lambda n: {"id": {"N": str(n)}} if n < 5 else {"other": {"S": "x"}})
    with pytest.raises(PermanentStepError, match=r"lacks 'id'.*query.keyAttributes.*No item was updated"):
        claim(table, "t", query=KEYS)
    assert table.updated == []


@pytest.mark.parametrize(
    ("query", "update", "path"),
    [
        ({"limit": 0}, {}, "$.query.limit"),
        ({"limit": 1_000_001}, {}, "$.query.limit"),
        ({"limit": 1.5}, {}, "$.query.limit"),
        ({"keyAttributes": []}, {}, "$.query.keyAttributes"),
        ({"tableName": ""}, {}, "$.query.tableName"),
        ({"expressionAttributeValues": None}, {}, "$.query.expressionAttributeValues"),
        ({}, {"updateExpression": ""}, "$.update.updateExpression"),
    ],
)
def test_wrong_settings_are_named(query, update, path):
    with pytest.raises(PermanentStepError) as caught:
        claim(Pages(1), "t", query=query, update=update)
    assert path in caught.value.message


def test_an_unknown_table_or_index_is_permanent(clients, jobs):
    for table, query in (("none", {}), ("none", KEYS)):
        with pytest.raises(PermanentStepError) as caught:
            claim(clients, table, query=query)
        assert caught.value.error_name == "ResourceNotFoundException"
        assert "`tableName`" in caught.value.message
    with pytest.raises(PermanentStepError):
        claim(clients, jobs, query={"indexName": "NoIndex"})
