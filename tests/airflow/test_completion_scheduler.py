"""Completion actions on a real scheduler: a run can end in six ways, and each is told."""

from __future__ import annotations

import pytest

from tests.support.run_ends import WAYS, EndedRuns, Receivers, ending_flows, open_inbox

pytestmark = pytest.mark.scheduler


def test_however_a_run_ends_its_actions_run_and_change_nothing(airflow_client, deploy, moto_endpoint):
    receivers = Receivers(moto_endpoint, "told")
    with open_inbox() as inbox:
        actions = [
            {"actionType": "API_CALL", "apiHttpMethod": "POST", "target": inbox.url},
            {"actionType": "SQS_SEND", "target": receivers.queue},
        ]
        for flow in ending_flows("told", actions):
            deploy(flow)
        runs = EndedRuns(airflow_client, "told")
        assert set(runs.wait_for_actions().values()) == {"success"}
    # Nobody's run has changed by its actions.
    assert runs.states == {way: state for way, (state, _) in WAYS.items()}
    told = [body for bodies in inbox.received.values() for body in bodies]
    assert {body["way"]: body["status"] for body in told} == {
        way: status for way, (_, status) in WAYS.items()
    }
    errors = {body["way"]: body.get("error") for body in told}
    assert errors == {
        "completed": None,
        "failed task": "PermanentStepError",
        "run timeout": "RunTimeout",
        "task marked": "Cancelled",
        "run marked": "Cancelled",
        "worker killed": "TaskLost",
    }
    data = {body["way"]: list(body["data"]) for body in told}
    # On a busy machine its time is over before the first task has ended.
    assert data.pop("run timeout") in ([], ["first"])
    assert data == {way: ["first"] for way in WAYS.keys() - {"run timeout"}}
    assert runs.note("completed").startswith("Checkpoint 1 of 1 (100 %): Begun, 20")
    messages = receivers.messages()
    assert {body["way"] for bodies in messages.values() for body in bodies} == set(WAYS)
    # One id for each action of each run.
    assert len(messages) == len(inbox.received) == len(WAYS)
    assert not messages.keys() & inbox.received.keys()
