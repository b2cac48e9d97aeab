"""The same flow with the same items has the same result in every execution mode."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_allma.dag_factory import build_dag
from airflow_allma.engine import compile_flow
from airflow_allma.flow import Flow
from airflow_allma.operators.transport import from_json
from airflow_allma.operators.xcoms import Key, pull
from airflow_allma.storage import LocalStore, Pointer, load_content
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, compose, flow, fork, route
from tests.support.engine import run

pytestmark = pytest.mark.airflow

Json = dict[str, Any]

PICKY = {"outputValidation": {"requiredFields": ["$.v"]}}
STEPS = {
    "plain": compose({"v": "$.currentItem"}),
    # Fails for null and for missing values.
    "picky": compose({"v": "$.currentItem.n"}, **PICKY),
    "loud": compose({"v": "$.currentItem"}, **PICKY, outputMappings={"$.output": "$.v"}),
    "number": compose({"v": "$.currentItem.n"}, to="sum"),
    "sum": compose({"v": "$.steps_output.number.v", "w": "$.currentItem.w"}),
    "way": route(("$.currentItem.n > 1", "plain"), to="picky"),
    "waits": compose({"v": "$.currentItem.n"}, delay={"milliseconds": 1}),
}
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.sampled_from(["", "é\u2028\n", "\U0001f600", "{{x}}", "$.currentItem", "null"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
ITEMS = st.lists(
    VALUES | st.fixed_dictionaries({"n": st.none() | st.integers(-2, 4) | VALUES}, optional={"w": VALUES}),
    max_size=9,
)
BRANCHES = st.lists(
    st.tuples(
        st.sampled_from(sorted(STEPS.keys() - {"sum"})),
        st.sampled_from([None, "$.currentItem.n > 0", "$.currentItem.n == null", "$.currentItem"]),
    ),
    min_size=1,
    max_size=3,
)
AGGREGATIONS = st.fixed_dictionaries(
    {"strategy": st.sampled_from(["COLLECT_ARRAY", "MERGE_OBJECTS", "SUM", "NONE", "CUSTOM_MODULE"])},
    optional={
        "dataPath": st.sampled_from(["$", "$.output", "$.v", "$.currentItem", "$.steps_output.picky.v"]),
        "failOnBranchError": st.booleans(),
        "toleratedFailurePercentage": st.integers(0, 100),
        "toleratedFailureCount": st.integers(0, 3),
        "maxConcurrency": st.integers(0, 5),
    },
)


def flow_of(branches: list[tuple[str, str | None]], aggregation: Json, *, first: bool) -> Json:
    made = [
        branch(start, f"b{place}", **({"condition": condition} if condition else {}))
        for place, (start, condition) in enumerate(branches)
    ]
    custom = {"customModuleIdentifier": "tests.support.aggregators:joined"}
    more = {**aggregation, **(custom if aggregation["strategy"] == "CUSTOM_MODULE" else {})}
    fan = fork(*made, branchSelection="first" if first else "all", **more)
    return flow("modes", {"f": fan, **copy.deepcopy(STEPS)})


def in_memory(written: Json, items: list[Any]) -> Any:
    ended = run(compile_flow(Flow.model_validate(written)), {"items": items})
    return comparable(ended.error, ended.outputs.get("f"))


def in_chunks(written: Json, items: list[Any], folder: Path | None, **options: Any) -> Any:
    """Run the real tasks; with a folder, the list is spilled to it and the results are stored there."""
    if folder is not None:
        options["offloadLocation"] = folder.as_uri()
    dag_run = FakeDagRun({**written, "airflow": options}, {"items": items})
    for number, chunk in enumerate(dag_run.plan("f")):
        dag_run.run("f.chunk", number, chunk)
    output = dag_run.run("f.aggregate")
    if isinstance(output, str):
        # What XComs would change is returned as JSON text; see operators/transport.py.
        output = from_json(output)
    failed = dag_run.states["f.aggregate"] == "failed"
    error = pull(dag_run.instance("x"), "f.aggregate", Key.ERROR) if failed else None
    return comparable(error, output, folder)


def comparable(error: Json | None, output: Any, folder: Path | None = None) -> Any:
    """Return the comparable result of a run, without byte offsets of lines, which lists do not have."""
    if error is not None:
        details = error["errorDetails"]
        errors = [(one["branchId"], one["error"]["errorName"]) for one in details.get("branchErrors", [])]
        return error["errorName"], errors, details.get("failedBranchCount"), details.get("branchCount")
    pointer = Pointer.parse(output)
    if pointer is not None:
        output = load_content(LocalStore(folder or "/"), pointer)
    pointer = Pointer.parse(output["aggregatedData"])
    if pointer is not None:
        output = {**output, "aggregatedData": load_content(LocalStore(folder or "/"), pointer)}
    return without_offsets(output)


def without_offsets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_offsets(one) for key, one in value.items() if key != "byteOffset"}
    return [without_offsets(one) for one in value] if isinstance(value, list) else value


@settings(deadline=None, max_examples=60)
@given(BRANCHES, st.booleans(), AGGREGATIONS, ITEMS, st.tuples(st.integers(1, 60), st.integers(1, 6)))
@example([("plain", None)], False, {"strategy": "COLLECT_ARRAY"}, [], (1, 1))
@example([("plain", None)], False, {"strategy": "COLLECT_ARRAY"}, [None, "", [], {}], (1, 6))
@example([("plain", None)], False, {"strategy": "COLLECT_ARRAY"}, [2.0**63], (1, 1))
@example(
    [("picky", "$.currentItem.n == null"), ("plain", None)],
    True,
    {"strategy": "COLLECT_ARRAY", "toleratedFailurePercentage": 50},
    [{"n": None}, {"n": 1}, {"n": None}, {"n": "\u2028"}],
    (9, 3),
)
def test_in_memory_inline_chunks_and_spilled_chunks_agree(branches, first, aggregation, items, split):
    written = flow_of(branches, aggregation, first=first)
    options = {"maxInMemoryItems": 1, "maxInMemoryBytes": 1, "chunkBytes": split[0], "maxChunks": split[1]}
    expected = in_memory(written, items)
    assert in_chunks(written, items, None, **options) == expected
    with tempfile.TemporaryDirectory() as folder:
        assert in_chunks(written, items, Path(folder), **options) == expected


@pytest.mark.parametrize("seed", range(3))
def test_the_three_modes_agree_as_dags_too(run_dag, tmp_path, seed):
    items = [None, {"n": 1, "w": "é\u2028"}, {"n": [seed, {"a": None}]}, "", {}, {"n": 3}][: 4 + seed]
    branches = [("picky", None), ("way", "$.currentItem.n != null")]
    aggregation = [
        {"strategy": "COLLECT_ARRAY", "failOnBranchError": False},
        {"strategy": "MERGE_OBJECTS", "toleratedFailurePercentage": 90},
        {"strategy": "CUSTOM_MODULE", "toleratedFailurePercentage": 90},
    ][seed]
    written = flow_of(branches, aggregation, first=seed == 1)
    expected = in_memory(written, items)
    spilled = {"maxInMemoryItems": 2, "maxInMemoryBytes": 1, "chunkBytes": 20}
    modes = [{}, {"maxInMemoryItems": 2}, {**spilled, "offloadLocation": tmp_path.as_uri()}]
    for number, options in enumerate(modes):
        named = {**written, "id": f"modes-{seed}-{number}", "airflow": options}
        ended = run_dag(build_dag(Flow.model_validate(named)), {"items": items})
        assert comparable(None, ended.xcom("f.aggregate"), tmp_path) == expected
        ran = {task.task_id for task in ended.tasks if task.state in {"success", "failed"}}
        assert ("f.chunk" in ran) is (number > 0)
        assert ("f.b0.picky" in ran) is (number == 0)
    kept = [json.loads(line) for part in tmp_path.glob("**/parts/*.jsonl") for line in part.open("rb")]
    assert kept
