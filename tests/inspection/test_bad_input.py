"""What pages say when results are missing, unreadable, huge or hostile; and what they never read."""

from __future__ import annotations

import codecs
import json
from dataclasses import replace

import msgspec
import pytest

from airflow_allma.distributed.chunk_layout import ChunkFile, PartKind, PartName
from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec
from airflow_allma.engine import BranchResult, BranchStatus
from airflow_allma.exceptions import InspectionError, ItemNotFoundError, StorageError, StorageUnavailableError
from airflow_allma.inspection import (
    ChunkState,
    ForkView,
    ItemQuery,
    download,
    fork_summary,
    item_detail,
    item_page,
    item_value,
    selected_items,
)
from airflow_allma.inspection.item_rows import MAX_VALUE_BYTES, cut_value, error_row, item_row, shown_value
from airflow_allma.inspection.object_cache import ObjectCache
from airflow_allma.inspection.read_budget import Budget
from airflow_allma.inspection.stored_lines import find_line, scan_lines
from airflow_allma.storage import ManifestRange, MemoryStore, Pointer
from tests.support.faulty_store import FaultyStore, fail_when
from tests.support.stored_forks import MANIFEST, RUN, StoredChunk, write_fork, write_index

OK = [(item, "main", "o") for item in range(6)]
SOME = [(item, "main", "f" if item % 2 else "o") for item in range(6)]


def without(store, name):
    """Return a copy of a store without the objects whose key contains a name."""
    copy = MemoryStore()
    for info in store.list("b"):
        if name not in info.pointer.key:
            copy.write(info.pointer, store.read(info.pointer))
    return copy


@pytest.mark.parametrize("deleted", ["/results/", "/000001/"])
def test_deleted_results_are_a_sentence_and_others_are_shown(deleted):
    fork = write_fork([StoredChunk(6, [SOME]), StoredChunk(6, [SOME])])
    view = replace(fork.view, store=without(fork.view.store, deleted), cache=ObjectCache())
    summary = fork_summary(view, 0.0)
    assert "are not in the offload location any more" in summary["problem"]
    assert summary["items"] == 12
    page = item_page(view, ItemQuery())
    assert "deleted them. Clear these chunks to run their items again." in page["note"]
    assert [row["status"] for row in page["rows"][6:]] == ["none"] * 6
    assert "No result is stored" in page["rows"][6]["message"]
    assert "deleted them" in item_page(view, ItemQuery(show="failed"))["note"]
    detail = item_detail(view, 7)
    assert (detail["status"], detail["trace"]) == ("none", None)
    assert "deleted them" in detail["note"]
    if deleted == "/results/":
        with pytest.raises(ItemNotFoundError, match="they were deleted, or never stored"):
            download(view)
        return
    lines = [json.loads(line) for line in b"".join(download(view)).splitlines()]
    assert "were deleted from the offload location" in lines[-1]["problem"]


@pytest.mark.parametrize("show", ["all", "failed", "succeeded"])
@pytest.mark.parametrize("handed_on", [True, False])
def test_a_download_of_deleted_results_is_refused_also_after_pages_read_them(show, handed_on):
    fork = write_fork([StoredChunk(6, [SOME])], handed_on=handed_on)
    fork_summary(fork.view, 0.0)
    view = replace(fork.view, store=without(fork.view.store, "/results/"))
    with pytest.raises(ItemNotFoundError, match="they were deleted, or never stored"):
        download(view, show)


@pytest.mark.parametrize("is_cached", [True, False])
@pytest.mark.parametrize("branches", [("main",), ("main", "other")])
def test_a_rerun_names_the_chunks_whose_results_were_deleted(branches, is_cached):
    fork = write_fork([StoredChunk(6, [SOME]), StoredChunk(6, [SOME]), StoredChunk(6, [OK])], branches)
    assert selected_items(fork.view, "failed")["lost"] == []
    cache = fork.view.cache if is_cached else ObjectCache()
    view = replace(fork.view, store=without(fork.view.store, "/000001/"), cache=cache)
    selected = selected_items(view, "failed")
    assert (sorted(selected["chunks"]), selected["lost"]) == ([0, 1], [1])
    assert selected_items(view, "item", index=7)["lost"] == [1]
    assert selected_items(view, "item", index=1)["lost"] == []


def test_an_item_whose_results_were_deleted_after_pages_read_the_index_says_so():
    fork = write_fork([StoredChunk(6, [SOME])])
    fork_summary(fork.view, 0.0)
    view = replace(fork.view, store=without(fork.view.store, "/results/"))
    detail = item_detail(view, 1)
    assert (detail["status"], detail["trace"], detail["input"]) == (
        "none",
        None,
        {"id": "u-0001", "note": "x"},
    )
    assert "deleted them" in detail["note"]
    assert detail["traceNote"] == "The record of the steps was deleted with the results."
    with pytest.raises(ItemNotFoundError, match="deleted them"):
        item_value(view, 1, "error")
    assert "deleted them" in item_page(view, ItemQuery())["note"]
    assert "deleted them" in item_page(view, ItemQuery(label="u-0001"))["note"]


def test_a_part_that_is_gone_leaves_its_items_without_results():
    fork = write_fork([StoredChunk(6, [OK])])
    part = next(info.pointer for info in fork.view.store.list("b") if "/parts/" in info.pointer.key)
    view = replace(fork.view, store=without(fork.view.store, part.key))
    page = item_page(view, ItemQuery())
    assert [row["status"] for row in page["rows"]] == ["none"] * 3 + ["ok"] * 3
    assert "deleted them" in page["note"]


def test_a_store_that_does_not_answer_is_an_error_of_the_store():
    fork = write_fork([StoredChunk(6, [SOME])])
    hook = fail_when(lambda operation, _pointer, _number: operation in {"read", "stream", "list"})
    view = replace(fork.view, store=FaultyStore(fork.view.store, hook), cache=ObjectCache())
    for ask in (
        lambda: item_page(view, ItemQuery()),
        lambda: item_page(view, ItemQuery(show="failed")),
        lambda: item_page(view, ItemQuery(label="u")),
        lambda: item_page(view, ItemQuery(text="u")),
        lambda: item_detail(view, 1),
        lambda: selected_items(view, "failed"),
    ):
        with pytest.raises(StorageUnavailableError, match="on purpose"):
            ask()
    summary = fork_summary(view, 0.0)
    assert summary["problem"].startswith("Results cannot be read: ")
    assert (summary["items"], summary["failed"], summary["isExact"]) == (6, 3, False)


def test_a_manifest_that_has_changed_leaves_the_results():
    fork = write_fork([StoredChunk(6, [SOME])])
    fork.view.store.write(Pointer("b", "data/users.jsonl"), b"{}\n")
    detail = item_detail(fork.view, 1)
    assert (detail["status"], detail["input"]) == ("failed", None)
    assert "The input cannot be read: " in detail["note"]
    assert "has changed" in detail["note"]


@pytest.mark.parametrize("tries", [[[(0, "main", "o"), (1, "main", "o")]], []])
def test_the_input_of_a_line_after_a_byte_order_mark_is_the_line_alone(tries):
    # A stored offset can be that of the mark, which is not a part of the line.
    fork = write_fork([StoredChunk(2, tries, ends="running")])
    line = json.dumps({"note": "é" * (MAX_VALUE_BYTES // 2)}, ensure_ascii=False).encode()
    for ending in (b"\n", b"\r\n"):
        info = fork.view.store.write(MANIFEST, codecs.BOM_UTF8 + line + ending + b"{}" + ending)
        lines = ManifestRange.whole(info)
        (spec,) = fork.view.plan.chunks
        view = replace(fork.view, plan=replace(fork.view.plan, chunks=(replace(spec, manifest=lines),)))
        assert b"".join(item_value(view, 0, "input")) == line
        detail = item_detail(view, 0)
        assert detail["input"]["$bytes"] == len(line)
        assert detail["line"]["byte"] == len(codecs.BOM_UTF8)
        assert detail["line"]["number"] == 1


@pytest.mark.parametrize("index", [6, 10**12, -1])
def test_an_index_out_of_range_is_not_found(index):
    fork = write_fork([StoredChunk(6, [OK])])
    with pytest.raises(ItemNotFoundError, match="6 items: 0 to 5"):
        item_detail(fork.view, index)
    assert item_page(fork.view, ItemQuery(start=max(index, 6)))["rows"] == []


def test_unknown_branches_parts_and_statuses_are_refused():
    fork = write_fork([StoredChunk(6, [SOME])])
    with pytest.raises(ItemNotFoundError, match="has no branch 'other': main"):
        item_detail(fork.view, 1, "other")
    with pytest.raises(ItemNotFoundError, match="has no output"):
        item_value(fork.view, 1, "output")
    with pytest.raises(InspectionError, match="part must be one of"):
        item_value(fork.view, 1, "secret")
    with pytest.raises(InspectionError, match="show must be one of"):
        download(fork.view, "running")
    with pytest.raises(InspectionError, match="what must be"):
        selected_items(fork.view, "kind")
    for wrong in ({"show": "x"}, {"start": -1}, {"limit": 0}, {"limit": 501}, {"text": "x" * 201}):
        with pytest.raises(InspectionError):
            ItemQuery(**wrong)


def huge(size):
    """Return a fork whose second of three items has a huge output."""
    store = MemoryStore()
    fork = write_fork([StoredChunk(3, [[]], "killed")], store=store)
    folder = fork.view.folder(0)
    values = [b'"a"', b'{"password":"hunter2","text":"' + b"x" * size + b'"}', b'"c"']
    body = b"".join(
        b'{"item":%d,"offset":0,"branch":"main","status":"ok","output":%b}\n' % (item, value)
        for item, value in enumerate(values)
    )
    store.write(PartName(PartKind.RESULTS, 0, 0, 2, 3, "a").pointer(folder), body)
    write_index(store, folder, 3, 0)
    return fork.view, values


def test_a_huge_result_is_cut_and_can_be_streamed_whole():
    view, values = huge(5 << 20)
    assert [row["status"] for row in item_page(view, ItemQuery())["rows"]] == ["ok"] * 3
    detail = item_detail(view, 1)
    assert detail["outputCut"]
    assert detail["output"]["$bytes"] == len(values[1])
    assert detail["output"]["$cut"].startswith('{"password":"***","text":"xxx')
    assert 60_000 < len(detail["output"]["$cut"]) <= 64 << 10
    assert b"".join(item_value(view, 1, "output")) == values[1]
    assert b"".join(download(view)).splitlines()[1].count(b"x") > 5 << 20


def test_no_line_is_held_in_memory_whole():
    line = b'{"item":7,"offset":1,"branch":"b","status":"ok","output":"' + b"x" * 3000 + b'","generation":4}'
    blocks = [line[at : at + 100] for at in range(0, len(line), 100)]
    [raw, other] = scan_lines([*blocks, b"\n{}\n"], 50, keep=500)
    assert (raw.start, raw.length, len(raw.data), len(raw.tail)) == (50, len(line), 500, 64)
    assert (other.start, other.data) == (51 + len(line), b"{}")
    found = find_line(raw, Pointer("b", "k"))
    assert (found.item, found.status, found.generation, found.size) == (7, "ok", 4, 3002)
    assert line[found.start - 50 :].startswith(b'"xxx')


def test_html_and_control_characters_stay_text():
    row = item_row(
        index=0,
        label="<script>\x1b[31m\u202e",
        branch="b",
        status="failed",
        failure=error_row({"errorName": "<b>", "errorMessage": "a\nb\x00\x1b[0m", "errorDetails": 5}),
    )
    assert row["label"] == "<script>\\x1b[31m\\u202e"
    assert row["message"] == "a b\\x00\\x1b[0m"
    assert row["errorName"] == "<b>"


@pytest.mark.parametrize("error", [{}, {"errorName": 5, "errorMessage": None}, {"errorDetails": [1]}])
def test_an_error_of_any_form_is_a_row(error):
    assert error_row(error).kind


def test_a_secret_in_input_and_output_is_masked():
    value, is_cut = shown_value({"apiKey": "s3cret", "n": [{"password": "s3cret"}]})
    assert (value, is_cut) == ({"apiKey": "***", "n": [{"password": "***"}]}, False)
    large = json.dumps({"a": 1, "token": {"x": "s3cret"}, "b": "y" * (2 << 20)}).encode()
    assert cut_value(large, len(large))[0]["$cut"] == '{"a": 1, "token": ***'


def test_results_that_were_handed_on_have_pages_too():
    results = [
        [item, BranchResult(item, 0, "main", BranchStatus.OK, output={"n": item}).to_dict()]
        for item in range(3)
    ]
    results[1][1] = BranchResult(
        1, 0, "main", BranchStatus.FAILED, error={"errorName": "E", "errorMessage": "no"}
    ).to_dict()
    plan = ChunkPlan((ChunkSpec(0, "items 0-2", 0, 3),), 3, "token", 1)
    state = ChunkState("failed", {"number": 0, "items": 3, "results": results})
    view = ForkView("fork", plan, MemoryStore(), None, {0: state}, ("main",), values=lambda: ["a", "b", "c"])
    page = item_page(view, ItemQuery())
    assert [row["status"] for row in page["rows"]] == ["ok", "failed", "ok"]
    assert [row["index"] for row in item_page(view, ItemQuery(show="failed"))["rows"]] == [1]
    assert [row["index"] for row in item_page(view, ItemQuery(text="b"))["rows"]] == [1]
    detail = item_detail(view, 1)
    assert (detail["input"], detail["error"]["errorName"], detail["line"]) == ("b", "E", None)
    assert "offload_location" in detail["traceNote"]
    summary = fork_summary(view, 0.0)
    assert (summary["succeeded"], summary["failed"], summary["stored"]) == (2, 1, False)
    assert len(b"".join(download(view, "failed")).splitlines()) == 1


def test_a_search_for_a_text_stops_and_goes_on():
    fork = write_fork([StoredChunk(6, [OK]) for _ in range(4)])
    found, start, pages = [], 0, 0
    while start is not None:
        page = item_page(fork.view, ItemQuery(text="hello", start=start), Budget(300))
        found += [row["index"] for row in page["rows"]]
        assert page["next"] is None or page["next"] > start
        assert page["next"] is None or f"before item {page['next']}" in page["note"]
        start = page["next"]
        pages += 1
    assert sorted(set(found)) == list(range(24))
    assert pages > 3


def test_failures_beyond_those_that_are_listed_are_said_to_exist():
    fork = write_fork([StoredChunk(6, [SOME])])
    folder = fork.view.folder(0)
    pointer = folder.pointer("index", ending=".json")
    index = json.loads(fork.view.store.read(pointer))
    fork.view.store.write(pointer, json.dumps({**index, "failed": 50_000, "listedFailures": 3}).encode())
    state = replace(fork.view.chunks[0], handed_on={"number": 0, "items": 6, "failed": 50_000}, version="2")
    view = replace(fork.view, chunks={0: state})
    page = item_page(view, ItemQuery(show="failed", limit=2))
    assert (page["total"], len(page["rows"]), page["next"]) == (50_000, 2, 2)
    page = item_page(view, ItemQuery(show="failed", start=2))
    assert (len(page["rows"]), page["next"]) == (1, None)
    assert "The download has all of them." in page["note"]
    assert not selected_items(view, "failed")["isComplete"]


@pytest.mark.parametrize("name", ["index.json", "failures.jsonl", "labels.gz"])
def test_an_object_that_is_broken_is_named(name):
    fork = write_fork([StoredChunk(6, [SOME])])
    pointer = Pointer(RUN.bucket, f"{fork.view.folder(0).prefix}/{name}")
    fork.view.store.write(pointer, b"\x00{")
    show = "all" if name == "labels.gz" else "failed"
    with pytest.raises(StorageError, match=f"{name} of chunk 0"):
        item_page(fork.view, ItemQuery(show=show))


def test_keys_of_an_index_that_lead_elsewhere_are_not_read():
    fork = write_fork([StoredChunk(6, [SOME])])
    pointer = fork.view.folder(0).pointer("index", ending=".json")
    index = json.loads(fork.view.store.read(pointer))
    for part in index["parts"]:
        part["key"] = part["key"].replace("offload/dag/run", "offload/dag/other")
    fork.view.store.write(pointer, json.dumps(index).encode())
    store = FaultyStore(fork.view.store)
    page = item_page(replace(fork.view, store=store), ItemQuery())
    assert {row["status"] for row in page["rows"]} == {"none"}
    assert all("other" not in called.key for _, called in store.calls)


def test_what_is_kept_is_bounded_and_expires():
    now = [0.0]
    cache = ObjectCache(100, lambda: now[0])
    reads = []

    def read(name, size):
        def work():
            reads.append(name)
            return name, size

        return work

    assert cache.get("a", read("a", 20)) == cache.get("a", read("b", 20)) == "a"
    for name in "bcdefg":
        cache.get(name, read(name, 20))
    assert cache.bytes <= 100
    assert not cache.has("a")
    assert cache.get("huge", read("huge", 50)) == "huge"
    assert not cache.has("huge")
    cache.get("soon", read("soon", 1), seconds=2)
    now[0] = 3
    cache.get("soon", read("soon", 1), seconds=2)
    assert reads.count("soon") == 2


def test_a_chunk_that_runs_again_is_not_shown_by_its_old_index():
    fork = write_fork([StoredChunk(6, [SOME, [(1, "main", "o")]], "running")])
    page = item_page(fork.view, ItemQuery(show="failed"))
    assert [row["index"] for row in page["rows"]] == [3, 5]
    assert item_page(fork.view, ItemQuery())["rows"][1]["status"] == "ok"
    assert fork_summary(fork.view, 0.0)["failed"] == 2


def test_a_result_of_a_later_selection_counts():
    fork = write_fork([StoredChunk(6, [OK], "running")])
    line = {"item": 2, "offset": 0, "branch": "main", "status": "failed", "generation": 3, "error": {}}
    pointer = PartName(PartKind.RESULTS, 9, 2, 2, 1, "b").pointer(fork.view.folder(0))
    fork.view.store.write(pointer, msgspec.json.encode(line) + b"\n")
    page = item_page(fork.view, ItemQuery())
    assert [row["status"] for row in page["rows"]] == ["ok", "ok", "failed", "ok", "ok", "ok"]


def test_counts_of_a_running_fork_have_speed_and_time_left():
    fork = write_fork(
        [StoredChunk(6, [OK], counted=False), StoredChunk(6, [OK[:3]], "running", counted=False)]
    )
    states = {number: replace(state, start=100.0) for number, state in fork.view.chunks.items()}
    states[0] = replace(states[0], end=102.0)
    summary = fork_summary(replace(fork.view, chunks=states, is_running=True), 103.0)
    assert summary["isRunning"]
    assert (summary["ended"], summary["isExact"]) == (9, False)
    assert 11 <= summary["items"] <= 13
    assert summary["perSecond"] == 3.0
    assert 0.5 < summary["secondsLeft"] < 1.5
    assert summary["chunks"] == {
        "total": 2,
        "success": 1,
        "failed": 0,
        "running": 1,
        "queued": 0,
        "waiting": 0,
    }


def test_lines_of_running_chunks_are_counted_only_as_far_as_a_page_needs_them():
    fork = write_fork([StoredChunk(6, [OK[:2]], "running", counted=False) for _ in range(40)])
    store = FaultyStore(fork.view.store)
    view = replace(fork.view, store=store)
    page = item_page(view, ItemQuery(limit=5))
    assert [row["index"] for row in page["rows"]] == [0, 1, 2, 3, 4]
    assert [row["status"] for row in page["rows"]] == ["ok", "ok", "running", "running", "running"]
    assert (page["total"] >= 6, page["isExact"], page["next"]) == (True, False, 5)
    counted = [pointer for _, pointer in store.calls if pointer.key == "data/users.jsonl"]
    assert 0 < len(counted) <= 4
    fork_summary(replace(fork.view, store=(other := FaultyStore(fork.view.store)), cache=ObjectCache()), 1.0)
    assert not any(pointer.key == "data/users.jsonl" for _, pointer in other.calls)


def test_failures_that_an_index_does_not_list_are_a_sentence_on_pages_of_failures():
    fork = write_fork([StoredChunk(6, [SOME]), StoredChunk(6, [SOME])])
    store, folder = fork.view.store, fork.view.folder(1)
    index = msgspec.json.decode(store.read(ChunkFile.INDEX.pointer(folder))) | {"listedFailures": 1}
    store.write(ChunkFile.INDEX.pointer(folder), msgspec.json.encode(index))
    failures = ChunkFile.FAILURES.pointer(folder)
    store.write(failures, store.read(failures).splitlines(keepends=True)[0])
    note = "Not all failures of 1 chunk (the first is chunk 1) are listed here."
    for query in (ItemQuery(kind="other"), ItemQuery(show="failed", label="9")):
        assert note in item_page(replace(fork.view, cache=ObjectCache()), query)["note"]
    assert item_page(fork.view, ItemQuery(show="failed", chunk=0))["note"] is None


def test_a_downloaded_line_has_the_values_as_they_were_stored():
    fork = write_fork([StoredChunk(3, [[(0, 'ä"b', "o"), (1, 'ä"b', "f"), (2, 'ä"b', "s")]])], ['ä"b'])
    first, second, third = b"".join(download(fork.view)).splitlines()
    assert first.decode() == (
        '{"itemIndex":0,"label":"u-0000","branch":"ä\\"b","status":"ok",'
        '"output":{"greeting":"hello 0 from ä\\"b"}}'
    )
    assert second.decode().startswith(
        '{"itemIndex":1,"label":"u-0001","branch":"ä\\"b","status":"failed","error":{"errorName":'
    )
    assert third.decode() == '{"itemIndex":2,"label":"u-0002","branch":"ä\\"b","status":"skipped"}'
