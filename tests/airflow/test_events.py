"""Runs that assets and the messages of a queue start."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset, AssetAll, AssetAny, AssetOrTimeSchedule
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.assets import AssetOrTimeSchedule as SerializedAssetOrTime
from airflow.utils.types import DagRunType

from airflow_allma.dag_factory import build_dag
from airflow_allma.dag_factory.plan.schedule_plan import plan_schedule
from airflow_allma.flow import Flow
from airflow_allma.operators.queue_trigger import QueueTrigger
from airflow_allma.timetables import fired_start_point
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import compose, flow

QUEUE = "https://sqs.eu-west-3.amazonaws.com/000011112222/bills"
QUEUE_ASSET = "sqs://sqs.eu-west-3.amazonaws.com/000011112222/bills"
SEEN = {"events": "$.assetEvents", "all": "$.initialContextData"}
HOURLY = {
    "stepType": "SCHEDULE_START_POINT",
    "scheduleExpression": "rate(1 hour)",
    "payloadTemplate": {"mode": "full"},
}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(uri: str, extra: dict[str, Any], seconds: int = 0, source: str | None = None) -> Any:
    """Return an asset event as a task sees it."""
    return SimpleNamespace(
        asset=SimpleNamespace(uri=uri, name=uri),
        extra=extra,
        timestamp=NOON + timedelta(seconds=seconds),
        source_dag_id=source,
        source_run_id=source and "run-0",
        source_task_id=source and "make",
        source_map_index=None if source is None else -1,
    )


def message(body: Any, message_id: str = "m-1", seconds: int = 0) -> Any:
    """Return the event of a message, as the watcher records it."""
    body = body if isinstance(body, str) else json.dumps(body)
    return event(
        QUEUE_ASSET, {"from_trigger": True, "payload": {"messageId": message_id, "body": body}}, seconds
    )


def on_events(*events: Any, steps: Any = None, **airflow: Any) -> FakeDagRun:
    """Return a run that asset events have started."""
    steps = steps or {"work": compose(SEEN)}
    return FakeDagRun(
        flow("on-events", steps, airflow=airflow or {"watch": {"sqsQueueUrl": QUEUE}}),
        run_id="asset_triggered__2026-03-01T12:00:00+00:00_abc",
        run_type="asset_triggered",
        events=events,
    )


def schedule_of(steps: Any = None, **airflow: Any) -> Any:
    steps = {"work": compose(SEEN), **(steps or {})}
    return build_dag(Flow.model_validate(flow("on-events", steps, airflow=airflow))).schedule


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"assets": ["s3://b/one"]}, AssetAny(Asset("s3://b/one"))),
        ({"assets": ["s3://b/one", "s3://b/two"]}, AssetAny(Asset("s3://b/one"), Asset("s3://b/two"))),
        (
            {"assets": ["s3://b/one", "s3://b/two"], "all": True},
            AssetAll(Asset("s3://b/one"), Asset("s3://b/two")),
        ),
    ],
)
def test_a_dag_runs_when_any_or_all_of_its_assets_were_updated(options, expected):
    assert schedule_of(schedule=options) == expected


def test_a_queue_is_an_asset_with_one_watcher_whatever_the_flow_makes_of_its_messages():
    for watch in ({}, {"maxMessages": 1}, {"maxMessages": 50}):
        (asset,) = schedule_of(watch={"sqsQueueUrl": QUEUE, **watch}).objects
        assert (asset.name, asset.uri) == (QUEUE_ASSET, QUEUE_ASSET)
        (watcher,) = asset.watchers
        assert isinstance(watcher.trigger, QueueTrigger)
        assert watcher.trigger.serialize()[1] == {"queue_url": QUEUE, "conn_id": "aws_default"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"awsConnId": "a"}, "a"), ({"awsConnId": "a", "watch": {"connId": "b"}}, "b")],
)
def test_the_connection_of_a_queue_is_its_own_or_that_of_the_flow(options, expected):
    watch = {"sqsQueueUrl": QUEUE, **options.get("watch", {})}
    (asset,) = schedule_of(**{**options, "watch": watch}).objects
    assert asset.watchers[0].trigger.conn_id == expected


@pytest.mark.parametrize(
    "airflow", [{"watch": {"sqsQueueUrl": QUEUE}}, {"schedule": {"assets": ["s3://b/k"]}}]
)
def test_start_points_start_runs_beside_events_and_the_run_id_says_which(airflow):
    definition = flow("both", {"work": compose(SEEN), "hourly": HOURLY}, airflow=airflow)
    dag = build_dag(Flow.model_validate(definition))
    assert isinstance(dag.schedule, AssetOrTimeSchedule)
    stored = DagSerialization.to_dict(dag)
    assert stored == DagSerialization.to_dict(build_dag(Flow.model_validate(definition)))
    timetable = DagSerialization.from_dict(stored).timetable
    assert isinstance(timetable, SerializedAssetOrTime)
    by_time = timetable.generate_run_id(
        run_type=DagRunType.SCHEDULED, run_after=NOON, data_interval=None, logical_date=NOON
    )
    by_event = timetable.generate_run_id(
        run_type=DagRunType.ASSET_TRIGGERED, run_after=NOON, data_interval=None
    )
    fired = [
        fired_start_point(Flow.model_validate(definition), run_id=run_id, run_type=kind, logical_date=NOON)
        for run_id, kind in ((by_time, "scheduled"), (by_event, "asset_triggered"))
    ]
    assert fired[0].step_instance_id == "hourly"
    assert fired[1] is None


def test_a_run_has_the_events_that_started_it_the_oldest_first():
    run = on_events(
        event("s3://b/two", {"rows": 2}, 5, source="make-two"),
        event("s3://b/one", {}, 1),
        schedule={"assets": ["s3://b/one", "s3://b/two"]},
    )
    events = run.run("work")["events"]
    assert events == [
        {"uri": "s3://b/one", "extra": {}, "source": None, "timestamp": "2026-03-01T12:00:01+00:00"},
        {
            "uri": "s3://b/two",
            "extra": {"rows": 2},
            "source": {"dagId": "make-two", "runId": "run-0", "taskId": "make", "mapIndex": -1},
            "timestamp": "2026-03-01T12:00:05+00:00",
        },
    ]


def test_a_run_has_the_messages_that_have_arrived_each_once_with_its_body_as_json():
    run = on_events(
        message({"n": 2}, "m-2", 2),
        message({"n": 1}, "m-1", 1),
        message({"n": 2}, "m-2", 3),
        message("text", "m-3", 4),
        message({"Event": "s3:TestEvent"}, "m-4", 5),
    )
    events = run.run("work")["events"]
    assert [one["extra"]["messageId"] for one in events] == ["m-1", "m-2", "m-3"]
    assert [one["extra"]["body"] for one in events] == [{"n": 1}, {"n": 2}, "text"]
    assert events[0]["extra"]["rawBody"] == '{"n": 1}'


def test_events_that_somebody_else_recorded_on_the_queues_asset_stay_as_they_are():
    odd = event(QUEUE_ASSET, {"payload": {"messageId": 7}})
    assert [one["extra"] for one in on_events(odd).run("work")["events"]] == [{"payload": {"messageId": 7}}]


def test_other_runs_have_no_events():
    run = on_events(message({"n": 1}))
    run.run_type = "manual"
    run.payload = {"n": 7}
    assert run.run("work") == {"all": {"n": 7}}


def test_an_input_schema_is_checked_without_the_events():
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    run = on_events(message({"n": 1}), watch={"sqsQueueUrl": QUEUE}, inputSchema=schema)
    assert len(run.run("work")["events"]) == 1


def test_a_dag_that_events_start_has_no_required_params():
    schema = {"type": "object", "properties": {"n": {"default": 1}}, "required": ["n"]}
    definition = flow("on-events", {"work": compose(SEEN)})
    definition["airflow"] = {"watch": {"sqsQueueUrl": QUEUE}, "inputSchema": schema}
    assert plan_schedule(Flow.model_validate(definition)).is_scheduled
    build_dag(Flow.model_validate(definition)).validate()
