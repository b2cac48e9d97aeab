"""Errors in what starts runs besides time."""

from __future__ import annotations

import pytest

from airflow_allma.flow.secret_names import AllowedSecrets
from airflow_allma.flow.validation import check_flow
from airflow_allma.loading import flow_checks

QUEUE = "https://sqs.eu-west-3.amazonaws.com/000011112222/bills"


ALL = AllowedSecrets()


def errors(airflow, steps=None, allowed=ALL):
    flow = {
        "id": "f",
        "version": 1,
        "isPublished": True,
        "startStepInstanceId": "a",
        "steps": {"a": {"stepType": "NO_OP"}, **(steps or {})},
        "airflow": airflow,
    }
    checked = check_flow(flow, checks=flow_checks(allowed))
    return {
        ".".join(map(str, one.path)): one.message
        for one in checked.diagnostics
        if one.severity.value == "error"
    }


@pytest.mark.parametrize(
    ("airflow", "path", "message"),
    [
        ({"schedule": 7}, "airflow.schedule", 'must be a string, or an object such as `{"assets"'),
        ({"schedule": {}}, "airflow.schedule.assets", "is missing"),
        ({"schedule": {"assets": []}}, "airflow.schedule.assets", "at least 1 member"),
        ({"schedule": {"assets": [""]}}, "airflow.schedule.assets.0", "must not be empty"),
        ({"schedule": {"assets": [7]}}, "airflow.schedule.assets.0", "must be a string"),
        ({"schedule": {"assets": "s3://b/k"}}, "airflow.schedule.assets", "must be a list"),
        ({"schedule": {"assets": ["s3://b/k"], "al": True}}, "airflow.schedule.al", "did you mean `all`?"),
        ({"schedule": {"assets": ["s3://b/k"], "all": 1}}, "airflow.schedule.all", "true or false"),
        ({"schedule": {"assets": ["{{bucket}}"]}}, "airflow.schedule.assets.0", "is not the URI of an asset"),
        ({"schedule": {"assets": ["no-scheme"]}}, "airflow.schedule.assets.0", "is not the URI of an asset"),
        ({"schedule": {"assets": ["s3://b/ä"]}}, "airflow.schedule.assets.0", "in ASCII"),
        ({"schedule": {"assets": ["s3://b/" + "k" * 1200]}}, "airflow.schedule.assets.0", "1200 characters"),
        (
            {"schedule": {"assets": [QUEUE.replace("https", "sqs")]}},
            "airflow.schedule.assets.0",
            "sqsQueueUrl",
        ),
        ({"watch": QUEUE}, "airflow.watch", "must be an object"),
        ({"watch": {}}, "airflow.watch.sqsQueueUrl", "is missing"),
        ({"watch": {"sqsQueueUrl": "{{queue}}"}}, "airflow.watch.sqsQueueUrl", "is not a URL"),
        ({"watch": {"sqsQueueUrl": QUEUE + "?x=1"}}, "airflow.watch.sqsQueueUrl", "a queue URL is `https"),
        ({"watch": {"sqsQueueUrl": "file:///etc/passwd"}}, "airflow.watch.sqsQueueUrl", "is not a URL"),
        (
            {"watch": {"sqsQueueUrl": QUEUE, "queueUrl": QUEUE}},
            "airflow.watch.queueUrl",
            "did you mean `sqsQueueUrl`?",
        ),
        ({"watch": {"sqsQueueUrl": QUEUE, "maxMessages": 0}}, "airflow.watch.maxMessages", "1 or more"),
        ({"watch": {"sqsQueueUrl": QUEUE, "maxMessages": "1"}}, "airflow.watch.maxMessages", "whole number"),
        ({"watch": {"sqsQueueUrl": QUEUE, "connId": "a b"}}, "airflow.watch.connId", "cannot be the id"),
        ({"watch": {"sqsQueueUrl": QUEUE}, "schedule": "@daily"}, "airflow.watch", "a Dag has one schedule"),
        (
            {"watch": {"sqsQueueUrl": QUEUE}, "schedule": {"assets": ["s3://b/k"]}},
            "airflow.watch",
            "a Dag has one schedule",
        ),
        (
            {"watch": {"sqsQueueUrl": QUEUE}, "inputSchema": {"type": "object", "required": ["n"]}},
            "airflow.inputSchema",
            "the empty payload of its runs does not match",
        ),
    ],
)
def test_what_is_wrong_is_located(airflow, path, message):
    found = errors(airflow)
    assert list(found) == [path]
    assert message in found[path]


WATCH = {"watch": {"sqsQueueUrl": QUEUE}}
MAIL = {"stepType": "EMAIL_START_POINT", "emailAddress": "in@x.test"}


@pytest.mark.parametrize(
    ("airflow", "steps", "path", "message"),
    [
        (
            {"watch": {"sqsQueueUrl": QUEUE, "maxMessages": 5}},
            {"m": MAIL},
            "airflow.watch.maxMessages",
            "each e-mail starts a run",
        ),
        (WATCH, {"m": MAIL, "n": MAIL}, "steps.n.emailAddress", "the same address and keyword"),
        (
            WATCH,
            {"m": {**MAIL, "emailAddress": "{{flow_variables.x}}@x.test"}},
            "steps.m.emailAddress",
            "must be known before a run begins",
        ),
    ],
)
def test_what_is_wrong_in_email_start_points_is_located(airflow, steps, path, message):
    found = errors(airflow, steps)
    assert list(found) == [path]
    assert message in found[path]


def test_email_start_points_of_one_address_differ_by_keyword():
    assert errors(WATCH, {"m": MAIL, "n": {**MAIL, "keyword": "CLAIM"}}) == {}


@pytest.mark.parametrize(
    "airflow",
    [
        {"schedule": {"assets": ["s3://b/k", "file:///data/x", "x://y"], "all": False}},
        {"watch": {"sqsQueueUrl": QUEUE, "connId": "aws_default", "maxMessages": 10}},
        {"watch": {"sqsQueueUrl": "http://127.0.0.1:5000/123456789012/q.fifo"}},
        {
            "watch": {"sqsQueueUrl": QUEUE, "maxMessages": 1},
            "inputSchema": {"type": "object", "required": ["n"]},
        },
    ],
)
def test_valid_events_are_accepted_also_beside_start_points(airflow):
    point = {"stepType": "SCHEDULE_START_POINT", "scheduleExpression": "rate(1 hour)"}
    assert errors(airflow) == errors(airflow, {"s": point}) == {}


def test_a_flow_watches_only_with_connections_that_flows_may_use():
    allowed = AllowedSecrets(connections=("team_*",), variables=())
    found = errors({"watch": {"sqsQueueUrl": QUEUE, "connId": "admin"}}, allowed=allowed)
    assert "`[allma] allowed_connections`" in found["airflow.watch.connId"]
    assert errors({"watch": {"sqsQueueUrl": QUEUE, "connId": "team_a"}}, allowed=allowed) == {}


def test_a_flow_watches_only_queues_that_flows_may_watch():
    allowed = AllowedSecrets(queues=("https://sqs.*.amazonaws.com/000011112222/*",))
    assert errors({"watch": {"sqsQueueUrl": QUEUE}}, allowed=allowed) == {}
    found = errors({"watch": {"sqsQueueUrl": QUEUE.replace("1111", "3333")}}, allowed=allowed)
    assert "`[allma] allowed_queues`" in found["airflow.watch.sqsQueueUrl"]
