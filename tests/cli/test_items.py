"""Items of a run that was stored: counts, pages, one item, and running it again."""

from __future__ import annotations

import json
import shutil

import pytest

from airflow_allma.inspection.stored_runs import find_fork
from airflow_allma.storage import LocalStore, OffloadLocation
from tests.support.cli import flow_document, run_cli, write_file
from tests.support.engine import compose, fork

USERS = 40
REQUIRED = {"outputValidation": {"requiredFields": ["$.name"]}}


def shop(folder, mappings=None):
    """Return a flow that fails for users without a name."""
    step = compose(inputMappings={"name": "$.currentItem.name", **(mappings or {})}, **REQUIRED)
    return flow_document(
        {
            "users": fork(
                "shape",
                "$.initialContextData.users",
                {"strategy": "NONE", "failOnBranchError": False},
            ),
            "shape": step,
        },
        airflow={"offloadLocation": f"file://{folder}/store", "chunkBytes": 300},
    )


def user(number):
    return {"id": f"u-{number:02d}", **({} if number % 8 == 3 else {"name": f"Ada {number}"})}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run with 40 items in several chunks, of which five failed."""
    folder = tmp_path_factory.mktemp("items")
    (folder / "store").mkdir()
    lines = "".join(json.dumps(user(number)) + "\n" for number in range(USERS))
    (folder / "store" / "users.jsonl").write_text(lines)
    flow = write_file(folder, "shop.json", shop(folder))
    pointer = {"bucket": "file://", "key": f"{folder}/store/users.jsonl".lstrip("/")}
    done = run_cli("run", flow, "--chunks", "--payload", json.dumps({"users": pointer}))
    assert done.err == ""
    assert done.json["status"] == "COMPLETED"
    [run] = (folder / "store" / "shop").iterdir()
    return folder, run


def test_a_page_begins_with_counts_and_kinds_of_failures(stored):
    _, run = stored
    result = run_cli("items", run, "--fork", "users", "--limit", 5)
    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0] == "40 items, 40 ended: 35 ok, 5 failed, 0 skipped"
    assert "5 x " in lines[1]
    assert "in shape" in lines[1]
    assert [line.split()[:2] for line in lines[2:]] == [
        ["0", "ok"],
        ["1", "ok"],
        ["2", "ok"],
        ["3", "failed"],
        ["4", "ok"],
    ]
    assert "More: --start 5" in result.err


@pytest.mark.parametrize(
    ("options", "indexes"),
    [
        (("--failed",), [3, 11, 19, 27, 35]),
        (("--failed", "--start", 2, "--limit", 2), [19, 27]),
        (("--label", "U-1"), list(range(10, 20))),
        (("--text", "ada 17"), [17]),
        (("--text", "nobody"), []),
        (("--text", '"Ada 1"'), [1]),
        (("--text", '"name": "ada 17"'), [17]),
        (("--text", '"name":"Ada 17"'), [17]),
        (("--start", 38), [38, 39]),
    ],
)
def test_filters_show_the_items_that_match(stored, options, indexes):
    _, run = stored
    page = run_cli("items", run, "--fork", "users", "--json", *options).json["page"]
    assert [row["index"] for row in page["rows"]] == indexes


def test_a_kind_of_failure_is_named_by_its_id(stored):
    _, run = stored
    answer = run_cli("items", run, "--fork", "users", "--json").json
    [kind] = answer["summary"]["kinds"]
    page = run_cli("items", run, "--fork", "users", "--json", "--kind", kind["kind"]).json["page"]
    assert (page["total"], len(page["rows"])) == (5, 5)
    assert run_cli("items", run, "--fork", "users", "--json", "--kind", "no").json["page"]["rows"] == []


@pytest.mark.parametrize("form", ["path", "url", "run"])
def test_a_run_can_be_named_in_three_ways(stored, monkeypatch, form):
    folder, run = stored
    monkeypatch.setenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", f"file://{folder}/store" if form == "run" else "")
    named = {"path": run, "url": run.as_uri(), "run": f"shop/{run.name}"}[form]
    assert run_cli("items", named, "--fork", "users").code == 0


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("shop", "is neither a folder nor FLOW/RUN-ID"),
        ("shop/run", "AIRFLOW__ALLMA__OFFLOAD_LOCATION"),
        ("ftp://x/y", "is not the URI of an object"),
    ],
)
def test_a_run_that_cannot_be_found_is_explained(monkeypatch, run, message):
    monkeypatch.delenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", raising=False)
    result = run_cli("items", run, "--fork", "users")
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_a_fork_without_results_is_named_with_those_that_have_some(stored):
    _, run = stored
    result = run_cli("items", run, "--fork", "user")
    assert result.code == 2
    assert "it has those of users" in result.err


def test_one_item_is_shown_with_its_line_and_error(stored):
    _, run = stored
    result = run_cli("item", run, "--fork", "users", "--index", 11)
    assert result.code == 0
    assert result.out.startswith("Item 11, u-11: failed\n")
    assert "line 12, byte " in result.out
    assert 'Input: {"id": "u-11"}' in result.out
    assert "   1  shape (DATA_TRANSFORMATION), " in result.out
    assert "Error: {" in result.out
    answer = run_cli("item", run, "--fork", "users", "--index", 12, "--json").json
    assert (answer["status"], answer["output"]) == ("ok", {"name": "Ada 12"})


def test_an_index_out_of_range_is_explained(stored):
    _, run = stored
    for command in ("item", "replay"):
        result = run_cli(command, run, "--fork", "users", "--index", 40)
        assert result.code == 2
        assert "There is no item 40: users has 40 items: 0 to 39." in result.err


def test_a_replay_runs_the_item_again_with_todays_flow(stored, tmp_path):
    folder, run = stored
    arguments = ("replay", run, "--fork", "users", "--flows")
    failed = run_cli(*arguments, folder / "shop.json", "--index", 11, "--trace")
    assert (failed.code, failed.json["status"], failed.json["recorded"]) == (1, "failed", "failed")
    assert json.loads(failed.err.splitlines()[0])["step"] == "shape"
    fine = run_cli(*arguments, folder / "shop.json", "--index", 12)
    assert (fine.code, fine.json["output"]) == (0, {"name": "Ada 12"})
    fixed = shop(folder)
    del fixed["steps"]["shape"]["outputValidation"]
    fixed = run_cli(*arguments, write_file(tmp_path, "shop.json", fixed), "--index", 11)
    assert (fixed.code, fixed.json["status"], fixed.json["recorded"]) == (0, "ok", "failed")
    other = {"id": "u-77", "name": "Bob"}
    named = run_cli(*arguments, folder / "shop.json", "--index", 11, "--item", json.dumps(other))
    assert named.json["output"] == {"name": "Bob"}


def test_a_replay_asks_for_data_that_is_not_recorded(stored, tmp_path):
    folder, run = stored
    flow = write_file(
        tmp_path,
        "shop.json",
        shop(folder, {"shop": "$.initialContextData.shop", "before": "$.steps_output.prepare.x"}),
    )
    arguments = ("replay", run, "--fork", "users", "--index", 12, "--flows", flow)
    result = run_cli(*arguments)
    assert result.code == 2
    assert "reads $.initialContextData, $.steps_output.prepare of the data at the fork" in result.err
    context = {"initialContextData": {"shop": 5}, "steps_output": {"prepare": {"x": 6}}}
    result = run_cli(*arguments, "--context", json.dumps(context))
    assert result.json["output"] == {"name": "Ada 12", "shop": 5, "before": 6}


def test_a_replay_needs_no_context_for_what_the_step_itself_returns(stored, tmp_path):
    _, run = stored
    document = shop(tmp_path)
    document["steps"]["shape"] = {
        "stepType": "DATA_TRANSFORMATION",
        "moduleIdentifier": "system/generate-array",
        "literals": {"count": 2},
        "outputValidation": {"requiredFields": ["$.array"]},
    }
    flow = write_file(tmp_path, "shop.json", document)
    result = run_cli("replay", run, "--fork", "users", "--index", 9, "--flows", flow)
    assert (result.code, result.err) == (0, "")
    assert result.json["output"] == {"array": [0, 1]}


def test_a_replay_needs_the_flow_of_the_run(stored, tmp_path):
    _, run = stored
    flow = write_file(tmp_path, "other.json", flow_document({"a": compose()}, id="other"))
    result = run_cli("replay", run, "--fork", "users", "--index", 1, "--flows", flow)
    assert result.code == 2
    assert "has no valid flow 'shop', of which this is a run; valid flows: other" in result.err


def test_of_several_plans_the_newest_is_shown(tmp_path):
    store = LocalStore(tmp_path)
    location = OffloadLocation("b", "run")
    for token, number in (("first", 1), ("second", 2)):
        folder = location.below("users", "results", token, f"{number:06d}")
        store.write(folder.pointer("manifest", ending=".json"), b"{}")
    found = find_fork(store, location, "users")
    assert (found.older, found.plan) == (1, None)
    assert [chunk.number for chunk in found.view.plan.chunks] == [
        {"first": 1, "second": 2}[found.view.plan.token]
    ]


def test_a_plan_that_is_not_stored_names_both_reasons(stored, tmp_path):
    _, run = stored
    copy = shutil.copytree(run, tmp_path / "offload" / "shop" / "copy")
    for plan in copy.rglob("plan.json"):
        plan.unlink()
    result = run_cli("items", copy, "--fork", "users")
    assert "is not stored: the results were deleted, or the run is from an older version." in result.err
