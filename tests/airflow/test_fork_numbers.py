"""The numbers of a fork: in the flow, or found by a JSONPath, they hold in every execution mode."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.engine import EngineSettings, compile_flow
from airflow_allma.flow import Flow
from airflow_allma.operators.xcoms import Key, pull
from airflow_allma.storage import LocalStore, OffloadLocation
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, compose, flow, fork
from tests.airflow.test_execution_modes import PICKY, comparable
from tests.support.engine import run as run_in_engine

pytestmark = pytest.mark.airflow

Json = dict[str, Any]

FIELDS = ("maxConcurrency", "toleratedFailurePercentage", "toleratedFailureCount", "maxItems")
NUMBERS = st.fixed_dictionaries(
    {},
    optional={
        "maxConcurrency": st.integers(0, 4),
        "toleratedFailurePercentage": st.sampled_from([0, 25, 33.4, 50, 100]),
        "toleratedFailureCount": st.integers(0, 3),
        "maxItems": st.integers(0, 7),
    },
)
ITEMS = st.lists(st.fixed_dictionaries({}, optional={"n": st.integers(0, 9)}), max_size=6)


def flow_with(numbers: Json, *, by_path: bool, **fields: Any) -> Json:
    """Return a flow whose fork has these numbers, or JSONPaths to where the payload has them."""
    written = {
        name: f"$.initialContextData.numbers.{name}" if by_path else value for name, value in numbers.items()
    }
    most = written.pop("maxItems", None)
    fan = fork(branch("w"), **written)
    if most is not None:
        fan["itemReader"] = {"maxItems": most}
    return flow("numbers", {"f": fan, "w": compose({"v": "$.currentItem.n"}, **PICKY)}, **fields)


def in_process(written: Json, payload: Json, folder: Path) -> Any:
    store = LocalStore(folder)
    ran = run_in_engine(
        compile_flow(Flow.model_validate(written)),
        payload,
        store=store,
        settings=EngineSettings(output_offload_bytes=1 << 30),
    )
    return comparable(ran.error, ran.outputs.get("f"), folder)


def in_chunks(written: Json, payload: Json, folder: Path, **options: Any) -> Any:
    dag_run = FakeDagRun({**written, "airflow": {"offloadLocation": folder.as_uri(), **options}}, payload)
    for number, chunk in enumerate(dag_run.plan("f")):
        dag_run.run("f.chunk", number, chunk)
    output = dag_run.run("f.aggregate")
    failed = dag_run.states["f.aggregate"] == "failed"
    error = pull(dag_run.instance("x"), "f.aggregate", Key.ERROR) if failed else None
    return comparable(error, output, folder)


def expected(numbers: Json, items: list[Json]) -> Any:
    """Return the outcome by the definition: the results, or how many failed of how many."""
    ran = items[: numbers.get("maxItems", len(items))]
    failed = sum("n" not in item for item in ran)
    percentage, count = numbers.get("toleratedFailurePercentage"), numbers.get("toleratedFailureCount")
    exceeded = [
        percentage is not None and failed * 100 > percentage * len(ran),
        count is not None and failed > count,
        percentage is None and count is None and failed > 0,
    ]
    return ("failed", failed, len(ran)) if any(exceeded) else [item.get("n") for item in ran]


def shown(outcome: Any) -> Any:
    if isinstance(outcome, tuple):
        return ("failed", *outcome[2:])
    return [None if "error" in one else one["v"] for one in outcome["aggregatedData"]]


@settings(deadline=None, max_examples=40)
@given(NUMBERS, ITEMS, st.booleans(), st.sampled_from(["list", "lines", "array"]))
def test_numbers_hold_in_every_mode_for_every_kind_of_items(numbers, items, by_path, kind):
    written = flow_with(numbers, by_path=by_path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: Any = items
        if kind != "list":
            lines = "\n".join(map(json.dumps, items)) if kind == "lines" else json.dumps(items)
            (folder / f"items.{kind}").write_text(lines)
            location = OffloadLocation.parse(folder.as_uri())
            found = {**location.pointer("x").inner(), "key": f"{location.prefix}/items.{kind}"}
        payload = {"items": found, "numbers": numbers}
        options = {"maxInMemoryItems": 1, "maxInMemoryBytes": 1, "chunkBytes": 9, "maxChunks": 3}
        wanted = expected(numbers, items)
        assert shown(in_process(written, payload, folder)) == wanted
        assert shown(in_chunks(written, payload, folder, **options)) == wanted


@pytest.mark.parametrize("by_path", [False, True])
def test_a_list_in_memory_has_mapped_instances_for_its_first_items_only(run, by_path):
    written = flow_with({"maxItems": 2, "toleratedFailureCount": 1}, by_path=by_path)
    payload = {
        "items": [{"id": "a", "n": 1}, {"id": "b"}, {"id": "c", "n": 3}],
        "numbers": {"maxItems": 2, "toleratedFailureCount": 1},
    }
    ended = run(written["steps"], payload)
    assert ended.state == "success"
    assert ended.states("f.b.w") == {0: "success", 1: "failed"}
    data = ended.xcom("f.aggregate")["aggregatedData"]
    assert (len(data), data[0]) == (2, {"v": 1})


@pytest.mark.parametrize(("limit", "chunks"), [(2, 2), (7, 3), (0, 0)])
def test_a_limit_found_by_a_path_runs_in_as_many_chunks_at_most(limit, chunks):
    written = flow_with({"maxConcurrency": limit}, by_path=True)
    payload = {"items": [{"n": number} for number in range(6)], "numbers": {"maxConcurrency": limit}}
    dag_run = FakeDagRun({**written, "airflow": {"maxInMemoryItems": 2}}, payload)
    if not limit:
        # No limit: as any list that is short enough.
        dag_run = FakeDagRun(written, payload)
    planned = dag_run.plan("f")
    assert len(planned) == chunks
    if limit:
        concurrency = pull(dag_run.instance("x"), "f.chunks", Key.PLAN)["concurrency"]
        assert concurrency * chunks <= limit


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    ("value", "finds"),
    [
        (None, "null"),
        ("5", 'the string "5"'),
        (True, "true"),
        (-1, "-1"),
        (1.5, "1.5"),
        (1e300, "1e+300"),
        ([3], "a list"),
        ({}, "an object"),
        (..., "nothing"),
    ],
)
@pytest.mark.parametrize("mode", ["process", "tasks"])
def test_a_path_that_finds_no_such_number_is_an_error_of_the_step(field, value, finds, mode, tmp_path):
    if field == "toleratedFailurePercentage" and value == 1.5:
        value, finds = 100.5, "100.5"
    written = flow_with({field: 1}, by_path=True)
    payload = {"items": [1, 2], "numbers": {} if value is ... else {field: value}}
    if mode == "process":
        error = run_in_engine(compile_flow(Flow.model_validate(written)), payload).error
    else:
        dag_run = FakeDagRun(written, payload)
        dag_run.run("f.items")
        error = pull(dag_run.instance("x"), "f.items", Key.ERROR)
    assert error["errorName"] == "PermanentStepError"
    owner = "itemReader" if field == "maxItems" else "aggregationConfig"
    path = f"$.initialContextData.numbers.{field}"
    assert f"Step f: {owner}.{field}: {path} finds {finds}, but must find a" in error["errorMessage"]


def test_a_run_that_began_before_its_flow_had_a_path_says_what_to_clear():
    numbers = {"toleratedFailureCount": 1}
    payload = {"items": [{"n": 1}], "numbers": numbers}
    before = FakeDagRun(flow_with(numbers, by_path=False, airflow={"maxInMemoryBytes": 0}), payload)
    planned = before.plan("f")
    assert "limits" not in pull(before.instance("x"), "f.items", Key.PLAN)
    before.run("f.chunk", 0, planned[0])
    after = FakeDagRun(
        flow_with(numbers, by_path=True),
        payload,
        xcoms=before.xcoms,
        notes=before.notes,
        states=before.states,
    )
    after.run("f.aggregate")
    message = pull(after.instance("x"), "f.aggregate", Key.ERROR)["errorMessage"]
    assert "aggregationConfig.toleratedFailureCount" in message
    assert "Clear the fork's items task" in message
