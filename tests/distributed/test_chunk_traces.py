"""The traces of items in chunks: those of failed items always, with all of their steps."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from airflow_allma.distributed import chunk_traces
from airflow_allma.distributed.chunk_layout import PartKind, list_parts
from airflow_allma.distributed.chunk_traces import traced_run
from airflow_allma.distributed.local_run import ChunkedForkRunner
from airflow_allma.distributed.result_sinks import StoredSink
from airflow_allma.engine import BranchResult, BranchStatus, EngineSettings, ForkRun, RunInfo
from airflow_allma.engine.http_fake import json_response
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.engine.secrets import Secrets
from airflow_allma.engine.traces import TraceForm
from airflow_allma.engine.tracing import Tracer, TraceSelection
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import AirflowOptions
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import MemoryStore, OffloadLocation, Pointer
from tests.distributed.test_waiting_chunks import START, ChunkedRun, wait
from tests.support.engine import (
    INFO,
    Fakes,
    FlowResult,
    Json,
    call,
    compose,
    fork,
    program_of,
    run,
    then,
)
from tests.support.secrets import SecretsInMemory
from tests.support.stored_forks import read_index
from tests.support.sub_flows import library, sub_flow

CHUNK = OffloadLocation("bucket", "chunk")
TOLERANT = {"failOnBranchError": False}
MANIFEST = {"items": {"bucket": "bucket", "key": "m.jsonl"}}


def needs(field: str, **fields: Any) -> Json:
    """Return a step that fails for items without a field, whose value it returns otherwise."""
    return compose(
        inputMappings={field: f"$.currentItem.{field}"},
        outputValidation={"requiredFields": [f"$.{field}"]},
        **fields,
    )


STEPS = {
    "fan": fork("first", config=TOLERANT),
    "first": compose(
        inputMappings={"n": "$.currentItem.n"}, outputMappings={"$.seen": "$"}, **then("second")
    ),
    "second": needs("good"),
}


class Ran:
    """A run of a flow in chunks of a few items, with what it has stored."""

    def __init__(
        self,
        steps: dict[str, Json],
        items: list[Any],
        *,
        trace_items: str = "failed",
        flow: Json | None = None,
        chunk_bytes: int = 100,
        masks: SecretMasks | None = None,
        **services: Any,
    ) -> None:
        self.store = MemoryStore()
        lines = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in items]
        self.store.write(Pointer("bucket", "m.jsonl"), b"".join(line + b"\n" for line in lines))
        selection = TraceSelection.parse(trace_items)
        form = TraceForm(masks or SecretMasks(), 500)
        options = AirflowOptions(max_in_memory_items=1, chunk_bytes=chunk_bytes)
        self.result: FlowResult = run(
            steps,
            MANIFEST,
            flow=flow,
            store=self.store,
            settings=EngineSettings(
                offload_location=OffloadLocation("bucket", "offload"), output_offload_bytes=1 << 30
            ),
            fork_runner=ChunkedForkRunner(AllmaSettings.without_airflow(options)),
            tracer=None if selection is None else Tracer(form, selection),
            **services,
        )

    def traces(self) -> list[Json]:
        """Return the stored traces, in the order of chunks and items."""
        infos = [info for info in self.store.list("bucket", "offload/") if "/traces/" in info.pointer.key]
        bodies = [self.store.read(info.pointer) for info in infos]
        return [json.loads(line) for body in bodies for line in body.splitlines()]


def without_times(step: Json) -> Json:
    assert step["seconds"] >= 0
    assert step["at"] > 1_700_000_000
    return {name: value for name, value in step.items() if name not in {"seconds", "at"}}


def items_of(count: int, *bad: int) -> list[Json]:
    return [{"n": n} if n in bad else {"n": n, "good": 1} for n in range(count)]


def test_a_failed_item_has_its_earlier_steps_too_with_input_and_output():
    [trace] = Ran(STEPS, items_of(20, 7), chunk_bytes=1 << 20).traces()
    steps = [without_times(step) for step in trace.pop("steps")]
    assert trace == {"item": 7, "branch": "b", "status": "failed"}
    assert steps[0] == {
        "step": "first",
        "type": "DATA_TRANSFORMATION",
        "input": {"n": 7},
        "output": {"n": 7},
        "next": "second",
        "tries": 1,
        "calls": [],
    }
    assert (steps[1]["step"], steps[1]["input"], steps[1]["next"]) == ("second", {}, None)
    assert steps[1]["error"]["errorName"] == "ContentBasedRetryableError"
    assert steps[1]["output"] == {}


@pytest.mark.parametrize(
    ("trace_items", "logs", "expected"),
    [
        ("none", False, []),
        ("none", True, []),
        ("failed", False, [7]),
        ("failed", True, list(range(20))),
        ("all", False, list(range(20))),
        ("sample:5", False, [0, 5, 7, 10, 15]),
    ],
)
def test_the_setting_and_the_flow_select_the_items_with_traces(trace_items, logs, expected):
    flow = {"enableExecutionLogs": True} if logs else None
    info = RunInfo.now("shop", 1, "run-1", enable_execution_logs=logs)
    ran = Ran(STEPS, items_of(20, 7), trace_items=trace_items, flow=flow, chunk_bytes=1 << 20, info=info)
    traces = ran.traces()
    assert [trace["item"] for trace in traces] == expected
    for trace in traces:
        assert [step["step"] for step in trace["steps"]] == ["first", "second"]
        assert trace["status"] == ("failed" if trace["item"] == 7 else "ok")


@pytest.mark.parametrize("wrong", ["", "some", "sample:0", "sample:x", "all,failed"])
def test_another_setting_is_an_error_that_says_what_is_possible(wrong):
    with pytest.raises(PermanentStepError, match=r"trace_items .* sample:1000"):
        TraceSelection.parse(wrong)


def test_an_item_that_cannot_be_read_says_that_no_step_has_run():
    [trace] = Ran(STEPS, [{"good": 1}, b"{"], chunk_bytes=1 << 20).traces()
    assert (trace["item"], trace["steps"]) == (1, [])
    assert "cannot be read" in trace["note"]


def sink_and_run(items: TraceSelection) -> tuple[MemoryStore, StoredSink, ForkRun]:
    store = MemoryStore()
    fan = program_of(STEPS).fork("fan")
    services = Fakes().services(tracer=Tracer(TraceForm(SecretMasks(), 500), items))
    return store, StoredSink(store, CHUNK, fork=fan), ForkRun(fan, {}, INFO, services)


def test_a_result_that_cannot_be_stored_says_that_its_steps_are_lost():
    store, sink, run_of_fork = sink_and_run(TraceSelection())
    _, traces = traced_run(run_of_fork, sink, 10)
    assert traces is not None
    with sink:
        traces.add_unwritable(BranchResult(13, 0, "b", BranchStatus.FAILED, error={}))
    [part] = list_parts(store, CHUNK, PartKind.TRACES)
    trace = json.loads(store.read(part.info.pointer))
    assert (trace["item"], trace["steps"]) == (3, [])
    assert "cannot be stored" in trace["note"]


def test_a_chunk_has_a_limited_number_of_traces_of_failures_and_the_index_counts_the_others(monkeypatch):
    monkeypatch.setattr(chunk_traces, "MAX_LISTED_FAILURES", 3)
    store, sink, run_of_fork = sink_and_run(TraceSelection())
    _, traces = traced_run(run_of_fork, sink, 0)
    assert traces is not None
    with sink:
        for item in range(5):
            traces(BranchResult(item, 0, "b", BranchStatus.FAILED, error={}), None)
        sink.finish(5)
    index = read_index(store, CHUNK)
    assert index is not None
    assert (sum(part.count for part in index.traces), index.untraced) == (3, 2)


def test_steps_of_forks_and_sub_flows_inside_of_an_item_say_where_they_ran():
    steps = {
        "fan": fork("inner", config=TOLERANT),
        "inner": fork("work", items="$.currentItem.list", config=TOLERANT, **then("sub")),
        "work": needs("good"),
        "sub": sub_flow(
            "child", inputMappings={"n": "$.steps_output.inner.aggregatedData[0]"}, **then("second")
        ),
        "second": needs("good"),
    }
    child = {"look": compose(inputMappings={"n": "$.n"})}
    item = {"n": 0, "list": [{"good": 1}, {"n": 2}]}
    [trace] = Ran(steps, [item, item | {"good": 1, "list": []}], flows=library({"child": child})).traces()
    shown = [
        (step["step"], step.get("flow"), step.get("within"), "error" in step, step["next"])
        for step in trace["steps"]
    ]
    assert shown == [
        ("work", None, [{"fork": "inner", "branch": "b", "item": 0}], False, None),
        ("work", None, [{"fork": "inner", "branch": "b", "item": 1}], True, None),
        ("inner", None, None, False, "sub"),
        ("look", "child", None, False, None),
        ("sub", None, None, False, "second"),
        ("second", None, None, True, None),
    ]


def test_failed_items_of_a_fork_inside_are_kept_when_there_are_many_good_ones():
    steps = {
        "fan": fork("inner", config=TOLERANT),
        "inner": fork("work", items="$.currentItem.list"),
        "work": needs("good"),
    }
    item = {"list": [{} if n == 500 else {"good": 1} for n in range(1000)]}
    [trace] = Ran(steps, [item]).traces()
    numbers = [step["within"][0]["item"] for step in trace["steps"] if "within" in step]
    assert len(numbers) <= 100
    assert numbers == [*range(50), 500]
    assert trace["steps"][-1]["step"] == "inner"
    assert trace["omittedSteps"] == 949


def test_a_loop_keeps_its_first_and_last_steps():
    again = [{"condition": "$.completedStepCount < 300", "nextStepInstanceId": "count", "maxTransitions": 0}]
    steps = {
        "fan": fork("count", config=TOLERANT),
        "count": compose(inputMappings={"n": "$.currentItem.n"}, transitions=again, **then("bad")),
        "bad": needs("good"),
    }
    [trace] = Ran(steps, [{"n": 1}]).traces()
    assert len(trace["steps"]) == 100
    assert trace["omittedSteps"] == 202
    assert [step["step"] for step in trace["steps"][-2:]] == ["count", "bad"]


def test_calls_tries_and_continued_errors_of_steps_that_wait_are_in_the_trace():
    steps = {
        "fan": fork("ask", config=TOLERANT),
        "ask": call(
            "https://api.test/{{currentItem.n}}?token=abcd1234",
            onError={"continueOnFailure": True},
            **then("second"),
        ),
        "second": needs("good"),
    }
    fakes = Fakes()
    fakes.http.route("GET", "https://api.test/0*", json_response({"sorry": 1}, 404))
    [trace] = Ran(steps, [{"n": 0}], fakes=fakes).traces()
    ask, second = trace["steps"]
    assert (ask["error"]["errorDetails"]["status"], ask["next"], ask["tries"]) == (404, "second", 1)
    assert [(one["method"], one["status"]) for one in ask["calls"]] == [("GET", 404)]
    assert "abcd1234" not in json.dumps(trace)
    assert second["next"] is None


def test_the_trace_of_an_item_that_waited_in_no_process_goes_on():
    flow = {
        "fan": fork("before", config=TOLERANT),
        "before": compose(inputMappings={"text": "$.currentItem.text"}, **then("w")),
        "w": wait(outputMappings={"$.answer": "$"}, **then("after")),
        "after": needs("good"),
    }
    waiting = ChunkedRun(flow, [{"n": 0, "text": "x" * 5000}])
    masks = SecretMasks()
    waiting.tracer = Tracer(TraceForm(masks, 4096), TraceSelection(), lambda: waiting.seconds)
    assert waiting.keys() == ["item:0"]
    waiting.seconds += 60
    waiting.go_on(item_0={"v": 1})
    [trace] = waiting.stored("traces")
    before, waited, after = trace["steps"]
    assert before["input"] == {"$cut": '{"text":"' + "x" * 1015, "$bytes": 5011}
    assert (before["next"], waited["step"], waited["output"]) == ("w", "w", {"v": 1})
    assert waited["seconds"] == pytest.approx(60, abs=1)
    assert waited["at"] == pytest.approx(START, abs=1)
    assert (after["step"], after["error"]["errorName"]) == ("after", "ContentBasedRetryableError")


SECRET = "planted-password"


def test_a_secret_in_input_header_and_output_is_in_nothing_that_is_stored_beside_results():
    steps = {
        "fan": fork("ask", config=TOLERANT),
        "ask": call(
            "https://api.test/{{currentItem.n}}?key={{conn.shop.password}}",
            apiHeadersTemplate={"X-Any": "{{conn.shop.password}}"},
            inputMappings={"sent": "$.currentItem.text", "password": "$.currentItem.n"},
            outputMappings={"$.got": "$.data"},
            **then("second"),
        ),
        "second": needs("good", literals={"copy": "$.got"}),
    }
    fakes = Fakes()
    fakes.http.route("GET", "https://api.test/0*", json_response({"echo": SECRET, "long": SECRET * 500}))
    fakes.http.route("GET", "https://api.test/1*", json_response({"wrong": SECRET}, 404))
    secrets = Secrets(SecretsInMemory([{"id": "shop", "password": SECRET}], {}))
    items = [{"id": f"{n} {SECRET}", "n": n, "text": f"see {SECRET}"} for n in range(2)]
    ran = Ran(steps, items, chunk_bytes=1 << 20, fakes=fakes, secrets=secrets, masks=secrets.masks)
    kept = [
        ran.store.read(info.pointer)
        for info in ran.store.list("bucket", "offload/")
        if info.pointer.key.endswith(("index.json", "failures.jsonl", "plan.json", "labels.gz"))
        or "/traces/" in info.pointer.key
    ]
    kept = [(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode() for data in kept]
    assert "0 ***\n1 ***\n" in kept
    assert len(kept) == 5
    assert len(ran.traces()) == 2
    assert not [text[max(0, text.find("planted") - 90) :] for text in kept if "planted" in text]
    assert all('"password":"***"' in text for text in kept if '"steps"' in text)


def test_the_trace_of_an_item_whose_sub_flow_waited_in_no_process_goes_on():
    child = {"early": compose(inputMappings={"n": "$.n"}, **then("w")), "w": wait("item:{{n}}")}
    flow = {
        "fan": fork("sub", config=TOLERANT),
        "sub": sub_flow("child", inputMappings={"n": "$.currentItem.n"}, **then("after")),
        "after": needs("good"),
    }
    waiting = ChunkedRun(flow, [{"n": 0}])
    waiting.flows = library({"child": child})
    waiting.tracer = Tracer(TraceForm(SecretMasks(), 4096), TraceSelection())
    assert waiting.keys() == ["item:0"]
    waiting.go_on(item_0={"v": 1})
    [trace] = waiting.stored("traces")
    shown = [(step["step"], step.get("flow"), "error" in step) for step in trace["steps"]]
    assert shown == [
        ("early", "child", False),
        ("w", "child", False),
        ("sub", None, False),
        ("after", None, True),
    ]
