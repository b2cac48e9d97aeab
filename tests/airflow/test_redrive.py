"""Failed items run again, and only these: chunks cleared through Airflow's API, on a real scheduler."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.airflow.finished_run import FinishedRun, ask
from tests.airflow.flows import branch, compose, flow, fork
from tests.airflow.shop import Answer, Shop

pytestmark = pytest.mark.scheduler

COUNT = 10_000
CHUNKS = 4
FAILING = sorted(random.Random(3).sample(range(COUNT // 4 + 1, 3 * COUNT // 4), 137))
"""In the chunks 1 and 2."""


def path_of(number: int) -> str:
    return f"/items/u{number:05}"


def failing_at_first(shop: Shop, numbers: list[int]) -> None:
    """Let the shop refuse some items, until ``fix_shop``."""
    refused = {path_of(number) for number in numbers}

    def answer(path: str, _: int) -> Answer:
        return (404, {"message": "not yet"}) if path in refused else (200, {"path": path})

    shop.answer = answer


def fix_shop(shop: Shop) -> None:
    """Remove the cause of the failures and reset the call counts."""
    shop.answer = lambda path, _: (200, {"path": path})
    shop.calls = Counter()


@pytest.fixture
def begin(airflow_client, deploy, shop, tmp_path):
    """Return a function that runs a flow over a manifest of ``count`` lines in ``CHUNKS`` chunks."""

    def run(name: str, count: int, **config: Any) -> FinishedRun:
        lines = "".join(f'{{"id": "u{n:05}"}}\n' for n in range(count))
        manifest = tmp_path / "users.jsonl"
        manifest.write_text(lines)
        data = {"items": "$.initialContextData.p", "dataPath": "$.steps_output.w.data.path"}
        steps = {
            "f": fork(branch("w"), to="z", **data, **config),
            "w": ask(shop),
            "z": compose({"last": f"$.steps_output.f.aggregatedData[{count - 1}]"}),
        }
        options = {"chunkBytes": -(-len(lines) // CHUNKS), "offloadLocation": f"file://{tmp_path}"}
        deploy(flow(name, steps, airflow=options))
        return FinishedRun(
            airflow_client, name, {"p": {"bucket": "file://", "key": str(manifest).lstrip("/")}}
        )

    return run


def aggregated(ran: FinishedRun) -> list[object]:
    """Return the fork's aggregated data, in order."""
    data = ran.xcom("f.aggregate")["aggregatedData"]
    if isinstance(data, list):
        return data
    pointer = data["_s3_output_pointer"]
    return [json.loads(line) for line in Path("/", pointer["key"]).read_text().splitlines()]


def test_of_ten_thousand_items_the_137_that_failed_run_again_and_the_aggregate_is_complete(
    begin, shop, tmp_path
):
    failing_at_first(shop, FAILING)
    ran = begin("redrive", COUNT)
    assert ran.state == "failed"
    assert shop.calls == {path_of(n): 1 for n in range(COUNT)}
    states = ran.states("f.chunk")
    failed = [index for index, state in states.items() if state == "failed"]
    assert (failed, len(states)) == ([1, 2], CHUNKS)
    assert ran.states("f.aggregate") == {-1: "failed"}
    assert ran.states("z") == {-1: "upstream_failed"}
    log = ran.logs("f.aggregate")
    assert "137 of 10000" in log
    check_log_of_a_failed_chunk(ran, failed[0])

    fix_shop(shop)
    ran.client.clear("redrive", ran.run_id, ["f.chunk"], failed, downstream=True)
    ran.wait_again()
    assert ran.state == "success"
    assert shop.calls == {path_of(n): 1 for n in FAILING}
    assert ran.try_numbers("f.chunk") == {index: 2 if index in failed else 1 for index in range(CHUNKS)}
    whole = [path_of(n) for n in range(COUNT)]
    assert aggregated(ran) == whole
    assert ran.xcom("z") == {"last": whole[-1]}
    check_asset_of_the_aggregate(ran, tmp_path)

    for tasks, downstream in ((["f.chunk"], True), (["f.aggregate"], False)):
        ran.client.clear("redrive", ran.run_id, tasks, downstream=downstream)
        ran.wait_again()
        assert ran.state == "success"
        assert aggregated(ran) == whole
    assert sum(shop.calls.values()) == len(FAILING)


def check_asset_of_the_aggregate(ran: FinishedRun, folder: Path) -> None:
    """Check that the asset is the same for all runs, without data, and that its event names the object."""
    found = ran.client.call("GET", "assets", uri_pattern="redrive/f", only_active=False)["assets"]
    (asset,) = [one for one in found if one["uri"] == f"file://{folder}/redrive/f"]
    events = ran.client.call("GET", "assets/events", asset_id=asset["id"])["asset_events"]
    (extra,) = [event["extra"] for event in events if event["source_run_id"] == ran.run_id]
    pointer = ran.xcom("f.aggregate")["aggregatedData"]["_s3_output_pointer"]
    assert extra["object"] == f"file:///{quote(pointer['key'])}"
    assert set(extra) <= {"object", "flowExecutionId", "from_rest_api"}
    assert f"flowExecutionId: {extra['flowExecutionId']}" in ran.logs("f.aggregate")


def check_log_of_a_failed_chunk(ran: FinishedRun, index: int) -> None:
    """Check that the log names the first ten items that failed and says what to do."""
    log = ran.logs("f.chunk", index)
    first, last = (int(n) for n in re.findall(r"\d+", ran.labels("f.chunk")[index] or "")[:2])
    here = [n for n in FAILING if first <= n <= last]
    assert ran.labels("f.chunk")[index] == f"items {first}-{last}, {len(here)} failed"
    failures = re.findall(r"(\w+: .*) \(item (\d+), (u\d+), line (\d+), byte (\d+), step w\)", log)
    assert [one[1:] for one in failures] == [(str(n), f"u{n:05}", str(n + 1), str(n * 17)) for n in here[:10]]
    assert all(one[0].startswith("PermanentStepError: 404 from GET http") for one in failures)
    assert f"{len(here)} of {last - first + 1} items of file:///" in log
    assert "Clear this task and its downstream tasks to rerun the failed items, and only these." in log


def test_items_whose_failure_is_tolerated_can_be_run_again_too(begin, shop):
    failing = [3, 51, 52, 99]
    failing_at_first(shop, failing)
    ran = begin("tolerated", 100, failOnBranchError=False)
    assert ran.state == "success"
    assert set(ran.states("f.chunk").values()) == {"success"}
    with_failures = [index for index, label in ran.labels("f.chunk").items() if "failed" in (label or "")]
    assert with_failures == [0, 2, 3]
    data = aggregated(ran)
    assert [n for n, one in enumerate(data) if one != path_of(n)] == failing
    assert [data[n]["error"]["errorDetails"]["itemIndex"] for n in failing] == failing
    assert "(item 99, u00099, line 100, byte 1683, step w)" in ran.logs("f.chunk", with_failures[-1])
    fix_shop(shop)
    ran.client.clear("tolerated", ran.run_id, ["f.chunk"], with_failures, downstream=True)
    ran.wait_again()
    assert (ran.state, shop.calls) == ("success", {path_of(n): 1 for n in failing})
    assert aggregated(ran) == [path_of(n) for n in range(100)]
