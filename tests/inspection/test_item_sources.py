"""Pages, details, searches and downloads of items that were read from every format."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from airflow_allma.distributed.local_run import ChunkedForkRunner
from airflow_allma.engine import EngineSettings
from airflow_allma.flow import AirflowOptions
from airflow_allma.inspection import (
    ForkView,
    ItemQuery,
    download,
    fork_summary,
    item_detail,
    item_page,
    item_value,
    selected_items,
)
from airflow_allma.inspection.stored_runs import find_fork
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import MemoryStore, ObjectStore, OffloadLocation, Pointer
from tests.support.engine import compose, fork, noop, program_of, run, then
from tests.support.item_sources import SOURCES, SPLIT, ItemSource, WrittenItems, item

COUNT = 40
LOCATION = OffloadLocation("results", "r")
FAILED = [n for n in range(COUNT) if n % 7 == 3]


def run_fork(
    store: ObjectStore, pointer: Any, source: ItemSource, chunk_bytes: int = SPLIT["chunkBytes"]
) -> ForkView:
    """Fork over items, of which those in FAILED fail, and return what is stored of it."""
    at = source.at
    fails = [{"condition": f"$.{at}.id == '{item(n)['id']}'", "nextStepInstanceId": "fail"} for n in FAILED]
    steps = {
        "fan": fork(
            itemReader=source.reader,
            itemLabelPath=source.label_path,
            config={"failOnBranchError": False, "strategy": "NONE"},
        ),
        "work": noop(transitions=fails, **then("keep")),
        "fail": compose(outputValidation={"requiredFields": ["$.x"]}),
        "keep": compose(inputMappings={"n": f"$.{at}.n", "v": f"$.{at}.v"}),
    }
    options = AirflowOptions(chunk_bytes=chunk_bytes, max_chunks=SPLIT["maxChunks"])
    settings = EngineSettings(offload_location=LOCATION)
    ran = run(
        program_of(steps),
        {"items": pointer},
        store=store,
        settings=settings,
        fork_runner=ChunkedForkRunner(AllmaSettings.without_airflow(options)),
    )
    assert ran.status == "COMPLETED", ran.error
    [prefix] = {info.pointer.key.partition("/fan/")[0] for info in store.list("results", "r/")}
    return find_fork(store, OffloadLocation("results", prefix), "fan").view


class Ran(NamedTuple):
    """A fork that has run, and what it has read."""

    source: ItemSource
    written: WrittenItems
    view: ForkView


@pytest.fixture(scope="module", params=SOURCES, ids=str)
def ran(request) -> Ran:
    store = MemoryStore()
    written = request.param.write(store, "data", COUNT, "old", 0)
    return Ran(request.param, written, run_fork(store, written.pointer, request.param))


def rows(view: ForkView, **query: Any) -> list[dict[str, Any]]:
    """Return the rows of all pages of seven items."""
    found: list[dict[str, Any]] = []
    start: int | None = 0
    while start is not None:
        page = item_page(view, ItemQuery(start=start, limit=7, **query))
        found += page["rows"]
        start = page["next"]
    return found


def place_of(detail: dict[str, Any]) -> dict[str, Any]:
    """Return where a page says that an item is; the number of a line is a help for people only."""
    return {name: value for name, value in detail["line"].items() if name != "number"}


def check_place(ran: Ran, index: int, detail: dict[str, Any]) -> None:
    """Check where an item is; the lines of a list of objects are read."""
    place = place_of(detail)
    if ran.written.places is not None:
        assert place == ran.written.places[index]
        return
    listed = ran.view.store.read(Pointer.from_uri(place["pointer"]), place["byte"])
    assert json.loads(listed.splitlines()[0])["key"] == detail["input"]["key"]


def test_each_item_has_its_input_and_its_place(ran):
    for index in range(COUNT):
        detail = item_detail(ran.view, index)
        assert ran.source.fields(detail["input"]) == ran.written.inputs[index]
        assert (detail["label"], detail["status"]) == (
            item(index)["id"],
            "failed" if index in FAILED else "ok",
        )
        check_place(ran, index, detail)
        whole = json.loads(b"".join(item_value(ran.view, index, "input")))
        assert whole == detail["input"]


def test_pages_counts_and_selections_have_each_item_once(ran):
    summary = fork_summary(ran.view, 0.0)
    assert (summary["items"], summary["ended"], summary["failed"]) == (COUNT, COUNT, len(FAILED))
    assert summary["problem"] is None
    assert [row["index"] for row in rows(ran.view)] == list(range(COUNT))
    assert [row["index"] for row in rows(ran.view, show="failed")] == FAILED
    assert [row["label"] for row in rows(ran.view, show="failed")] == [item(n)["id"] for n in FAILED]
    selected = selected_items(ran.view, "failed")
    assert selected["isComplete"]
    assert sum(map(len, selected["chunks"].values())) == len(FAILED)


def test_searches_find_labels_and_texts_of_inputs_and_errors(ran):
    assert [row["index"] for row in rows(ran.view, label="U-001")] == list(range(10, 20))
    assert [row["index"] for row in rows(ran.view, text="u-0012")] == [12]
    assert [row["index"] for row in rows(ran.view, text="requires")] == FAILED


def test_downloads_have_all_results_and_those_that_failed(ran):
    def saved(show: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in b"".join(download(ran.view, show)).splitlines()]

    every = saved("all")
    assert [one["itemIndex"] for one in every] == list(range(COUNT))
    assert [one["label"] for one in every] == [item(n)["id"] for n in range(COUNT)]
    for one, read in zip(every, ran.written.inputs, strict=True):
        if one["status"] == "ok":
            assert one["output"] == {"n": read["n"], "v": "old"}
    assert [one["itemIndex"] for one in saved("failed")] == FAILED


def test_a_failure_says_where_its_item_is(ran):
    for line in b"".join(download(ran.view, "failed")).splitlines():
        saved = json.loads(line)
        details = saved["error"]["errorDetails"]
        assert details["itemIndex"] == saved["itemIndex"]
        assert item_detail(ran.view, saved["itemIndex"])["error"] == saved["error"]
        found = {"byte": details.get("byteOffset"), "row": details.get("rowNumber")}
        if ran.written.places is not None:
            place = ran.written.places[saved["itemIndex"]]
            unit = "row" if "row" in place else "byte"
            assert found[unit] == place[unit]
            assert details.get("object", place["pointer"]) == place["pointer"]


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_the_whole_input_of_a_large_item_can_be_saved(source):
    store = MemoryStore()
    written = source.write(store, "data", 4, "old", 1_500_000)
    view = run_fork(store, written.pointer, source, 1 << 20)
    for index, expected in enumerate(written.inputs):
        detail = item_detail(view, index)
        assert (detail["inputCut"], detail["label"]) == (True, expected["id"])
        whole = json.loads(b"".join(item_value(view, index, "input")))
        assert source.fields(whole) == expected
