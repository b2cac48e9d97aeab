"""Single chunks: which items are counted, which are lost, and which a second try runs again."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_allma.distributed.chunk_plan import ChunkSpec
from airflow_allma.operators.xcoms import Key, pull, push
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, compose, failing, flow, fork, route
from tests.airflow.shop import Shop

pytestmark = pytest.mark.airflow

WORK = {"w": compose({"n": "$.currentItem.n"})}
PICKY = {
    "w": route(("$.currentItem.n == 7", "bad"), to="x"),
    "x": compose({"n": "$.currentItem.n"}),
    "bad": failing(),
}


def asking(shop: Shop) -> dict[str, object]:
    """Return a step that requests the item from the shop."""
    url = {"template": shop.url + "/{{currentItem.n}}"}
    return {"w": {"stepType": "API_CALL", "apiHttpMethod": "GET", "apiUrlTemplate": url}}


def lines(folder: Path, count: int = 40, name: str = "m.jsonl") -> dict[str, object]:
    """Write a manifest with lines of equal length and return a payload with a pointer to it."""
    file = folder / name
    file.write_text("".join(f'{{"n": {n:2d}}}\n' for n in range(count)))
    return {"p": {"bucket": "file://", "key": str(file).lstrip("/")}}


def manifest_run(
    folder: Path, steps: dict[str, object], *branches: object, count: int = 40, **more: object
) -> FakeDagRun:
    """Return a new run over a manifest; its chunks begin at the lines 0, 11, 21 and 31."""
    config = {"failOnBranchError": False, **more}
    fan = fork(*(branches or [branch("w")]), items="$.initialContextData.p", **config)
    written = flow(
        "chunks",
        {"f": fan, **steps},
        airflow={"chunkBytes": 100, "maxChunks": 4, "offloadLocation": f"file://{folder}"},
    )
    return FakeDagRun(written, lines(folder, count))


def run_all(dag_run: FakeDagRun, chunks: list[dict[str, object]]) -> None:
    for number, chunk in enumerate(chunks):
        dag_run.run("f.chunk", number, chunk)


def parts(folder: Path) -> list[Path]:
    """Return the stored result parts, sorted by chunk."""
    return sorted(folder.glob("**/parts/*.jsonl"))


def cut(part: Path, places: list[int]) -> None:
    """Keep only some results of a part, as if its chunk had been killed before the others were written."""
    all_lines = part.read_text().splitlines(keepends=True)
    kept = [all_lines[place] for place in places]
    first, last = (json.loads(kept[place])["item"] for place in (0, -1))
    sequence, *_, writer = part.name.split("-")
    part.unlink()
    part.with_name(f"{sequence}-{first:010d}-{last:010d}-{len(kept)}-{writer}").write_text("".join(kept))


@pytest.mark.parametrize("uncounted", [False, True])
def test_every_item_without_a_result_of_a_killed_chunk_is_reported_as_lost_at_its_index(tmp_path, uncounted):
    dag_run = manifest_run(tmp_path, WORK)
    run_all(dag_run, dag_run.plan_uncounted("f") if uncounted else dag_run.plan("f"))
    dag_run.kill("f.chunk", 1)
    cut(parts(tmp_path)[1], [0, 1, 4])
    data = dag_run.run("f.aggregate")["aggregatedData"]
    lost = [13, 14, *range(16, 21)]
    assert [one.get("n") for one in data] == [None if n in lost else n for n in range(40)]
    for index in lost:
        error = data[index]["error"]
        assert error["errorName"] == "BranchResultLost"
        assert error["errorDetails"]["itemIndex"] == index
        assert f"Item {index}, branch b: task f.chunk[1]" in error["errorMessage"]


def test_a_killed_chunk_without_any_result_loses_all_its_items_even_if_they_were_not_counted(tmp_path):
    dag_run = manifest_run(tmp_path, WORK)
    chunks = dag_run.plan_uncounted("f")
    run_all(dag_run, chunks[:3])
    dag_run.states["f.chunk_3"] = "failed"
    data = dag_run.run("f.aggregate")["aggregatedData"]
    assert [one.get("n") for one in data] == [*range(31), *[None] * 9]
    assert data[39]["error"]["errorDetails"]["itemIndex"] == 39


def test_of_an_item_with_two_branches_only_the_missing_branch_is_lost(tmp_path):
    dag_run = manifest_run(tmp_path, WORK, branch("w", "a"), branch("w", "b"))
    run_all(dag_run, dag_run.plan("f"))
    dag_run.kill("f.chunk", 0)
    cut(parts(tmp_path)[0], [n for n in range(22) if n != 8])
    data = dag_run.run("f.aggregate")["aggregatedData"]
    assert [one.get("n") for one in data] == [n // 2 if n != 8 else None for n in range(80)]
    assert data[8]["branchId"] == "a"
    assert data[8]["error"]["errorName"] == "BranchResultLost"


def test_an_item_with_one_selected_branch_is_lost_once(tmp_path):
    branches = [branch("w", "none", condition="$.currentItem.n > 100"), branch("w", "a"), branch("w", "b")]
    dag_run = manifest_run(tmp_path, WORK, *branches, branchSelection="first")
    chunks = dag_run.plan("f")
    run_all(dag_run, chunks[:3])
    dag_run.states["f.chunk_3"] = "failed"
    data = dag_run.run("f.aggregate")["aggregatedData"]
    assert len(data) == 40
    assert [one.get("branchId") for one in data] == [*[None] * 31, *["none"] * 9]


def test_a_chunk_that_ran_another_number_of_items_than_planned_fails_with_both_numbers(tmp_path):
    dag_run = FakeDagRun(
        flow("list", {"f": fork(branch("w"), items="$.initialContextData.items"), **WORK},
             airflow={"maxInMemoryItems": 2}),
        {"items": [{"n": n} for n in range(4)]},
    )  # fmt: skip
    first, second = dag_run.plan("f")
    assert dag_run.run("f.chunk", 0, first)["items"] == 2
    longer = {**second, "count": 3}
    assert "2 items" in str(dag_run.run("f.chunk", 1, longer))
    assert "3" in dag_run.xcoms["f.chunk", 1, Key.ERROR]
    assert "chunk 1 (items 2-3)" in dag_run.xcoms["f.chunk", 1, Key.ERROR].lower()


def test_an_aggregate_whose_chunks_report_another_number_than_planned_fails_with_both_numbers(tmp_path):
    dag_run = manifest_run(tmp_path, WORK)
    run_all(dag_run, dag_run.plan("f"))
    push(dag_run.instance("f.chunk", 2), Key.RESULTS, {"number": 2, "items": 9})
    message = str(dag_run.run("f.aggregate"))
    assert "PermanentStepError" in message
    assert "Chunk 2 (items 21-30)" in message
    assert "9 items" in message
    assert "10" in message


def test_a_fork_without_branches_runs_nothing_over_a_manifest(tmp_path):
    steps = {"f": fork(items="$.initialContextData.p")}
    written = flow("none", steps, airflow={"chunkBytes": 100, "offloadLocation": f"file://{tmp_path}"})
    dag_run = FakeDagRun(written, lines(tmp_path))
    assert dag_run.plan("f") == []
    assert dag_run.run("f.aggregate") == {"aggregatedData": []}


@pytest.mark.parametrize("uncounted", [False, True])
def test_a_failed_item_is_named_by_its_index_in_the_whole_manifest_and_its_byte(tmp_path, uncounted):
    steps = PICKY | {"w": route(("$.currentItem.n >= 37", "bad"), to="x")}
    dag_run = manifest_run(tmp_path, steps)
    run_all(dag_run, dag_run.plan_uncounted("f") if uncounted else dag_run.plan("f"))
    data = dag_run.run("f.aggregate")["aggregatedData"]
    details = [one["error"]["errorDetails"] for one in data if "error" in one]
    assert [one["itemIndex"] for one in details] == [37, 38, 39]
    assert [one["byteOffset"] for one in details] == [370, 380, 390]
    stored = [json.loads(line) for line in parts(tmp_path)[3].read_text().splitlines()]
    assert [line["offset"] for line in stored] == [310 + 10 * n for n in range(9)]


@pytest.mark.parametrize(
    ("branches", "selection"),
    [
        ([branch("w")], "all"),
        (
            [
                branch("w", "low", condition="$.currentItem.n < 8"),
                branch("w", "high", condition="$.currentItem.n >= 8"),
            ],
            "all",
        ),
        ([branch("w", "low", condition="$.currentItem.n < 8"), branch("w", "rest")], "first"),
        ([branch("w", "none", condition="$.currentItem.n > 90"), branch("w", "rest")], "first"),
    ],
)
@pytest.mark.parametrize("uncounted", [False, True])
def test_a_chunk_that_runs_again_runs_only_the_items_without_a_good_result(
    tmp_path, shop, branches, selection, uncounted
):
    shop.answer = lambda path, number: (404, {}) if path == "/7" and number == 1 else (200, {"path": path})
    dag_run = manifest_run(
        tmp_path, asking(shop), *branches, branchSelection=selection, dataPath="$.data.path"
    )
    chunks = dag_run.plan_uncounted("f") if uncounted else dag_run.plan("f")
    run_all(dag_run, chunks)
    assert dag_run.run("f.aggregate")["aggregatedData"][7]["error"]["errorName"] == "PermanentStepError"
    run_all(dag_run, chunks)
    assert shop.calls == {f"/{n}": 2 if n == 7 else 1 for n in range(40)}
    assert dag_run.run("f.aggregate") == {"aggregatedData": [f"/{n}" for n in range(40)]}


def test_a_run_that_plans_again_keeps_its_results_and_a_new_run_with_the_same_id_has_none(tmp_path, shop):
    dag_run = manifest_run(tmp_path, asking(shop))
    run_all(dag_run, dag_run.plan("f"))
    run_all(dag_run, dag_run.plan("f"))
    assert shop.calls == {f"/{n}": 1 for n in range(40)}
    dag_run.run_after += timedelta(minutes=1)
    run_all(dag_run, dag_run.plan("f"))
    assert shop.calls == {f"/{n}": 2 for n in range(40)}


def test_items_that_match_no_branch_are_not_run_again_either(tmp_path):
    dag_run = manifest_run(tmp_path, WORK, branch("w", "none", condition="$.currentItem.n > 100"))
    chunks = dag_run.plan("f")
    run_all(dag_run, chunks)
    before = parts(tmp_path)
    run_all(dag_run, chunks)
    assert parts(tmp_path) == before
    assert dag_run.run("f.aggregate") == {"aggregatedData": []}


def test_a_plan_survives_a_round_trip_through_json(tmp_path):
    dag_run = manifest_run(tmp_path, WORK)
    chunks = dag_run.plan_uncounted("f")
    assert [ChunkSpec.from_dict(chunk).count for chunk in chunks] == [None] * 4
    assert pull(dag_run.instance("x"), "f.chunks", Key.PLAN)["chunks"] == chunks


def custom(function: str, **more: object) -> FakeDagRun:
    config = {"strategy": "CUSTOM_MODULE", "customModuleIdentifier": f"tests.support.aggregators:{function}"}
    steps = {
        "f": fork(branch("w"), to="z", **config, **more),
        "w": compose({"n": "$.currentItem"}),
        "z": compose(),
        "rescue": compose(),
    }
    return FakeDagRun(flow("custom", steps, airflow={"maxInMemoryItems": 1}), {"items": [1, 2]})


def test_any_exception_of_a_custom_function_is_an_error_of_the_fork():
    dag_run = custom("raising")
    run_all(dag_run, dag_run.plan("f"))
    assert "PermanentStepError" in str(dag_run.run("f.aggregate"))
    error = pull(dag_run.instance("x"), "f.aggregate", Key.ERROR)
    assert "tests.support.aggregators:raising' raised RuntimeError: no 2" in error["errorMessage"]
    assert error["errorDetails"] == {"failedStepInstanceId": "f"}


@pytest.mark.parametrize(
    ("on_error", "way"),
    [({"fallbackStepInstanceId": "rescue"}, "rescue"), ({"continueOnFailure": True}, "z")],
)
def test_a_fork_whose_aggregation_fails_continues_according_to_its_on_error(on_error, way):
    dag_run = custom("raising", onError=on_error)
    run_all(dag_run, dag_run.plan("f"))
    dag_run.run("f.aggregate")
    assert dag_run.states["f.aggregate"] == "success"
    assert pull(dag_run.instance("x"), "f.aggregate", Key.STATE)["nextStep"] == way


@pytest.mark.parametrize(
    ("required", "way"), [("$.aggregatedData.n", "z"), ("$.aggregatedData.missing", "rescue")]
)
def test_a_forks_output_validation_runs_where_its_results_are_joined(required, way):
    dag_run = custom(
        "first_only",
        outputValidation={"requiredFields": [required]},
        onError={"fallbackStepInstanceId": "rescue"},
    )
    run_all(dag_run, dag_run.plan("f"))
    dag_run.run("f.aggregate")
    assert pull(dag_run.instance("x"), "f.aggregate", Key.STATE)["nextStep"] == way


@pytest.mark.parametrize(("position", "task"), [("before", "f.items"), ("after", "f.aggregate")])
def test_a_forks_delay_is_spent_by_its_first_or_its_last_task(position, task):
    dag_run = custom("first_only", delay={"milliseconds": 200, "position": position})
    took = {}

    def timed(name, work):
        began = time.monotonic()
        made = work()
        took[name] = time.monotonic() - began
        return made

    plan = timed("f.items", lambda: dag_run.plan("f"))
    run_all(dag_run, plan)
    timed("f.aggregate", lambda: dag_run.run("f.aggregate"))
    assert took[task] >= 0.2


def test_an_exception_while_results_are_read_is_an_error_of_the_fork_too(caplog):
    dag_run = custom("joined", onError={"fallbackStepInstanceId": "rescue"})
    run_all(dag_run, dag_run.plan("f"))
    dag_run.xcoms["f.chunk", 1, Key.RESULTS] = '{"number": 1, "items": 1, "results": 7}'
    dag_run.run("f.aggregate")
    assert pull(dag_run.instance("x"), "f.aggregate", Key.STATE)["nextStep"] == "rescue"
    assert "This is a bug" in caplog.text


RETRIES = {"retries": {"count": 2, "errorEquals": ["ParallelBranchExecutionError"]}}


@pytest.mark.parametrize(
    ("start", "on_error", "warned"),
    [("bad", RETRIES, True), ("bad", {}, False), ("w", RETRIES, False)],
)
def test_retries_that_have_no_effect_on_a_fork_are_logged(caplog, start, on_error, warned):
    steps = {"f": fork(branch(start), onError=on_error), "w": compose(), "bad": failing()}
    dag_run = FakeDagRun(flow("tries", steps, airflow={"maxInMemoryItems": 1}), {"items": [1, 2]})
    run_all(dag_run, dag_run.plan("f"))
    dag_run.run("f.aggregate")
    warnings = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert any("onError.retries of step f cannot rerun its branches" in text for text in warnings) == warned


@pytest.mark.parametrize(
    ("size", "more", "is_object"),
    [(10, {}, False), (300, {}, True), (300, {"disableS3Offload": True}, False)],
)
def test_results_above_the_offload_threshold_become_an_object_that_a_later_fork_reads(
    tmp_path, size, more, is_object
):
    steps = {
        "f": {**fork(branch("w"), to="g"), **more},
        "w": compose({"n": "$.currentItem"}, literals={"text": "x" * size}),
        "g": fork(branch("v"), items="$.steps_output.f.aggregatedData"),
        "v": compose({"n": "$.currentItem.n"}),
    }
    options = {"maxInMemoryItems": 10, "offloadLocation": f"file://{tmp_path}"}
    dag_run = FakeDagRun(flow("large", steps, airflow=options), {"items": list(range(40))})
    run_all(dag_run, dag_run.plan("f"))
    data = dag_run.run("f.aggregate")["aggregatedData"]
    if is_object:
        assert data["_s3_output_pointer"]["key"].endswith(".jsonl")
        content = Path("/", data["_s3_output_pointer"]["key"]).read_text()
        data = [json.loads(line) for line in content.splitlines()]
    assert [one["n"] for one in data] == list(range(40))
    for number, chunk in enumerate(dag_run.plan("g")):
        dag_run.run("g.chunk", number, chunk)
    assert dag_run.run("g.aggregate")["aggregatedData"] == [{"n": n} for n in range(40)]
