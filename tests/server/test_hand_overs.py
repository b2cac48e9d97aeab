"""Events of runs that end: handed over to the run that started them, and to no other."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from airflow_allma.common.wait_keys import hand_over_key, wait_token
from tests.server.conftest import KEY

pytestmark = pytest.mark.airflow

HAND_OVER = hand_over_key(wait_token(KEY))


@pytest.mark.parametrize("encode", [dict, json.dumps])
def test_a_run_hands_its_result_over_to_the_run_that_waits_for_it(tasks, waker, encode):
    parent = tasks.park(KEY)
    child = tasks.park(dag_id="child", state="success", started_by=parent)
    child.push(HAND_OVER, encode({"key": KEY, "payload": {"total": 7}}))
    waker.do_round()
    assert parent.state == "scheduled"
    assert parent.event(KEY)["payload"] == {"total": 7}
    assert parent.event(KEY)["by"] == f"run {child.run_id} of child"
    assert child.xcoms() == {}


def test_a_hand_over_waits_for_a_parent_that_has_not_parked_yet(tasks, waker):
    parent = tasks.park(state="running")
    child = tasks.park(dag_id="child", state="success", started_by=parent)
    child.push(HAND_OVER, {"key": KEY, "payload": {}})
    waker.do_round()
    parent.wait_for(KEY)
    parent.change(state="awaiting_input", updated_at=datetime.now(UTC) - timedelta(minutes=1))
    waker.do_round()
    assert parent.state == "scheduled"


def test_a_run_hands_its_result_over_to_a_run_further_up(tasks, waker):
    first = tasks.park(KEY)
    second = tasks.park(dag_id="child", state="success", started_by=first)
    third = tasks.park(dag_id="grandchild", state="success", started_by=second)
    third.push(HAND_OVER, {"key": KEY, "payload": {}})
    waker.do_round()
    assert first.state == "scheduled"


@pytest.mark.parametrize("how", ["a run that nobody started", "a run of another parent", "its own run"])
def test_a_run_hands_its_result_over_to_no_other_run(tasks, waker, how):
    other = tasks.park() if how == "a run of another parent" else None
    stranger = tasks.park(KEY)
    child = (
        stranger if how == "its own run" else tasks.park(dag_id="child", state="success", started_by=other)
    )
    child.push(HAND_OVER, {"key": KEY, "payload": {"approved": True}})
    waker.do_round()
    assert (stranger.state, stranger.event(KEY)) == ("awaiting_input", None)


def test_the_link_of_a_run_that_a_user_started_does_not_count(tasks, waker, session):
    from airflow.models.dagrun import DagRun

    parent = tasks.park(KEY)
    child = tasks.park(dag_id="child", state="success", started_by=parent)
    session.query(DagRun).filter_by(run_id=child.run_id).update({"run_type": "manual"})
    session.commit()
    child.push(HAND_OVER, {"key": KEY, "payload": {}})
    waker.do_round()
    assert parent.state == "awaiting_input"


def test_many_hand_overs_that_nothing_waits_for_do_not_delay_another(tasks, waker):
    parent = tasks.park(KEY)
    child = tasks.park(dag_id="child", state="success", started_by=parent)
    for number in range(120):
        child.push(hand_over_key(wait_token(f"k{number}")), {"key": f"k{number}", "payload": {}})
    child.push(HAND_OVER, {"key": KEY, "payload": {}})
    waker.do_round()
    assert parent.state == "scheduled"
    assert len(child.xcoms()) == 120


# rows that are not what they should be


@pytest.mark.parametrize("value", [[], {"key": ""}, {"key": KEY, "payload": []}, {"key": 7, "payload": {}}])
def test_a_hand_over_that_is_not_an_event_is_removed_with_a_warning(tasks, waker, caplog, value):
    child = tasks.park(dag_id="child", state="success", started_by=tasks.park(KEY))
    child.push(HAND_OVER, value)
    waker.do_round()
    assert child.xcoms() == {}
    assert f"its XCom {HAND_OVER} is not an event" in caplog.text


def test_a_hand_over_to_a_parent_that_has_ended_is_removed(tasks, waker, caplog):
    parent = tasks.park(KEY)
    parent.change(state="failed")
    child = tasks.park(dag_id="child", state="success", started_by=parent)
    child.push(HAND_OVER, {"key": KEY, "payload": {"pin": "planted-secret"}})
    waker.do_round()
    assert child.xcoms() == {}
    assert "does not wait any more" in caplog.text
    assert "planted-secret" not in caplog.text
