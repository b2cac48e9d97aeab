"""One step of a run: its task, what is recorded of it, and why nothing is; checkpoints, waits and errors."""

from __future__ import annotations

import json

import pytest

from airflow_allma.common.checkpoint_notes import checkpoint_in, checkpoint_line, note_with
from tests.airflow.flows import compose, failing, fork

pytestmark = pytest.mark.airflow

FLOW = {
    "id": "step-pages",
    "startStepInstanceId": "first",
    "steps": {
        "first": compose({"id": "$.initialContextData.id"}, to="fork"),
        "fork": fork({"branchId": "b", "stepInstanceId": "each"}, to="bad"),
        "each": compose(),
        "bad": failing(to="never"),
        "never": compose(),
    },
}


@pytest.fixture(scope="module")
def runs():
    """The run of this module: it takes seconds."""
    return {}


@pytest.fixture
def run_path(pages, runs):
    """Run the flow once, and return the path of its run."""
    if not runs:
        runs["path"] = f"/dags/step-pages/runs/{pages.run(FLOW, {'id': 7, 'items': [1, 2]}).run_id}"
    return runs["path"]


def change(run_path, change_row, *, task_id=None):
    """Change the run, or one of its task instances."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    model = DagRun if task_id is None else TaskInstance
    query = select(model).where(model.dag_id == "step-pages", model.run_id == run_path.rpartition("/")[2])
    if task_id is not None:
        query = query.where(TaskInstance.task_id == task_id)
    with create_session() as session:
        change_row(session.scalar(query))


def push(run_path, task_id, key, value):
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        XComModel.set(
            key,
            json.dumps(value),
            dag_id="step-pages",
            run_id=run_path.rpartition("/")[2],
            task_id=task_id,
            map_index=-1,
            serialize=False,
            session=session,
        )


def test_a_step_shows_what_its_task_has_recorded(pages, run_path):
    (step,) = pages.get(f"{run_path}/steps/first")["trace"]
    assert (step["step"], step["output"], step["next"]) == ("first", {"id": 7}, "fork")


def test_a_step_shows_its_task_and_what_is_recorded(pages, run_path):
    steps = [{"step": "first", "type": "DATA_TRANSFORMATION", "input": {}, "next": "fork", "tries": 1}]
    trace = {"steps": [*steps, {"step": "other"}]}
    push(run_path, "first", "allma_state", {"nextStep": "fork", "taskTrace": trace})
    found = pages.get(f"{run_path}/steps/first")
    assert (found["step"], found["type"], found["note"]) == ("first", "DATA_TRANSFORMATION", None)
    assert found["trace"] == steps
    task = found["task"]
    assert (task["taskId"], task["mapIndex"], task["state"], task["tries"]) == ("first", -1, "success", 1)
    assert task["logUrl"].endswith("/tasks/first?try_number=1")


def test_a_step_without_a_record_says_why(pages, run_path):
    push(run_path, "bad", "allma_trace", "nonsense")
    notes = {step: pages.get(f"{run_path}/steps/{step}")["note"] for step in ("bad", "never", "each")}
    assert "recorded nothing" in notes["bad"]
    assert "has not reached this step" in notes["never"]
    assert "each item" in notes["each"]
    assert pages.get(f"{run_path}/steps/each", mapIndex=1)["task"]["mapIndex"] == 1
    assert pages.get(f"{run_path}/steps/fork")["task"]["taskId"] == "fork.aggregate"


def test_a_step_that_does_not_exist_is_404(pages, run_path):
    answer = pages.ask(f"{run_path}/steps/a%2Fb")
    assert (answer.status_code, "no step 'a/b'" in answer.json()["detail"]) == (404, True)
    assert pages.ask(f"{run_path}/steps/first", mapIndex="x").status_code == 422


def test_a_failed_run_shows_its_error_and_where(pages, run_path):
    found = pages.get(run_path)
    assert found["state"] == "failed"
    assert found["error"]["errorName"] == "PermanentStepError"
    states = {step: one["state"] for step, one in found["steps"].items()}
    assert states == {
        "first": "success",
        "fork": "success",
        "each": "success",
        "bad": "failed",
        "never": "upstream_failed",
    }
    tasks = found["steps"]["each"]["tasks"]
    assert [(task["taskId"], task["mapIndex"], task["state"]) for task in tasks] == [
        ("fork.b.each", 0, "success"),
        ("fork.b.each", 1, "success"),
    ]


def test_the_last_checkpoint_is_read_from_the_note(pages, run_path):
    reached = {"ordinal": 2, "total": 3, "percent": 67, "label": "Packed, sent"}
    line = checkpoint_line({**reached, "reachedAt": "2026-03-01T08:30:00.000Z"})
    change(run_path, lambda run: setattr(run, "note", note_with("Mine", line)))
    assert pages.get(run_path)["checkpoint"] == {"name": "Packed, sent", "at": 1772353800.0}


@pytest.mark.parametrize(
    "note", [None, "", "Checkpoint 1", "Checkpoint 1 of 2 (50 %): a, 2026-13-01 00:00:00 UTC"]
)
def test_other_notes_have_no_checkpoint(note):
    assert checkpoint_in(note) is None


@pytest.mark.parametrize(
    ("state", "shown"),
    [("running", "running"), ("awaiting_input", "waiting"), ("queued", "queued"), (None, "running")],
)
def test_a_fork_has_the_state_of_what_runs_in_it(pages, run_path, state, shown):
    change(run_path, lambda task: setattr(task, "state", None), task_id="fork.aggregate")
    change(run_path, lambda task: setattr(task, "state", state), task_id="fork.b.each")
    found = pages.get(run_path)["steps"]["fork"]
    assert (found["state"], found["end"]) == (shown, None)


def test_what_waits_is_shown_to_those_who_may_see_it(pages, run_path, monkeypatch):
    import time

    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    from tests.support.parked_tasks import ParkedTask

    task = ParkedTask("step-pages", run_path.rpartition("/")[2], "first")
    change(run_path, lambda run: setattr(run, "state", "running"))
    change(run_path, lambda row: setattr(row, "state", "awaiting_input"), task_id="first")
    task.wait_for("order:1", until=time.time() + 3600, message="Approve?")
    (wait,) = pages.get(run_path)["waits"]
    assert (wait["key"], wait["message"], wait["mayResume"]) == ("order:1", "Approve?", False)

    def without_waits(self, *, access_entity=None, **_):
        return access_entity is not DagAccessEntity.HITL_DETAIL

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", without_waits)
    assert pages.get(run_path)["waits"] == []


def test_the_steps_of_a_branch_are_joined_from_its_tasks():
    from airflow_allma.server.fork_answers import merged_traces

    first = [{"step": "a", "seconds": 1.0, "calls": ["x"]}]
    second = [{"step": "a", "seconds": None, "calls": []}, {"step": "b", "seconds": 2.0, "calls": []}]
    third = [*second[:1], {"step": "b", "seconds": None}, {"step": "a", "seconds": 3.0, "calls": []}]
    assert merged_traces([first, second, third]) == [*first, second[1], third[2]]
    assert merged_traces([second]) == second
    assert merged_traces([]) == []
