"""What a rerun will do: which task instances are cleared, which items are selected, and the words for it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from airflow_allma.dag_factory.plan import plan_tasks
from airflow_allma.distributed.item_selection import MAX_SELECTED_ITEMS, ForkSelection
from airflow_allma.flow import Flow
from airflow_allma.operators.xcoms import Key
from airflow_allma.server.rerun_plan import plan_rerun
from airflow_allma.server.rerun_subject import RerunFork, RerunItems, RerunSubject, RerunWhat
from tests.airflow.flows import branch, compose, flow, fork

FAILED = RerunSubject(RerunWhat.FAILED)
KIND = RerunSubject(RerunWhat.KIND, kind="0123456789ab")
ITEM = RerunSubject(RerunWhat.ITEM, index=4711)
PLAN = plan_tasks(
    Flow.model_validate(
        flow(
            "rerun",
            {
                "f": fork(branch("w", "a"), branch("v", "b"), to="y"),
                "w": compose(to="w2"),
                "w2": compose(),
                "v": compose(),
                "y": compose(to="z"),
                "z": compose(),
            },
        )
    )
)
CHUNKS = RerunItems(37, {0: [3], 2: list(range(36))})


def rerun(
    subject: RerunSubject, items: RerunItems, states: dict[int, str | None] | None = None, **more: Any
) -> dict[str, Any]:
    in_chunks = more.pop("in_chunks", True)
    task = "f.chunk" if in_chunks else "f.a.w"
    fields: dict[str, Any] = {
        "dag_id": "rerun",
        "run_id": "manual__2026-11-26T14:00:00+00:00",
        "run_state": "failed",
        "plan": PLAN,
        "fork": "f",
        "states": {
            "f.chunks": {-1: more.pop("chunks_state", "success")},
            task: states or {0: "failed", 1: "success", 2: "failed"},
        },
        "in_chunks": in_chunks,
        "is_stored": True,
        **more,
    }
    return plan_rerun(RerunFork(**fields), subject, items)


def test_the_failed_items_of_chunks_need_no_selection_and_clear_their_chunks():
    plan = rerun(FAILED, CHUNKS)
    assert plan == {
        "items": 37,
        "sentence": "The 37 failed items run again, in 2 chunks. Then f.aggregate joins all results again, "
        "and the 2 tasks after it can run again: y, z.",
        "others": "All good items keep their results.",
        "replaced": None,
        "clear": {
            "dry_run": False,
            "dag_run_id": "manual__2026-11-26T14:00:00+00:00",
            "task_ids": [["f.chunk", 0], ["f.chunk", 2]],
            "only_failed": False,
            "include_downstream": True,
            "reset_dag_runs": True,
            "prevent_running_task": True,
        },
        "selection": None,
        "undo": None,
        "command": "airflow-allma rerun --fork f rerun manual__2026-11-26T14:00:00+00:00",
        "blocked": None,
    }


def test_chunks_that_were_lost_or_tolerate_failures_are_cleared_too():
    plan = rerun(FAILED, CHUNKS, {0: "success", 1: "failed", 2: "success", 3: "upstream_failed"})
    assert plan["clear"]["task_ids"] == [["f.chunk", n] for n in range(4)]
    lost = rerun(FAILED, RerunItems(0), {0: "failed"})
    assert lost["sentence"].startswith("The items without a result run again, in 1 chunk. Then")
    assert lost["blocked"] is None


@pytest.mark.parametrize("subject", [KIND, ITEM])
def test_one_kind_or_item_travels_as_a_selection_that_the_chunks_read(subject):
    items = RerunItems(3, {7: [5, 0], 2: [1]})
    plan = rerun(subject, items)
    assert plan["clear"]["task_ids"] == [["f.chunk", 2], ["f.chunk", 7]]
    selection = plan["selection"]
    assert (selection["method"], selection["path"]) == (
        "POST",
        "dags/rerun/dagRuns/manual__2026-11-26T14%3A00%3A00%2B00%3A00/taskInstances/f.chunks/xcomEntries",
    )
    assert (selection["body"]["key"], selection["body"]["map_index"]) == (Key.RERUN, -1)
    parsed = ForkSelection.parse(selection["body"]["value"])
    assert parsed.chunks == {"7": [0, 5], "2": [1]}
    assert plan["others"] == "All other items of these chunks keep their results, failed ones too."
    expected = {KIND: "The 3 failed items of this kind run again, in 2 chunks.", ITEM: "Item 4711"}
    assert plan["sentence"].startswith(expected[subject])


@pytest.mark.parametrize("last", [None, ForkSelection.of(5, {1: [1]}).encode()])
def test_a_selection_can_be_made_void_if_airflow_refuses_the_clear(last):
    plan = rerun(ITEM, CHUNKS, selection=last)
    written = ForkSelection.parse(plan["selection"]["body"]["value"])
    undo = plan["undo"]
    assert undo["method"] == "PATCH"
    assert undo["path"].endswith("/taskInstances/f.chunks/xcomEntries/allma_rerun")
    assert undo["body"]["map_index"] == -1
    void = ForkSelection.parse(undo["body"]["value"])
    assert (void.chunks, void.generation) == ({}, written.generation + 1)


def test_a_new_selection_replaces_the_last_one_and_a_rerun_of_all_failures_makes_it_void():
    later = int(time.time()) + 1_000
    last = ForkSelection.of(later, {1: [1]}).encode()
    plan = rerun(KIND, CHUNKS, selection=last)
    assert plan["selection"]["method"] == "PATCH"
    assert plan["selection"]["path"].endswith("/taskInstances/f.chunks/xcomEntries/allma_rerun")
    assert ForkSelection.parse(plan["selection"]["body"]["value"]).generation == later + 1
    assert "key" not in plan["selection"]["body"]
    void = rerun(FAILED, CHUNKS, selection=last)["selection"]
    assert rerun(FAILED, CHUNKS, selection=last)["undo"] is None
    assert ForkSelection.parse(void["body"]["value"]).chunks == {}
    damaged = rerun(KIND, CHUNKS, selection={"not": "JSON text"})["selection"]
    assert damaged["method"] == "PATCH"
    assert json.loads(damaged["body"]["value"])["generation"] > 1_700_000_000


@pytest.mark.parametrize(
    "items",
    [
        RerunItems(20_000, {0: [1], 1: [2]}, is_complete=False),
        RerunItems(10_001, {0: list(range(MAX_SELECTED_ITEMS)), 1: [2]}),
    ],
)
def test_more_items_than_a_selection_can_name_rerun_as_the_failures_of_their_chunks(items):
    plan = rerun(KIND, items)
    assert plan["selection"] is None
    assert plan["sentence"].startswith(
        "These are more than 10,000 items, so all failed items of 2 chunks run again. Then f.aggregate"
    )
    assert plan["others"] == "All good items keep their results."


def test_items_that_are_not_all_listed_rerun_as_the_failures_of_their_chunks():
    plan = rerun(KIND, RerunItems(20, {0: [1]}, is_complete=False))
    assert plan["sentence"].startswith("Not all are listed, so all failed items of 1 chunk run again.")


@pytest.mark.parametrize("subject", [FAILED, KIND, ITEM])
def test_without_stored_results_whole_chunks_rerun_and_the_plan_says_so(subject):
    plan = rerun(subject, CHUNKS, is_stored=False, chunk_items={0: 50, 1: 50, 2: 1_000})
    assert (plan["items"], plan["selection"]) == (1_050, None)
    assert plan["sentence"].startswith("All items of 2 chunks run again: 1,050 items, good ones too. Then")
    assert "[allma] offload_location" in plan["others"]


@pytest.mark.parametrize("subject", [FAILED, KIND, ITEM])
def test_of_chunks_whose_results_were_deleted_all_items_rerun_and_the_plan_says_so(subject):
    sizes = {0: 50, 1: 50, 2: 1_000}
    plan = rerun(subject, RerunItems(37, CHUNKS.chunks, lost=[0, 2]), chunk_items=sizes)
    assert plan["items"] == 1_050
    assert plan["sentence"].startswith(
        "Results of 2 chunks are gone: they were deleted, or never stored. All items of 2 chunks run again: "
        "1,050 items, good ones too. Then"
    )
    assert plan["others"] == "Good items of chunks whose results are still stored keep them."
    assert plan["clear"]["task_ids"] == [["f.chunk", 0], ["f.chunk", 2]]
    unread = rerun(subject, RerunItems(7, {0: [], 2: []}, is_complete=False, lost=[0, 2]), chunk_items=sizes)
    assert (unread["items"], unread["blocked"]) == (1_050, None)
    assert unread["clear"]["task_ids"] == plan["clear"]["task_ids"]


def test_where_some_results_were_deleted_the_failed_items_of_other_chunks_rerun():
    items = RerunItems(37, CHUNKS.chunks, lost=[0])
    plan = rerun(KIND, items, chunk_items={0: 50, 2: 1_000})
    assert plan["items"] == 86
    assert "Of 1 other chunk the failed items of this kind run again. Then" in plan["sentence"]
    assert set(ForkSelection.parse(plan["selection"]["body"]["value"]).chunks) == {"2"}


def test_items_that_are_task_instances_are_cleared_where_their_branch_begins():
    plan = rerun(FAILED, RerunItems(2, branches={0: [9, 4], 1: [4]}), in_chunks=False)
    assert plan["clear"]["task_ids"] == [["f.a.w", 4], ["f.a.w", 9], ["f.b.v", 4]]
    assert (plan["selection"], plan["items"]) == (None, 2)
    assert plan["sentence"].startswith("The 2 failed items run again in the branches that failed. Then f.agg")
    assert plan["others"] == "All other items keep their results."
    kind = rerun(KIND, RerunItems(1, branches={1: [4]}), in_chunks=False)
    expected = "The 1 failed item of this kind runs again in the branches that failed in this way. Then"
    assert kind["sentence"].startswith(expected)
    one = rerun(ITEM, RerunItems(1, branches={0: [4711], 1: [4711]}), in_chunks=False)
    assert one["sentence"].startswith("Item 4711 runs again in all 2 branches. Then")
    assert one["command"].startswith("airflow-allma rerun --fork f --index 4711 rerun ")


def test_branches_are_not_mentioned_where_a_fork_in_memory_has_one():
    plan = plan_tasks(Flow.model_validate(flow("one", {"f": fork(branch("w", "a")), "w": compose()})))
    one = rerun(ITEM, RerunItems(1, branches={0: [4711]}), in_chunks=False, plan=plan)
    assert one["sentence"].startswith("Item 4711 runs again. Then")


MADE = 1_764_166_000  # 2025-11-26 14:06:40 UTC
REPLACED = (
    "selected to run again at 2025-11-26 14:06 UTC, and that rerun has not begun: this one replaces it."
)


@pytest.mark.parametrize("subject", [FAILED, KIND, ITEM])
@pytest.mark.parametrize(
    ("selected", "starts", "sentence"),
    [
        (
            {0: [1, 3], 1: [4]},
            {0: MADE - 60.0, 1: MADE - 60.0},
            f"2 other items were {REPLACED}",
        ),
        (
            {1: [4]},
            {},
            f"1 other item was {REPLACED}",
        ),
        ({0: [1], 1: [4]}, {0: MADE + 1.5, 1: MADE + 2.5}, None),
        ({0: [3], 2: [0, 35]}, {0: MADE - 60.0, 2: MADE - 60.0}, None),
        ({}, {0: MADE - 60.0}, None),
    ],
    ids=["two chunks", "never ran", "has run", "the same items", "void"],
)
def test_a_selection_that_no_chunk_has_read_is_said_to_be_replaced(subject, selected, starts, sentence):
    last = ForkSelection.of(MADE, selected).encode()
    plan = rerun(subject, CHUNKS, selection=last, chunk_starts=starts)
    assert plan["replaced"] == sentence


def test_a_rerun_that_cannot_be_done_now_replaces_nothing():
    last = ForkSelection.of(MADE, {1: [4]}).encode()
    assert rerun(KIND, CHUNKS, selection=last, run_state="queued")["replaced"] is None


def test_what_is_not_a_selection_is_replaced_without_a_word():
    assert rerun(KIND, CHUNKS, selection="[]")["replaced"] is None
    assert rerun(KIND, RerunItems(1, branches={0: [1]}), in_chunks=False)["replaced"] is None


@pytest.mark.parametrize(
    ("subject", "items", "more", "sentence"),
    [
        (
            FAILED,
            CHUNKS,
            {"run_state": "running"},
            "The run is running: items can run again when it has ended.",
        ),
        (
            FAILED,
            CHUNKS,
            {"run_state": "queued"},
            "The run is queued: items can run again when it has ended.",
        ),
        (
            FAILED,
            CHUNKS,
            {"states": {0: "failed", 1: "awaiting_input"}},
            "1 task of this fork has not ended yet: items can run again after that.",
        ),
        (
            ITEM,
            CHUNKS,
            {"states": {0: "running", 1: "queued", 2: "success"}},
            "2 tasks of this fork have not ended yet: items can run again after that.",
        ),
        (
            FAILED,
            RerunItems(0),
            {"states": {-1: "upstream_failed"}, "chunks_state": "failed"},
            "Task f.chunks is failed: clear it and its downstream tasks, to run all items.",
        ),
        (FAILED, RerunItems(0), {"states": {0: "success"}}, "No item of this fork has failed."),
        (ITEM, RerunItems(0), {}, "No task has run item 4711, or will."),
        (KIND, RerunItems(0), {}, "No failed item of this fork is of kind 0123456789ab."),
    ],
)
def test_what_cannot_be_done_now_says_only_why(subject, items, more, sentence):
    plan = rerun(subject, items, more.pop("states", None), **more)
    assert plan["blocked"] == sentence
    assert (plan["sentence"], plan["others"], plan["replaced"]) == ("", "", None)


def test_the_command_quotes_what_a_shell_would_read():
    plan = rerun(KIND, CHUNKS, run_id="it's; rm -rf", dag_id="d")
    assert plan["command"] == "airflow-allma rerun --fork f --kind 0123456789ab d 'it'\"'\"'s; rm -rf'"
    assert rerun(FAILED, CHUNKS, dag_id="-x")["command"].startswith("airflow-allma rerun --fork f -- -x ")
    assert "/it%27s%3B%20rm%20-rf/" in plan["selection"]["path"]


def test_many_tasks_downstream_are_counted_and_the_first_are_named():
    steps = {"f": fork(branch("w"), to="s0"), "w": compose()}
    steps |= {f"s{n}": compose(**({"to": f"s{n + 1}"} if n < 7 else {})) for n in range(8)}
    plan = plan_tasks(Flow.model_validate(flow("long", steps)))
    sentence = rerun(FAILED, CHUNKS, plan=plan)["sentence"]
    assert "the 8 tasks after it can run again: s0, s1, s2, s3, s4 and 3 more." in sentence
    plan = plan_tasks(Flow.model_validate(flow("short", {"f": fork(branch("w")), "w": compose()})))
    assert rerun(FAILED, CHUNKS, plan=plan)["sentence"].endswith("Then f.aggregate joins all results again.")
