"""Runs of a flow that starts one for each message, in the database of the Airflow in this process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_allma.flow import Flow
from tests.airflow.flows import branch, compose, flow, fork
from tests.support.asset_events import AssetEvents
from tests.support.existing_runs import run_existing, runs_of

pytestmark = pytest.mark.airflow

_numbers = itertools.count()
SEEN = {"n": "$.n", "all": "$.initialContextData"}


@pytest.fixture
def deploy(airflow_db) -> Iterator[Any]:
    """Return a function that puts a flow which watches a queue into the database."""
    from airflow.utils.session import create_session

    made: list[AssetEvents] = []
    with create_session() as session:

        def deploy(steps: Any = None, **airflow: Any) -> AssetEvents:
            name = f"each-{next(_numbers)}"
            watch = {"sqsQueueUrl": f"https://sqs.eu-west-3.amazonaws.com/1/{name}", "maxMessages": 1}
            steps = steps or {"w": compose(SEEN)}
            made.append(AssetEvents(session, flow(name, steps, airflow={"watch": watch, **airflow})))
            return made[-1]

        yield deploy
        for one in made:
            one.pause(paused=True)


def test_each_message_starts_a_run_whose_payload_is_its_body(deploy):
    queue = deploy()
    queue.receive({"n": 1}, {"n": 2})
    first = queue.run_all()
    assert first.state == "success"
    assert first.task("w").state == "skipped"
    assert runs_of(queue.dag_id) == {"message__m-1": {"n": 1}, "message__m-2": {"n": 2}}
    seen = run_existing(queue.dag, "message__m-2").xcom("w")
    assert seen == {"n": 2, "all": {"n": 2}}


def test_a_message_that_is_recorded_twice_starts_one_run(deploy):
    queue = deploy()
    queue.receive({"n": 1})
    queue.run_all()
    queue.receive({"n": 1}, second={"n": 2})
    again = queue.run_all()
    assert again.state == "success"
    assert list(runs_of(queue.dag_id)) == ["message__m-1", "message__second"]


def test_all_tasks_of_the_run_that_starts_the_others_are_skipped(deploy):
    point = {
        "stepType": "SCHEDULE_START_POINT",
        "scheduleExpression": "rate(1 hour)",
        "defaultNextStepInstanceId": "z",
    }
    forked = fork(branch("w", condition="$.currentItem.n < 9"), to="z")
    queue = deploy({"f": forked, "w": compose(SEEN), "p": point, "z": compose(SEEN)})
    queue.receive({"items": [{"n": 1}]})
    first = queue.run_all()
    assert first.state == "success"
    assert {task.state for task in first.tasks} == {"skipped"}
    assert run_existing(queue.dag, "message__m-1").state == "success"


POISON = {
    "text": "plain text",
    "list": "[1, 2]",
    "null": "null",
    "empty": "",
    "cut": '{"n": ',
    "deep": "[" * 3000 + "]" * 3000,
    "link": '{"_allma_start": {"payload": "{}"}}',
    "pointer": '{"_s3_context_pointer": {"bucket": "other", "key": "secret"}}',
}


def test_messages_that_cannot_start_a_run_harm_only_themselves_and_are_named(deploy):
    queue = deploy()
    queue.receive({"n": 1}, **POISON, last={"n": 2})
    first = queue.run_all()
    assert first.state == "failed"
    assert list(runs_of(queue.dag_id)) == ["message__m-1", "message__last"]
    error = first.xcom("w", key="allma_error")
    assert sorted(error["errorDetails"]["messages"]) == sorted(POISON)
    for text in ("8 of 10 messages", "text: its body must be a JSON object, not a string", "is reserved"):
        assert text in error["errorMessage"]


AWKWARD = {
    "nul": {"n": "a\0b", "\0key": 1},
    "large": {"n": "x" * 250_000},
    "number": {"n": 2**80},
    "half": '{"n": "ok \\ud83d\\ude00"}',
}


def test_values_that_the_database_refuses_arrive_as_they_were_sent(deploy):
    queue = deploy()
    queue.receive(**AWKWARD)
    assert queue.run_all().state == "success"
    assert len(runs_of(queue.dag_id)) == len(AWKWARD)
    for name in ("nul", "number"):
        ended = run_existing(queue.dag, f"message__{name}")
        assert ended.state == "success", name


def test_a_body_that_does_not_fit_the_input_schema_fails_its_own_run(deploy):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    queue = deploy(inputSchema=schema)
    queue.receive({"n": 1}, {"n": "no"}, {"m": 1})
    queue.run_all()
    states = {run_id: run_existing(queue.dag, run_id).state for run_id in runs_of(queue.dag_id)}
    assert states.pop("message__m-1") == "success"
    assert set(states.values()) <= {"failed"}


def test_objects_that_s3_reports_are_added_to_the_body(deploy):
    queue = deploy()
    record = {
        "eventSource": "aws:s3",
        "s3": {"bucket": {"name": "lake"}, "object": {"key": "a+b.csv", "size": 3}},
    }
    queue.receive({"Records": [record]}, {"Event": "s3:TestEvent", "Service": "Amazon S3"})
    queue.run_all()
    pointer = {"bucket": "lake", "key": "a b.csv"}
    (conf,) = runs_of(queue.dag_id).values()
    assert conf == {"Records": [record], "s3Objects": [{**pointer, "size": 3, "pointer": pointer}]}


def test_only_runs_that_assets_start_start_others():
    watch = {"sqsQueueUrl": "https://sqs.eu-west-3.amazonaws.com/1/q"}
    each, batched = (
        Flow.model_validate(flow("f", {"w": compose(SEEN)}, airflow={"watch": {**watch, **more}}))
        for more in ({"maxMessages": 1}, {})
    )
    by_assets = "asset_triggered__2026-03-01T12:00:00+00:00_abc"
    assert each.only_starts_others(by_assets)
    assert not each.only_starts_others("message__m-1")
    assert not batched.only_starts_others(by_assets)
