"""POLL_EXTERNAL_API on the engine: when it calls, when it is over, and how another process goes on."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from airflow_allma.distributed.local_run import ChunkedForkRunner
from airflow_allma.engine import Services
from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from airflow_allma.engine.runner import run_segment
from airflow_allma.engine.secrets import Secrets
from airflow_allma.engine.state import RunState, SegmentStatus
from airflow_allma.engine.steps.frozen_poll import MAX_OUTPUT_BYTES, FrozenPoll
from airflow_allma.engine.steps.poll_api import MAX_FROZEN_BYTES
from airflow_allma.engine.steps.polling import CALL_TRIES, MAX_SHOWN_BYTES
from airflow_allma.engine.suspension import SuspendReason
from airflow_allma.exceptions import TransientStepError
from airflow_allma.flow import AirflowOptions
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import MemoryStore
from tests.support.engine import INFO, compose, fork, program_of, then
from tests.support.secrets import SecretsInMemory

URL = "https://jobs.test/7"
RUNNING, DONE, BROKEN = ({"state": state} for state in ("running", "done", "broken"))


def poll(url=URL, *, interval=5, attempts=10, call=None, **fields):
    return {
        "stepType": "POLL_EXTERNAL_API",
        "apiCallDefinition": {"apiHttpMethod": "GET", "apiUrlTemplate": {"template": url}, **(call or {})},
        "pollingConfig": {"intervalSeconds": interval, "maxAttempts": attempts},
        "exitConditions": {
            "successCondition": "$.state == 'done'",
            "failureCondition": "$.state == 'broken' || $.error",
        },
        **fields,
    }


class World:
    """A clock that moves only while something sleeps, an API, and a run that polls it."""

    def __init__(self, *replies, step=None, payload=None, source=None, **steps):
        self.time = 1_000_000.0
        self.slept = []
        self.http = FakeHttpClient().route(
            "GET", URL, *(json_response(one) if isinstance(one, dict | list) else one for one in replies)
        )
        self.records = []
        self.secrets = Secrets(source)
        self.program = program_of({"a": step or poll(), **steps})
        self.state = self.program.start_state(payload or {}, INFO.flow_execution_id)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds

    def services(self, **fields):
        return Services(
            http=self.http,
            now=lambda: self.time,
            sleep=self.sleep,
            jitter=lambda: 0.0,
            secrets=self.secrets,
            recorder=self.records.append,
            **fields,
        )

    def drive(self, last_try=None):
        """Run to the end in one process."""
        return asyncio.run(
            run_segment(self.program, self.state, INFO, self.services(), last_try=last_try, stays=True)
        )

    def segment(self, *answers):
        """Run until the step waits, as a new process that gets these answers to the last wait."""
        services = self.services()
        for key, answer in answers:
            services.answers.put(SuspendReason.POLL, key, json.loads(json.dumps(answer)))
        self.state = RunState.from_dict(json.loads(json.dumps(self.state.to_dict())))
        result = asyncio.run(run_segment(self.program, self.state, INFO, services))
        self.state = result.state
        return result

    def triggered(self, wait):
        """Go on as a triggerer does, from the wait's details alone."""
        frozen = FrozenPoll(json.loads(json.dumps(wait.details)), wait.step_id, self.services())

        async def run():
            while True:
                self.time = max(self.time, frozen.progress.due)
                if (answer := await frozen.next()) is not None:
                    return answer

        return frozen, lambda: asyncio.run(run())

    def by_trigger(self):
        """Run to the end with all calls but the first in a triggerer."""
        result = self.segment()
        while result.status is SegmentStatus.SUSPENDED:
            (wait,) = result.waits
            frozen, run = self.triggered(wait)
            assert frozen.makes_calls
            result = self.segment((wait.key, run()))
        return result


WAYS = pytest.mark.parametrize("way", ["drive", "by_trigger"])


@WAYS
@pytest.mark.parametrize("calls", [1, 2, 7])
def test_polling_ends_at_the_call_that_says_so(way, calls):
    world = World(*[RUNNING] * (calls - 1), DONE)
    result = getattr(world, way)()
    assert result.status is SegmentStatus.COMPLETED
    assert result.state.context["steps_output"]["a"] == {
        "status": 200,
        "headers": {"content-type": "application/json"},
        "data": DONE,
    }
    assert len(world.http.requests) == calls
    assert world.time == 1_000_000 + 5 * (calls - 1)
    assert world.records[-1].calls.count == calls


@WAYS
@pytest.mark.parametrize(
    ("replies", "cause", "calls"),
    [
        ([RUNNING, BROKEN], "failureCondition", 2),
        ([RUNNING, {"error": "disk full"}], "failureCondition", 2),
        ([RUNNING], "maxAttempts", 3),
    ],
)
def test_polling_that_does_not_succeed_is_a_failure_that_can_be_retried(way, replies, cause, calls):
    world = World(*replies, step=poll(attempts=3))
    result = getattr(world, way)()
    assert result.status is SegmentStatus.FAILED
    error = result.error
    assert (error["errorName"], error["isRetryable"]) == ("PollingFailed", True)
    details = error["errorDetails"]
    assert (details["cause"], details["calls"], details["failedStepInstanceId"]) == (cause, calls, "a")
    assert details["data"] == replies[-1]
    assert len(world.http.requests) == calls


def test_an_error_shows_the_beginning_of_a_large_response():
    error = World({"error": "x" * MAX_SHOWN_BYTES}).drive().error
    assert len(json.dumps(error)) < MAX_SHOWN_BYTES + 500
    assert error["errorDetails"]["data"].startswith('{"error":"xxx')


def test_success_is_checked_before_failure():
    result = World({"state": "done", "error": "a warning"}).drive()
    assert result.status is SegmentStatus.COMPLETED


@WAYS
def test_a_call_without_an_answer_is_tried_three_times_and_then_counts_as_one_call(way):
    lost = TransientStepError("No response.")
    world = World(RUNNING, *[lost] * CALL_TRIES, *[lost] * 2, DONE, step=poll(attempts=3))
    result = getattr(world, way)()
    assert result.status is SegmentStatus.COMPLETED
    # 1 + 3 + 3 requests, 3 calls.
    assert len(world.http.requests) == 7


@WAYS
def test_a_last_call_without_an_answer_is_a_failure_that_says_why(way):
    world = World(TransientStepError("No response."), step=poll(attempts=2))
    error = getattr(world, way)().error
    assert error["errorName"] == "PollingFailed"
    assert error["errorDetails"]["lastError"] == "No response."
    assert len(world.http.requests) == 6


@WAYS
def test_an_overloaded_api_decides_when_the_next_call_is_due(way):
    world = World(json_response({}, 429, {"retry-after": "60"}), DONE)
    getattr(world, way)()
    assert world.time == 1_000_060
    assert len(world.http.requests) == 2


@WAYS
def test_a_refused_request_ends_polling(way):
    world = World(RUNNING, json_response({}, 404))
    error = getattr(world, way)().error
    assert (error["errorName"], error["errorDetails"]["status"]) == ("PermanentStepError", 404)
    assert len(world.http.requests) == 2


@WAYS
@pytest.mark.parametrize(
    ("on_error", "path"),
    [
        ({"continueOnFailure": True}, ["a", "b"]),
        ({"fallbackStepInstanceId": "c"}, ["a", "c"]),
    ],
)
def test_on_error_applies(way, on_error, path):
    world = World(BROKEN, step=poll(onError=on_error, **then("b")), b=compose(), c=compose())
    result = getattr(world, way)()
    assert (result.status, result.state.path) == (SegmentStatus.COMPLETED, path)


def test_a_retry_polls_anew():
    retries = {"retries": {"count": 1, "intervalSeconds": 1, "errorEquals": ["PollingFailed"]}}
    world = World(RUNNING, RUNNING, RUNNING, DONE, step=poll(attempts=2, onError=retries))
    assert world.drive().status is SegmentStatus.COMPLETED
    assert len(world.http.requests) == 4


def test_a_wake_up_that_is_too_early_makes_no_call():
    world = World(RUNNING, DONE)
    first = world.segment()
    world.time += 4
    second = world.segment()
    assert second.waits == first.waits
    assert len(world.http.requests) == 1
    world.time += 1
    assert world.segment().status is SegmentStatus.COMPLETED


def test_polling_has_a_deadline_that_an_outage_can_exceed():
    world = World(RUNNING)
    (wait,) = world.segment().waits
    deadline = wait.details["progress"]["deadline"]
    assert deadline >= wait.since + 10 * 5 + 3600
    world.time = deadline
    assert world.segment().error["errorDetails"]["cause"] == "deadline"
    assert len(world.http.requests) == 1


def test_a_triggerer_that_was_restarted_goes_on_from_the_saved_progress():
    world = World(*[RUNNING] * 6, DONE, step=poll(attempts=7))
    (wait,) = world.segment().waits
    frozen, _ = world.triggered(wait)

    async def some(poll, calls):
        for _ in range(calls):
            world.time = poll.progress.due
            assert await poll.next() is None

    asyncio.run(some(frozen, 3))
    saved = {"key": wait.key, "since": 0, "deadline": wait.details["progress"]["deadline"], "calls": 4}
    restarted, run = world.triggered(wait)
    restarted.restore({"nonsense": 1})
    restarted.restore({**saved, "key": "another poll", "calls": 7})
    assert restarted.progress.calls == 1
    restarted.restore(saved)
    answer = run()
    assert answer["progress"]["calls"] == 7
    assert world.segment((wait.key, answer)).status is SegmentStatus.COMPLETED
    assert len(world.http.requests) == 7


@pytest.mark.parametrize("size", [10, MAX_OUTPUT_BYTES])
def test_a_response_too_large_for_the_database_is_fetched_again_by_the_worker(size):
    world = World(RUNNING, {"state": "done", "text": "x" * size})
    (wait,) = world.segment().waits
    _, run = world.triggered(wait)
    answer = run()
    assert ("repeat" in answer) == (size > 10)
    assert len(json.dumps(answer)) < 34_000
    result = world.segment((wait.key, answer))
    assert len(result.state.context["steps_output"]["a"]["data"]["text"]) == size
    assert len(world.http.requests) == (3 if size > 10 else 2)


def test_body_mappings_and_headers_work_as_in_an_api_call():
    call = {
        "apiHttpMethod": "GET",
        "apiUrlTemplate": {
            "template": "https://jobs.test/{{job}}",
            "contextMappings": {"job": {"sourceJsonPath": "$.number"}},
        },
        "apiStaticHeaders": {"X-Fixed": "{{x}}"},
        "apiHeadersTemplate": {"X-Path": "$.number", "X-Template": "n{{number}}"},
        "requestBodyTemplate": {"n": {"sourceJsonPath": "$.number"}},
    }
    step = poll(call=call, inputMappings={"number": "$.nested.number"}, customConfig={"timeoutMs": 3000})
    world = World(RUNNING, DONE, step=step, payload={"nested": {"number": 7}})
    assert world.by_trigger().status is SegmentStatus.COMPLETED
    first, second = world.http.requests
    assert first == second
    assert (first.json(), first.timeout) == ({"n": 7}, 3.0)
    assert (first.headers["X-Fixed"], first.headers["X-Path"], first.headers["X-Template"]) == (
        "{{x}}",
        "7",
        "n7",
    )


SHOP = {
    "id": "shop",
    "kind": "http",
    "host": "jobs.test",
    "port": None,
    "schema": "https",
    "login": "user-1",
    "password": "pass-word-1",
    "extra": {},
}
SOURCE = SecretsInMemory([SHOP], {"token": "tok-en-2"})
SECRETS = ["pass-word-1", "tok-en-2"]


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        ({"connection": "shop"}, {}),
        ({"apiHeadersTemplate": {"Authorization": "Bearer {{conn.shop.password}}"}}, "Bearer pass-word-1"),
        ({"apiHeadersTemplate": {"Authorization": "{{id}} {{base64 var.token}} {{list.1.x}}"}}, None),
    ],
)
def test_secrets_are_looked_up_for_each_call_and_are_in_no_detail(call, sent):
    world = World(
        RUNNING, RUNNING, DONE, step=poll(call=call), payload={"id": 7, "list": [1, {"x": 2}]}, source=SOURCE
    )
    (wait,) = world.segment().waits
    stored = json.dumps(wait.to_dict()) + json.dumps(world.state.to_dict())
    assert not any(secret in stored for secret in SECRETS)
    assert wait.details["request"]["plan"]["url"] == URL
    answer = world.triggered(wait)[1]()
    assert "output" in answer
    assert not any(secret in json.dumps(answer) for secret in SECRETS)
    assert len({request.headers.get("Authorization") for request in world.http.requests}) == 1
    if sent:
        assert world.http.requests[-1].headers["Authorization"] == sent


@pytest.mark.parametrize(
    ("fields", "payload"),
    [
        ({"apiHeadersTemplate": {"X": "{{var.token}}{{json this}}"}}, {}),
        ({"requestBodyTemplate": {"all": {"sourceJsonPath": "$.big"}}}, {"big": "x" * MAX_FROZEN_BYTES}),
    ],
)
def test_a_request_that_does_not_fit_a_trigger_is_left_to_the_worker(fields, payload):
    world = World(RUNNING, RUNNING, DONE, step=poll(call=fields), payload=payload, source=SOURCE)
    (wait,) = world.segment().waits
    frozen, _ = world.triggered(wait)
    assert not frozen.makes_calls
    assert len(json.dumps(wait.details)) < 2_000
    # What a trigger that only waits gives back.
    world.time = wait.until
    (wait,) = world.segment((wait.key, {})).waits
    assert len(world.http.requests) == 2
    world.time = wait.until
    assert world.segment((wait.key, {})).status is SegmentStatus.COMPLETED


def test_a_secret_that_a_triggerer_cannot_read_is_left_to_the_worker():
    step = poll(call={"connection": "shop"})
    world = World(RUNNING, DONE, step=step, source=SOURCE)
    (wait,) = world.segment().waits
    world.secrets = Secrets(SecretsInMemory())
    answer = world.triggered(wait)[1]()
    assert answer["repeat"] is True
    world.secrets = Secrets(SOURCE)
    assert world.segment((wait.key, answer)).status is SegmentStatus.COMPLETED


class CountingClient(FakeHttpClient):
    """Answers each URL's third call with success, and counts the requests in flight."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()
        self.in_flight = self.most = 0

    async def request(self, method, url, **fields):
        self.calls[url] += 1
        done = self.calls[url] >= 3
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        return json_response({"state": "done" if done else "running", "calls": self.calls[url]})


ITEM_POLL = poll("https://jobs.test/{{currentItem.n}}", outputMappings={"$.output": "$.data"})
NESTED = fork("w", "$.inner", outputMappings={"$.output": "$.aggregatedData[0]"})


@pytest.mark.parametrize(
    ("steps", "runner"),
    [
        ({"fan": fork("w"), "w": ITEM_POLL}, None),
        (
            {"fan": fork("w"), "w": ITEM_POLL},
            ChunkedForkRunner(AllmaSettings.without_airflow(AirflowOptions(max_in_memory_items=2))),
        ),
        ({"fan": fork("in"), "in": {**NESTED, "itemsPath": "$.currentItem.same"}, "w": ITEM_POLL}, None),
        ({"fan": ITEM_POLL}, None),
    ],
    ids=["fork", "chunks", "fork in a fork", "main path"],
)
def test_polls_have_the_same_results_in_every_place(steps, runner):
    items = [{"n": n} for n in range(5)]
    payload = {"items": [{**item, "same": [item]} for item in items], "currentItem": items[0]}
    world = World()
    world.http = CountingClient()
    world.program = program_of(steps)
    world.state = world.program.start_state(payload, INFO.flow_execution_id)
    services = world.services(fork_runner=runner, store=MemoryStore())
    result = asyncio.run(run_segment(world.program, world.state, INFO, services, stays=True))
    assert result.status is SegmentStatus.COMPLETED
    context = result.state.context
    outputs = [context["output"]] if "output" in context else context["steps_output"]["fan"]["aggregatedData"]
    assert outputs == [{"state": "done", "calls": 3}] * len(outputs)
    assert len(outputs) == (1 if "output" in context else 5)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_thousand_polls_hold_a_place_only_while_they_call(chunked):
    steps = {"fan": fork("w", config={"maxConcurrency": 20}), "w": ITEM_POLL}
    world = World()
    world.http = CountingClient()
    world.program = program_of(steps)
    payload = {"items": [{"n": n} for n in range(1000)]}
    world.state = world.program.start_state(payload, INFO.flow_execution_id)
    runner = ChunkedForkRunner(
        AllmaSettings.without_airflow(AirflowOptions(max_in_memory_items=10, max_chunks=1))
    )
    services = world.services(fork_runner=runner if chunked else None, store=MemoryStore())
    result = asyncio.run(run_segment(world.program, world.state, INFO, services, stays=True))
    assert len(result.state.context["steps_output"]["fan"]["aggregatedData"]) == 1000
    assert sum(world.http.calls.values()) == 3000
    assert world.http.most == 20
    # Twenty places and a thousand items that each waited twice: they did not wait one after the other.
    assert world.time - 1_000_000 < 20 * 2 * 5 * 2
