"""Pages, details, downloads and counts agree with a reader that looks at every line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from airflow_allma.exceptions import InspectionError, ItemNotFoundError
from airflow_allma.inspection import (
    ItemQuery,
    download,
    fork_summary,
    item_detail,
    item_page,
    selected_items,
)
from tests.support.stored_forks import StoredChunk, StoredFork, error, label, output, user, write_fork

ENDS = ("index", "index", "summary", "running", "killed")


@st.composite
def forks(draw: st.DrawFn) -> StoredFork:
    branches = draw(st.sampled_from([("main",), ("main",), ("one", "two"), ("a", "b", "c")]))
    chunks = []
    for number_of in range(draw(st.integers(1, 3))):
        items = draw(st.integers(0 if number_of else 1, 8))
        ends = draw(st.sampled_from(ENDS))
        tries = []
        runs = [(item, branch) for item in range(items) for branch in branches]
        for number in range(draw(st.integers(0 if ends in {"running", "killed"} else 1, 3))):
            is_whole = number == 0 and ends in {"index", "summary"}
            ran = runs if is_whole else [run for run in runs if draw(st.booleans())]
            ran = draw(st.permutations(ran))
            tries.append([(*run, draw(st.sampled_from("ooofs"))) for run in ran])
        counted = draw(st.booleans()) or ends in {"running", "killed"}
        chunks.append(StoredChunk(items, tries, ends, draw(st.integers(1, 5)), counted))
    if not all(chunk.counted for chunk in chunks):
        for chunk in chunks:
            chunk.counted = False
    return write_fork(chunks, branches, handed_on=draw(st.booleans()))


def walk(fork: StoredFork, limit: int, **query: Any) -> list[dict[str, Any]]:
    """Return the rows of all pages."""
    rows: list[dict[str, Any]] = []
    start: int | None = 0
    pages = 0
    while start is not None:
        page = item_page(fork.view, ItemQuery(start=start, limit=limit, **query))
        rows += page["rows"]
        start = page["next"]
        pages += 1
        assert pages < 200
    return rows


def keys(rows: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    return [(row["index"], row["branch"], row["status"]) for row in rows]


def expected(fork: StoredFork, *status: str) -> list[tuple[int, str, str]]:
    naive = fork.naive()
    return [
        (index, branch, naive[index][branch].status.value)
        for index in range(fork.items)
        for branch in fork.branches
        if branch in naive.get(index, {}) and (not status or naive[index][branch].status in status)
    ]


@settings(max_examples=25, deadline=None, phases=[Phase.generate])
@given(forks(), st.integers(2, 9))
def test_any_walk_over_any_filter_gives_each_result_once(fork: StoredFork, limit: int):
    every = walk(fork, limit)
    assert [row for row in keys(every) if row[2] in {"ok", "failed", "skipped"}] == expected(fork)
    assert [row["index"] for row in every] == sorted(row["index"] for row in every)
    assert {row["index"] for row in every} == set(range(fork.items))
    assert len({(row["index"], row["branch"]) for row in every}) == len(every)
    assert keys(walk(fork, limit, show="succeeded")) == expected(fork, "ok")
    failed = walk(fork, limit, show="failed")
    assert keys(failed) == expected(fork, "failed")
    kinds = {row["kind"] for row in failed}
    assert len(kinds) <= 2
    by_kind = [keys(walk(fork, limit, kind=kind)) for kind in sorted(kinds)]
    assert sorted(row for rows in by_kind for row in rows) == sorted(keys(failed))
    for branch in fork.branches:
        of_branch = [row for row in expected(fork) if row[1] == branch]
        found = keys(walk(fork, limit, branch=branch))
        assert [row for row in found if row[2] in {"ok", "failed", "skipped"}] == of_branch
        assert keys(walk(fork, limit, branch=branch, show="failed")) == [
            row for row in of_branch if row[2] == "failed"
        ]
    assert keys(walk(fork, limit, show="failed", text="timeout")) == [
        row for row in expected(fork, "failed") if row[0] % 3 == 0
    ]


@settings(max_examples=25, deadline=None, phases=[Phase.generate])
@given(forks(), st.integers(2, 9))
def test_pages_of_a_chunk_have_the_rows_of_all_pages_that_are_in_it(fork: StoredFork, limit: int):
    for query in ({}, {"show": "failed"}, {"show": "succeeded"}, {"label": "1"}, {"text": "hello"}):
        every = walk(fork, limit, **query)
        for chunk in range(len(fork.chunks)):
            of_chunk = [row for row in every if row["chunk"] == chunk]
            assert walk(fork, limit, chunk=chunk, **query) == of_chunk


def test_a_chunk_that_does_not_exist_is_an_error():
    fork = write_fork([StoredChunk(1, [[(0, "main", "o")]], "index", 1, True)], ("main",), handed_on=True)
    with pytest.raises(InspectionError, match="There is no chunk 1: the fork has 1 chunks"):
        item_page(fork.view, ItemQuery(chunk=1))


@settings(max_examples=25, deadline=None, phases=[Phase.generate])
@given(forks(), st.integers(2, 9), st.integers(0, 40))
def test_searches_find_each_item_once(fork: StoredFork, limit: int, number: int):
    naive = fork.naive()
    with_label = [
        fork.firsts[chunk] + item
        for chunk, stored in enumerate(fork.chunks)
        for item in range(stored.items)
        if str(number) in label(fork.firsts[chunk] + item)
        and fork.view.store.list("b", f"{fork.view.folder(chunk).prefix}/labels.gz").__next__
    ]
    rows = walk(fork, limit, label=str(number).upper())
    found = list(dict.fromkeys(row["index"] for row in rows))
    assert set(found) <= set(with_label)
    assert found == sorted(found)
    if all(chunk.ends == "index" for chunk in fork.chunks):
        assert found == with_label
    text = f"hello {number} from"
    rows = walk(fork, limit, text=text.upper())
    assert {row["index"] for row in rows} == {
        index for index, lines in naive.items() if any(text in str(line.value()) for line in lines.values())
    }
    rows = walk(fork, limit, text=f'"note": "{"x" * (number % 7)}"')
    assert {row["index"] for row in rows} == {index for index in range(fork.items) if index % 7 == number % 7}
    rows = walk(fork, limit, text=label(number))
    assert {row["index"] for row in rows} == ({number} if number < fork.items else set())


def test_a_download_of_failures_has_branches_in_their_order():
    ended = [(0, "two", "f"), (0, "one", "f"), (1, "one", "f"), (1, "two", "f")]
    fork = write_fork([StoredChunk(2, [ended], part_results=5)], ("one", "two"))
    saved = [json.loads(line) for line in b"".join(download(fork.view, "failed")).splitlines()]
    assert [(one["itemIndex"], one["branch"], one["status"]) for one in saved] == expected(fork, "failed")


@settings(max_examples=25, deadline=None, phases=[Phase.generate])
@given(forks())
def test_details_downloads_and_counts_agree(fork: StoredFork):
    naive = fork.naive()
    for index in range(fork.items):
        lines = naive.get(index, {})
        detail = item_detail(fork.view, index)
        assert detail["index"] == index
        assert detail["input"] == user(index)
        assert detail["line"]["number"] == index + 1
        for branch, line in lines.items():
            detail = item_detail(fork.view, index, branch)
            assert (detail["branch"], detail["status"]) == (branch, line.status.value)
            if line.is_ok:
                assert detail["output"] == output(index, branch)
            elif line.status == "failed":
                assert detail["error"] == error(index)
                chunk = fork.chunks[detail["chunk"]["number"]]
                if chunk.ends == "index":
                    assert detail["trace"][0]["step"] == "fetch"
            assert detail["trace"] is not None or detail["traceNote"]
            # The pages show notes as plain text.
            assert "`" not in (detail["traceNote"] or "")
    is_stored = any("/results/" in info.pointer.key for info in fork.view.store.list("b"))
    for show, status in (("all", ()), ("failed", ("failed",)), ("succeeded", ("ok",))):
        if not is_stored and any(chunk.ends == "killed" for chunk in fork.chunks):
            with pytest.raises(ItemNotFoundError, match="they were deleted, or never stored"):
                download(fork.view, show)
            continue
        saved = [json.loads(line) for line in b"".join(download(fork.view, show)).splitlines()]
        assert [(one["itemIndex"], one["branch"], one["status"]) for one in saved] == expected(fork, *status)
        for one in saved:
            if one["status"] == "ok":
                assert one["output"] == output(one["itemIndex"], one["branch"])
    summary = fork_summary(fork.view, 0.0)
    assert summary["problem"] is None
    assert summary["failed"] == len(expected(fork, "failed"))
    assert sum(kind["count"] for kind in summary["kinds"]) == summary["failed"]
    if summary["isExact"]:
        assert summary["succeeded"] == len(expected(fork, "ok"))
        assert summary["skipped"] == len(expected(fork, "skipped"))
        assert summary["items"] == summary["ended"] == fork.items
    selected = selected_items(fork.view, "failed")
    assert selected["isComplete"]
    assert {
        (fork.firsts[number] + item) for number, items in selected["chunks"].items() for item in items
    } == {index for index, _, _ in expected(fork, "failed")}
