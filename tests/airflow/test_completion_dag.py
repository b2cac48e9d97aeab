"""The Dag of completion actions: what it is, and what its tasks see of a run that has ended."""

from __future__ import annotations

import json

import pytest

from airflow_allma.common.completion_runs import EndedRun, completion_dag_id
from airflow_allma.dag_factory import load_flows
from airflow_allma.storage import LocalStore
from tests.airflow.flows import branch, compose, failing, flow, fork, route

pytestmark = pytest.mark.airflow

ENDED_AT = "2026-03-01T00:10:00+00:00"


def save(paths, **more):
    """Return an action that stores an object of these paths."""
    return {
        "actionType": "DATA_SAVE",
        "executeOnStatus": "ANY",
        "moduleIdentifier": "system/s3-data-saver",
        "customConfig": {
            "destinationS3UriTemplate": "s3://ends/seen.json",
            "contentToSave": paths,
        },
        **more,
    }


LOG = [{"actionType": "LOG_ONLY"}]
VIEW = {
    "status": "$.status",
    "data": "$.currentContextData",
    "error": "$.errorInfo",
    "at": "$.endTime",
    "run": "$.flowExecutionId",
}


@pytest.fixture
def ends(tmp_path, use_store, run_dag):
    """Return a function that runs a flow, then its actions: what they see, their run, the flow's run."""
    store = tmp_path / "store"
    (store / "ends").mkdir(parents=True)
    use_store(LocalStore(store))
    numbers = iter(range(100))

    def run(steps, payload=None, *, actions=None, marked=False, state=None, ended=ENDED_AT, **fields):
        name = f"ending-{tmp_path.name}-{next(numbers)}"
        folder = tmp_path / name
        folder.mkdir()
        (folder / "flow.json").write_text(
            json.dumps(flow(name, steps, onCompletionActions=actions or [save(VIEW)], **fields))
        )
        dags = load_flows(folder)
        first = run_dag(dags[name], payload or {})
        conf = EndedRun(first.run_id, 0, state or first.state, ended, marked).to_conf()
        second = run_dag(dags[completion_dag_id(name)], conf)
        file = store / "ends" / "seen.json"
        return (json.loads(file.read_text()) if file.exists() else None), second, first

    return run


def test_after_success_actions_see_the_final_data(ends):
    steps = {
        "a": compose({"n": "$.initialContextData.n"}, to="z"),
        "z": route(to="end"),
        "end": compose({"last": "$.steps_output.a.n"}),
    }
    seen, ran, _ = ends(steps, {"n": 7})
    assert (ran.state, ran.states("action_0")) == ("success", {-1: "success"})
    assert (seen["status"], seen["at"], "error" in seen) == ("COMPLETED", "2026-03-01T00:10:00.000Z", False)
    assert seen["data"]["steps_output"]["end"] == {"last": 7}
    assert seen["data"]["flow_variables"]["flowExecutionId"] == seen["run"]


def test_after_a_failure_they_see_the_error_and_the_data_before(ends):
    steps = {"a": compose({"n": "$.n"}, to="bad"), "bad": failing()}
    seen, _, first = ends(steps, {"n": 7})
    assert first.state == "failed"
    assert seen["status"] == "FAILED"
    assert seen["error"]["errorDetails"]["failedStepInstanceId"] == "bad"
    assert seen["data"]["steps_output"] == {"a": {"n": 7}}


def test_if_the_first_step_fails_they_see_the_payload(ends):
    seen, _, _ = ends({"bad": failing()}, {"n": 7})
    assert (seen["status"], seen["data"]["n"], seen["data"]["steps_output"]) == ("FAILED", 7, {})


def test_if_the_payload_does_not_fit_they_see_it_as_it_is(ends):
    schema = {"type": "object", "minProperties": 2}
    seen, _, first = ends({"a": compose({})}, {"n": 7}, airflow={"inputSchema": schema})
    assert (first.state, seen["status"], seen["data"]["n"]) == ("failed", "FAILED", 7)


def test_forks_count_by_their_aggregate(ends):
    steps = {
        "a": compose({}, to="f"),
        "f": fork(branch("w"), to="z"),
        "w": compose({"n": "$.currentItem"}),
        "z": compose({}),
    }
    seen, _, _ = ends(steps, {"items": [1, 2]})
    assert seen["data"]["steps_output"]["f"]["aggregatedData"] == [{"n": 1}, {"n": 2}]
    steps["w"] = failing()
    seen, _, first = ends(steps, {"items": [1, 2]})
    assert (first.state, seen["status"]) == ("failed", "FAILED")
    assert seen["error"]["errorDetails"]["failedStepInstanceId"] == "f"


@pytest.mark.parametrize(
    ("arguments", "status", "name"),
    [
        ({"marked": True}, "CANCELLED", "Cancelled"),
        ({"ended": "2999-01-01T00:00:00+00:00"}, "TIMED_OUT", "RunTimeout"),
        ({}, "FAILED", "RunFailed"),
    ],
)
def test_a_run_that_failed_without_an_error_of_a_task_was_ended_from_outside(ends, arguments, status, name):
    seen, _, _ = ends({"a": compose({})}, state="failed", airflow={"runTimeoutSeconds": 60}, **arguments)
    assert (seen["status"], seen["error"]["errorName"]) == (status, name)


def test_an_action_for_another_end_is_skipped_and_failures_fail_only_their_own_task(ends):
    actions = [
        {"actionType": "LOG_ONLY", "executeOnStatus": "FAILED"},
        {"actionType": "LOG_ONLY", "condition": "$.n == 8"},
        {"actionType": "DATA_SAVE", "moduleIdentifier": "system/s3-data-saver"},
        save(VIEW),
    ]
    seen, ran, _ = ends({"a": compose({})}, {"n": 7}, actions=actions)
    states = {task.task_id: task.state for task in ran.tasks}
    assert states == {
        "action_0": "skipped",
        "action_1": "skipped",
        "action_2": "failed",
        "action_3": "success",
    }
    assert seen["status"] == "COMPLETED"


def test_a_completion_dag_inherits_what_its_workers_need(tmp_path):
    options = {
        "pool": "flows",
        "queue": "fast",
        "owner": "ops",
        "executionTimeoutSeconds": 1,
        "tags": ["shop"],
    }
    written = flow("inheriting", {"a": compose({})}, airflow=options, onCompletionActions=LOG)
    (tmp_path / "flow.json").write_text(json.dumps(written))
    dags = load_flows(tmp_path)
    assert list(dags) == ["inheriting", "inheriting.completion"]
    dag = dags["inheriting.completion"]
    assert dag.is_paused_upon_creation is False
    assert dag.tags == {"allma", "shop", "allma-completion"}
    (task,) = dag.tasks
    assert (task.pool, task.queue, task.owner, task.execution_timeout) == ("flows", "fast", "ops", None)
    assert list(load_flows(tmp_path, only="inheriting.completion")) == ["inheriting.completion"]
    assert list(load_flows(tmp_path, only="inheriting")) == ["inheriting"]


def test_a_run_that_somebody_triggers_says_what_to_do(tmp_path, run_dag):
    written = flow("triggered", {"a": compose({})}, onCompletionActions=LOG)
    (tmp_path / "flow.json").write_text(json.dumps(written))
    assert run_dag(load_flows(tmp_path)["triggered.completion"], {"runId": "x"}).state == "failed"


@pytest.mark.parametrize("run_id", ["manual__2026", "x" * 250, "y" * 240])
def test_run_ids_are_unique_per_end_and_short_enough(run_id):
    ids = {EndedRun(run_id, number, "success", ENDED_AT).completion_run_id for number in (0, 1, 12)}
    assert len(ids) == 3
    assert max(map(len, ids)) <= 250
    assert EndedRun.from_conf(EndedRun(run_id, 3, "failed", ENDED_AT, True).to_conf()).number == 3


def test_checkpoints_of_the_main_path_are_told_and_seen_at_the_end(ends):
    def mark(name):
        return {"checkpoint": {"id": name, "label": name.title()}}

    steps = {
        "paid": compose({}, to="f", **mark("paid")),
        "f": {**fork(branch("w"), to="sent"), **mark("packed")},
        "w": compose({}),
        "sent": compose({}, **mark("sent")),
    }
    action = save({"label": "$.reachedCheckpoint.label", "percent": "$.reachedCheckpoint.percent"})
    seen, _, first = ends(steps, {"items": [1]}, actions=[action])
    assert seen == {"label": "Sent", "percent": 100}
    told = {
        (task, index): value["label"]
        for (task, index, key), value in first.xcoms.items()
        if key == "allma_checkpoint"
    }
    assert told == {("paid", -1): "Paid", ("f.items", -1): "Packed", ("sent", -1): "Sent"}
