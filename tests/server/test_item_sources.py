"""Forks over files of every format in one run of a Dag: results, pages and planned reruns."""

from __future__ import annotations

import pytest

from airflow_allma.storage import LocalStore
from tests.airflow.flows import branch, compose, failing, flow, fork, route
from tests.support.item_sources import SOURCES, SPLIT, item

pytestmark = pytest.mark.airflow

COUNT = 12
FAILED = [2, 9]
FORKS = [source for source in SOURCES if source.name != "manifest"]
"""Manifests name objects in S3."""


def written_sources(folder):
    """Write the items of all formats, each below a folder of its own, and return them by name."""
    found = {}
    for source in FORKS:
        below = folder / source.name
        written = source.write(LocalStore(below), "data", COUNT, "old", 0)
        name, path = list(written.pointer.items())[1]
        pointer = {"bucket": "file://", name: f"{below}/data/{path}".lstrip("/")}
        found[source.name] = written._replace(pointer=pointer)
    return found


def all_forks():
    """Return steps in which a fork for each format follows the other; two items of each fail."""
    steps = {}
    for number, source in enumerate(FORKS):
        at, name = f"$.{source.at}", source.name
        following = [one.name for one in FORKS[number + 1 :]]
        wrong = [(f"{at}.id == '{item(n)['id']}'", f"{name}-fail") for n in FAILED]
        steps |= {
            name: fork(
                branch(f"{name}-check"),
                items=f"$.initialContextData.{name}",
                to=following[0] if following else "last",
                failOnBranchError=False,
                itemReader=source.reader,
                itemLabelPath=source.label_path,
            ),
            f"{name}-check": route(*wrong, to=f"{name}-keep"),
            f"{name}-fail": failing(),
            f"{name}-keep": compose({"n": f"{at}.n"}),
        }
    return {**steps, "last": compose()}


def test_one_run_reads_every_format_and_its_pages_show_each_item(pages, tmp_path):
    written = written_sources(tmp_path)
    options = {**SPLIT, "maxChunks": 2, "offloadLocation": tmp_path.as_uri(), "branchGranularity": "branch"}
    ran = pages.run(
        flow("all-formats", all_forks(), airflow=options),
        {name: one.pointer for name, one in written.items()},
    )
    assert ran.state == "success"
    for source in FORKS:
        name, read = source.name, written[source.name]
        data = ran.xcom(f"{name}.aggregate")["aggregatedData"]
        assert [n for n, one in enumerate(data) if "error" in one] == FAILED
        assert [one["error"]["errorDetails"]["itemIndex"] for one in data if "error" in one] == FAILED
        assert [one["n"] for one in data if "error" not in one] == [
            one["n"] for n, one in enumerate(read.inputs) if n not in FAILED
        ]
        chunks = ran.states(f"{name}.chunk")
        assert len(chunks) == 2
        path = f"/dags/all-formats/runs/{ran.run_id}/forks/{name}"
        summary = pages.get(path)
        assert (summary["items"], summary["ended"], summary["failed"]) == (COUNT, COUNT, len(FAILED))
        page = pages.get(f"{path}/items", show="failed")
        assert [(row["index"], row["label"]) for row in page["rows"]] == [(n, item(n)["id"]) for n in FAILED]
        shown = pages.get(f"{path}/items/{FAILED[1]}")
        assert source.fields(shown["input"]) == read.inputs[FAILED[1]]
        assert shown["error"]["errorDetails"]["itemIndex"] == FAILED[1]
        plan = pages.get(f"{path}/rerun", what="failed")
        assert (plan["items"], plan["blocked"]) == (len(FAILED), None)
        one = pages.get(f"{path}/rerun", what="item", index=COUNT - 1)
        assert (one["items"], one["blocked"]) == (1, None)
