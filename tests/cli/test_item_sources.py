"""A run over CSV and one over Parquet: run, items, item and replay."""

from __future__ import annotations

import json

import pytest

from airflow_allma.storage import LocalStore
from tests.support.cli import flow_document, run_cli, write_file
from tests.support.engine import compose, fork, noop, then
from tests.support.item_sources import SOURCES, SPLIT, item

COUNT = 40
FAILED = [7, 33]


@pytest.fixture(scope="module", params=SOURCES[:2], ids=str)
def stored(request, tmp_path_factory):
    """The flow's file, what was written, and the folder of the run; two items failed."""
    folder = tmp_path_factory.mktemp(request.param.name)
    written = request.param.write(LocalStore(folder / "store"), "data", COUNT, "old", 0)
    steps = {
        "users": fork(
            "check",
            "$.initialContextData.users",
            {"failOnBranchError": False},
            itemReader=request.param.reader,
        ),
        "check": noop(
            transitions=[
                {"condition": f"$.currentItem.id == '{item(n)['id']}'", "nextStepInstanceId": "fail"}
                for n in FAILED
            ],
            **then("keep"),
        ),
        "fail": compose(outputValidation={"requiredFields": ["$.x"]}),
        "keep": compose(inputMappings={"n": "$.currentItem.n"}),
    }
    options = {"offloadLocation": (folder / "store").as_uri(), **SPLIT}
    file = write_file(folder, "shop.json", flow_document(steps, airflow=options))
    pointer = {"bucket": "file://", "key": f"{folder}/store/data/{written.pointer['key']}".lstrip("/")}
    done = run_cli("run", file, "--chunks", "--payload", json.dumps({"users": pointer}))
    assert (done.code, done.err) == (0, ""), done.out
    [run] = (folder / "store" / "shop").iterdir()
    return file, written, run, done.json


def test_a_run_has_all_results_in_order(stored):
    _, written, _, done = stored
    data = done["context"]["steps_output"]["users"]["aggregatedData"]
    assert [n for n, one in enumerate(data) if "error" in one] == FAILED
    assert [one["n"] for one in data if "error" not in one] == [
        one["n"] for n, one in enumerate(written.inputs) if n not in FAILED
    ]


def test_pages_and_single_items_say_what_and_where(stored):
    _, written, run, _ = stored
    found = run_cli("items", run, "--fork", "users", "--failed", "--json").json
    assert (found["summary"]["items"], found["summary"]["failed"]) == (COUNT, len(FAILED))
    assert [row["index"] for row in found["page"]["rows"]] == FAILED
    for index in (0, *FAILED, COUNT - 1):
        shown = run_cli("item", run, "--fork", "users", "--index", index, "--json").json
        assert shown["input"] == written.inputs[index]
        ((unit, place),) = ((k, v) for k, v in written.places[index].items() if k != "pointer")
        assert shown["line"][unit] == place
        text = run_cli("item", run, "--fork", "users", "--index", index).out
        assert f"{item(index)['id']}: {'failed' if index in FAILED else 'ok'}" in text
        assert f", {unit} {place}\n" in text


def test_a_replay_runs_the_recorded_input(stored):
    file, written, run, _ = stored
    arguments = ("replay", run, "--fork", "users", "--flows", file, "--index")
    fine = run_cli(*arguments, 12)
    assert (fine.code, fine.json["output"]) == (0, {"n": written.inputs[12]["n"]})
    failed = run_cli(*arguments, 33)
    assert (failed.code, failed.json["status"], failed.json["recorded"]) == (1, "failed", "failed")
