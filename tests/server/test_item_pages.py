"""Items of a fork, in memory and in chunks: pages, one item, whole values, downloads, and reruns."""

from __future__ import annotations

import json
import shutil
from urllib.parse import unquote

import pytest

from tests.airflow.flows import compose, failing, fork, route

pytestmark = pytest.mark.airflow

SECRET = "planted-secret"
ITEMS = [
    {"id": "u-0", "bad": True, "password": SECRET},
    {"id": "u-1<b>", "bad": False, "password": SECRET},
    {"id": "u-2", "bad": True, "password": SECRET},
]
FAILED = [0, 2]
NEW_FILES = {"index.json", "failures.jsonl", "labels.gz", "plan.json"}


def flow(name, *, chunks):
    branch = {"branchId": "b", "stepInstanceId": "check"}
    return {
        "id": name,
        "startStepInstanceId": "fork",
        "steps": {
            "fork": fork(branch, to="last", failOnBranchError=False),
            "check": route(("$.currentItem.bad == true", "break"), to="keep"),
            "break": failing(),
            "keep": compose({"id": "$.currentItem.id", "apiKey": "$.currentItem.password"}),
            "last": compose(),
        },
        "airflow": {"maxInMemoryItems": 1} if chunks else {},
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The runs of this module: they take seconds."""
    return {"folder": tmp_path_factory.mktemp("results")}


@pytest.fixture(params=["memory", "chunks"])
def mode(request):
    """How the items run."""
    return request.param


@pytest.fixture
def fork_path(mode, runs, pages, monkeypatch):
    """Run a fork with failed items once, and return its path below the API."""
    monkeypatch.setenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", runs["folder"].as_uri())
    if mode not in runs:
        name = f"items-{mode}"
        ran = pages.run(flow(name, chunks=mode == "chunks"), {"items": ITEMS})
        runs[mode] = f"/dags/{name}/runs/{ran.run_id}/forks/fork"
    return runs[mode]


def test_items_are_counted_by_how_they_ended(pages, fork_path, mode):
    found = pages.get(fork_path)
    assert {name: found[name] for name in ("mode", "items", "ended", "succeeded", "failed", "isRunning")} == {
        "mode": mode,
        "items": 3,
        "ended": 3,
        "succeeded": 1,
        "failed": 2,
        "isRunning": False,
    }
    (kind,) = found["kinds"]
    assert (kind["count"], kind["first"], kind["step"], kind["share"]) == (2, 0, "break", 1.0)
    assert found["start"] <= found["end"]
    assert found["stored"] is (mode == "chunks")


def test_the_page_of_the_run_has_the_same_counts(pages, fork_path, mode):
    run = pages.get(fork_path.removesuffix("/forks/fork"))
    (summary,) = run["forks"]
    assert (summary["items"], summary["failed"]) == (3, 2)
    assert run["steps"]["fork"]["state"] == "success"
    # The tasks of a branch are skipped where the items run in chunks, which says nothing about its steps.
    assert run["steps"]["keep"]["state"] == {"memory": "success", "chunks": "none"}[mode]
    assert any(node["step"] == "keep" for node in run["picture"]["nodes"])


def test_pages_show_all_or_some_items(pages, fork_path, mode):
    def rows(**query):
        found = pages.get(f"{fork_path}/items", **query)
        return [row["index"] for row in found["rows"]], found["next"]

    kind = pages.get(fork_path)["kinds"][0]["kind"]
    assert rows() == ([0, 1, 2], None)
    assert rows(show="failed") == (FAILED, None)
    assert rows(show="succeeded") == ([1], None)
    assert rows(kind=kind) == (FAILED, None)
    assert rows(kind="nonsense") == ([], None)
    assert rows(label="U-1") == ([1], None)
    if mode == "chunks":
        assert rows(chunk=2) == ([2], None)
    assert rows(show="failed", text="not the URI") == (FAILED, None)
    # Of the successes only the output has this.
    assert rows(text="apikey") == ([1], None)
    assert rows(text='"id": "u-1<b>"') == rows(text='"id":"U-1<b>"') == ([1], None)
    indexes, following = rows(limit=2)
    assert indexes == [0, 1]
    assert rows(limit=2, start=following) == ([2], None)
    indexes, following = rows(show="failed", limit=1)
    assert indexes == [0]
    assert rows(show="failed", limit=1, start=following)[0] == [2]


def test_a_row_says_how_the_item_failed(pages, fork_path):
    row = pages.get(f"{fork_path}/items", show="failed", start=1)["rows"][0]
    assert (row["index"], row["label"], row["branch"], row["status"], row["step"], row["errorName"]) == (
        2,
        "u-2",
        "b",
        "failed",
        "break",
        "PermanentStepError",
    )
    assert "not the URI" in row["message"]


def test_an_item_shows_its_input_error_and_task(pages, fork_path, mode):
    found = pages.get(f"{fork_path}/items/2")
    assert found["input"] == {"id": "u-2", "bad": True, "password": "***"}
    assert found["error"]["errorDetails"]["failedStepInstanceId"] == "break"
    assert (found["label"], found["status"], found["previous"], found["next"]) == ("u-2", "failed", 1, None)
    assert found["branches"] == [{"branch": "b", "status": "failed"}]
    task = {"memory": "fork.b.break", "chunks": "fork.chunk"}[mode]
    assert (found["task"]["taskId"], found["task"]["mapIndex"]) == (task, 2)
    run = unquote(found["task"]["uiUrl"]).removesuffix(f"/tasks/{task}/mapped/2")
    assert run == fork_path.removesuffix("/forks/fork")
    assert found["task"]["logUrl"].startswith(found["task"]["uiUrl"])
    assert [(step["step"], step["next"]) for step in found["trace"]] == [("check", "break"), ("break", None)]
    assert found["traceNote"] is None


def test_an_item_shows_its_output_without_secrets(pages, fork_path):
    found = pages.get(f"{fork_path}/items/1", branch="b")
    assert found["output"] == {"id": "u-1<b>", "apiKey": "***"}
    assert "error" not in found
    assert found["trace"] is None
    assert "Only the steps of failed items are recorded" in found["traceNote"]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/items/3", 404, "no item 3"),
        ("/items/-1", 404, "no item -1"),
        ("/items/x", 422, "integer"),
        ("/items/0?branch=nope", 404, "no branch"),
        ("/items?start=-1", 422, "start"),
        ("/items?limit=501", 422, "limit"),
        ("/items?show=nonsense", 422, "show"),
        ("/items/0/value?part=output", 404, "no output"),
        ("/items/0/value?part=nonsense", 422, "part"),
        ("/rerun?what=kind", 404, "Say which kind"),
        ("/rerun?what=item&index=99", 404, "no item 99"),
        ("/download?show=nonsense", 422, "show"),
    ],
)
def test_what_does_not_exist_is_a_sentence(pages, fork_path, path, status, reason):
    answer = pages.ask(fork_path + path)
    assert (answer.status_code, reason in answer.json()["detail"]) == (status, True), answer.text


def test_values_are_downloaded_whole(pages, fork_path):
    answer = pages.ask(f"{fork_path}/items/0/value", part="input")
    assert answer.json() == ITEMS[0]
    assert answer.headers["content-disposition"] == 'attachment; filename="fork-0-input.json"'
    assert answer.headers["cache-control"] == "private, no-store"


def test_downloads_are_json_lines(pages, fork_path):
    answer = pages.ask(f"{fork_path}/download", show="failed")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [(line["itemIndex"], line["status"], line["branch"]) for line in lines] == [
        (0, "failed", "b"),
        (2, "failed", "b"),
    ]
    everything = [json.loads(line) for line in pages.ask(f"{fork_path}/download").text.splitlines()]
    assert [line["itemIndex"] for line in everything] == [0, 1, 2]
    assert everything[1]["output"]["id"] == "u-1<b>"


def test_a_rerun_says_what_it_will_do(pages, fork_path, mode):
    found = pages.get(f"{fork_path}/rerun", what="failed")
    task = {"memory": "fork.b.check", "chunks": "fork.chunk"}[mode]
    assert found["items"] == 2
    assert found["clear"]["task_ids"] == [[task, 0], [task, 2]]
    assert found["clear"]["dry_run"] is False
    assert found["blocked"] is None
    one = pages.get(f"{fork_path}/rerun", what="item", index=1)
    assert one["items"] == 1
    assert one["clear"]["task_ids"] == [[task, 1]]
    assert (one["selection"] is None) is (mode == "memory")
    kind = pages.get(fork_path)["kinds"][0]["kind"]
    assert pages.get(f"{fork_path}/rerun", what="kind", kind=kind)["items"] == 2


def test_planted_secrets_are_on_no_page(pages, fork_path):
    run = fork_path.removesuffix("/forks/fork")
    paths = [run, fork_path, f"{fork_path}/items", f"{fork_path}/items?text=planted", f"{fork_path}/rerun"]
    paths += [f"{fork_path}/items/{index}" for index in range(3)]
    paths += [f"{run}/steps/{step}" for step in ("fork", "check", "break", "keep", "last")]
    paths += [f"{run.partition('/runs/')[0]}/flow"]
    for path in paths:
        answer = pages.ask(path, role="admin")
        assert answer.status_code == 200, path
        assert SECRET not in answer.text, path


@pytest.mark.parametrize("mode", ["chunks"], indirect=True)
def test_results_that_are_gone_are_a_sentence(pages, fork_path, runs):
    kept = runs["folder"].with_name("kept")
    runs["folder"].rename(kept)
    try:
        summary = pages.get(fork_path)
        assert "not in the offload location any more" in summary["problem"]
        assert summary["failed"] == 2
        assert pages.ask(f"{fork_path}/items").status_code == 200
        item = pages.ask(f"{fork_path}/items/1")
        assert item.status_code in {200, 404}
        assert item.json().get("detail") or item.json()["message"]
        plan = pages.get(f"{fork_path}/rerun", what="failed")
        assert plan["sentence"].startswith("Results of 2 chunks are gone"), plan
        for show in ("all", "failed", "succeeded"):
            answer = pages.ask(f"{fork_path}/download", show=show)
            assert answer.status_code == 404
            assert "they were deleted, or never stored" in answer.json()["detail"]
    finally:
        shutil.rmtree(runs["folder"], ignore_errors=True)
        kept.rename(runs["folder"])


@pytest.mark.parametrize("mode", ["chunks"], indirect=True)
def test_a_store_that_does_not_answer_is_a_sentence_and_the_run_is_shown(pages, fork_path, monkeypatch):
    from airflow_allma.exceptions import StorageUnavailableError
    from airflow_allma.storage.local import LocalStore

    def fail(*args, **kwargs):
        raise StorageUnavailableError("S3 did not answer.")

    for name in ("read", "list", "stream", "head", "read_versioned"):
        if hasattr(LocalStore, name):
            monkeypatch.setattr(LocalStore, name, fail)
    summary = pages.get(fork_path)
    assert "S3 did not answer" in summary["problem"]
    assert (summary["items"], summary["failed"]) == (3, 2)
    assert pages.get(fork_path.removesuffix("/forks/fork"))["forks"][0]["failed"] == 2
    answer = pages.ask(f"{fork_path}/items/0")
    assert answer.status_code in {200, 503}
    assert "S3 did not answer" in answer.text
    assert pages.ask(f"{fork_path}/items/0/value", part="error").status_code == 503


@pytest.mark.parametrize("mode", ["chunks"], indirect=True)
def test_runs_from_before_there_was_an_index_are_shown(pages, fork_path, runs):
    removed = [
        file
        for file in runs["folder"].rglob("*")
        if file.is_file() and (file.name in NEW_FILES or "traces" in file.parts)
    ]
    kept = {file: file.read_bytes() for file in removed}
    assert {file.name for file in removed} >= {"index.json", "failures.jsonl", "plan.json"}
    for file in removed:
        file.unlink()
    try:
        summary = pages.get(fork_path)
        assert (summary["items"], summary["failed"], summary["problem"]) == (3, 2, None)
        assert [row["index"] for row in pages.get(f"{fork_path}/items", show="failed")["rows"]] == FAILED
        item = pages.get(f"{fork_path}/items/2")
        assert item["error"]["errorName"] == "PermanentStepError"
        assert item["trace"] is None
        assert item["traceNote"]
    finally:
        for file, content in kept.items():
            file.write_bytes(content)


@pytest.mark.parametrize("mode", ["chunks"], indirect=True)
def test_a_plan_that_somebody_changed_is_a_sentence(pages, fork_path):
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = select(XComModel).where(
        XComModel.dag_id == "items-chunks", XComModel.task_id == "fork.chunks", XComModel.key == "allma_plan"
    )
    with create_session() as session:
        row = session.scalar(query)
        before, row.value = row.value, '{"chunks": 7}'
    try:
        assert pages.ask(fork_path).status_code == 404
        (summary,) = pages.get(fork_path.removesuffix("/forks/fork"))["forks"]
        assert "cannot be read" in summary["problem"]
    finally:
        with create_session() as session:
            session.scalar(query).value = before


@pytest.mark.parametrize("mode", ["chunks"], indirect=True)
def test_chunks_that_run_or_were_killed_are_shown(pages, fork_path):
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete, update

    chunk = (TaskInstance.dag_id == "items-chunks", TaskInstance.task_id == "fork.chunk")
    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.dag_id == "items-chunks").values(state="running"))
        session.execute(
            update(TaskInstance).where(*chunk, TaskInstance.map_index == 1).values(state="failed")
        )
        session.execute(
            update(TaskInstance)
            .where(*chunk, TaskInstance.map_index == 2)
            .values(state="running", end_date=None)
        )
        session.execute(
            delete(XComModel).where(
                XComModel.dag_id == "items-chunks",
                XComModel.task_id == "fork.chunk",
                XComModel.map_index.in_([1, 2]),
            )
        )
    summary = pages.get(fork_path)
    assert summary["isRunning"] is True
    assert summary["chunks"] == {
        "total": 3,
        "success": 1,
        "failed": 1,
        "running": 1,
        "queued": 0,
        "waiting": 0,
    }
    assert pages.get(f"{fork_path}/rerun")["blocked"]
    assert len(pages.get(f"{fork_path}/items")["rows"]) == 3
