"""Exactly the selected items run again, and the results are right: by Airflow's API, as the page does it."""

from __future__ import annotations

import time
from collections import Counter
from urllib.parse import quote

import pytest

from tests.airflow.finished_run import FinishedRun, ask
from tests.airflow.flows import branch, compose, flow, fork
from tests.support.cli import run_cli
from tests.support.item_reruns import ItemReruns, items_flow, write_items

pytestmark = pytest.mark.scheduler

COUNT = 600
CHUNKS = 6
DAG = "rerun-items"
KINDS = {404: range(3, 560, 29), 403: range(10, 500, 50), 422: range(101, 198, 16)}
"""HTTP status -> the items that get it at first: 20, 10 and 7."""
FAILING = {item: status for status, items in KINDS.items() for item in items}


@pytest.fixture
def items(airflow_client, deploy, shop, tmp_path):
    """A run of six chunks of a hundred items, of which 37 have failed."""
    manifest = tmp_path / "m.jsonl"
    write_items(manifest, COUNT, CHUNKS)
    deploy(items_flow(DAG, shop, manifest, CHUNKS))
    return ItemReruns.run(airflow_client, DAG, shop, manifest, FAILING)


def test_failed_items_one_kind_and_one_good_item_rerun_alone_and_the_results_are_right(items, monkeypatch):
    ran = items.ran
    assert ran.state == "failed"
    assert items.called() == Counter(range(COUNT))
    assert len(ran.states("f.chunk")) == CHUNKS
    check_log_note_and_link(items)
    kinds = items.kinds()
    assert {status: kind["count"] for status, kind in kinds.items()} == {404: 20, 403: 10, 422: 7}

    assert items.rerun_items(what="failed") == set(FAILING)
    assert ran.state == "failed"

    for item in KINDS[403]:
        del items.failing[item]
    assert items.rerun_items(what="kind", kind=kinds[403]["kind"]) == set(KINDS[403])
    assert set(items.kinds()) == {404, 422}

    good = 250
    assert good not in FAILING
    plan = items.plan(what="item", index=good)
    monkeypatch.setenv("AIRFLOW_API_URL", ran.client.base_url)
    monkeypatch.setenv("AIRFLOW_API_TOKEN", ran.client._sign_in())
    command = plan["command"].split()
    assert command[0] == "airflow-allma"
    done = run_cli(*command[1:])
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Item 250 runs again, in 1 chunk. Then f.aggregate joins all results again.")
    ran.wait_again()
    assert items.called() == {good: 1}

    items.failing.clear()
    assert items.rerun_items(what="failed") == set(FAILING) - set(KINDS[403])
    assert ran.state == "success"
    assert [one["path"] for one in items.results()] == [f"/items/{n}" for n in range(COUNT)]
    wait_for_note(items, "Fork `f`: all 600 items succeeded.")
    assert items.plan(what="failed")["blocked"] == "No item of this fork has failed."


def test_of_items_that_are_task_instances_only_the_branches_that_failed_rerun(airflow_client, deploy, shop):
    refused = {"/b/2"}
    shop.answer = lambda path, _: (404, {}) if path in refused else (200, {"path": path})
    steps = {
        "f": fork(branch("a1", "a"), branch("b1", "b"), to="z"),
        "a1": ask(shop, "a2", "/a1/{{currentItem}}"),
        "a2": ask(shop, None, "/a2/{{currentItem}}"),
        "b1": ask(shop, None, "/b/{{currentItem}}"),
        "z": compose({"n": "$.steps_output.f.aggregatedData[5]"}),
    }
    deploy(flow("rerun-in-memory", steps))
    ran = FinishedRun(airflow_client, "rerun-in-memory", {"items": [1, 2, 3]})
    assert ran.state == "failed"
    items = ItemReruns(ran, shop)
    assert items.calls() == {f"/{step}/{n}": 1 for step in ("a1", "a2", "b") for n in (1, 2, 3)}
    assert items.rerun(what="failed") == {"/b/2": 1}
    assert ran.state == "failed"
    refused.clear()
    assert items.rerun(what="item", index=1) == {"/a1/2": 1, "/a2/2": 1, "/b/2": 1}
    assert ran.state == "success"
    assert ran.try_numbers("f.a.a2") == {0: 1, 1: 2, 2: 1}


def wait_for_note(items: ItemReruns, note: str) -> None:
    """Wait until the API server has written the run's note, which takes seconds."""
    end = time.monotonic() + 30
    while (found := items.details()["note"]) != note:
        assert time.monotonic() < end, found
        time.sleep(0.2)


def check_log_note_and_link(items: ItemReruns) -> None:
    """Check what Airflow's own pages say: counts, kinds, the way to the items, and no traceback."""
    log = items.ran.logs("f.aggregate")
    lines = [line for line in log.splitlines() if "items failed" in line or "items, first item" in line]
    assert "37 of 600 items failed:" in lines[0]
    for text in ("20 items, first item 3, step w", "10 items, first item 10,", "7 items, first item 101,"):
        assert any(text in line and "PermanentStepError: 4" in line for line in lines)
    assert "Traceback" not in log
    assert "task_runner.py" not in log
    query = f"dag_id={DAG}&run_id={quote(items.ran.run_id, safe='')}&allma_fork=f"
    link = f"{items.client.base_url}/allma/ui?{query}"
    wait_for_note(items, f"Fork `f`: 37 of 600 items failed. [Show them]({link})")
    links = items.details("/taskInstances/f.aggregate/links")["extra_links"]
    assert links == {"Allma items": link}
