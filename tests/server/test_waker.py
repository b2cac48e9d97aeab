"""What the waker does: wake tasks when that is safe, refuse second waits, deliver what came early."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from airflow_allma.common.wait_keys import WAKE_KEY, hand_over_key, wait_key, wait_token

pytestmark = pytest.mark.airflow

KEY = "order:4711"
BODY = {"correlationValue": KEY, "payload": {"n": 1}}
SECONDS = timedelta(seconds=1)
HAND_OVER = hand_over_key(wait_token(KEY))


@pytest.fixture
def waker(tasks):
    from airflow_allma.server.waker import Waker

    return Waker()


@pytest.fixture
def resume(client, sign_in):
    def send(body=BODY, role="user"):
        return client.post("/resume", headers=sign_in(role), json=body)

    return send


# when it is safe


@pytest.mark.parametrize(
    ("parked", "beat", "woken"),
    [
        (60 * SECONDS, 0 * SECONDS, True),
        (60 * SECONDS, 20 * SECONDS, True),
        (6 * SECONDS, 0 * SECONDS, True),
        (6 * SECONDS, 2 * SECONDS, False),
        (3 * SECONDS, 0 * SECONDS, False),
        (3 * SECONDS, 29 * SECONDS, False),
    ],
)
def test_a_task_is_woken_when_its_scheduler_was_seen_well_after_it_parked(tasks, waker, parked, beat, woken):
    tasks.scheduler(beat=beat)
    task = tasks.park(KEY, parked=parked)
    task.push(WAKE_KEY, {"arrived": [wait_token(KEY)], "conflict": {}})
    assert waker.do_round() is not woken
    assert task.state == ("scheduled" if woken else "awaiting_input")
    assert (WAKE_KEY in task.xcoms()) is not woken


DEAD = [
    # last heartbeat and state of the scheduler that ran the task, the last heartbeat of another one
    ("killed", (40, "running", 0), True),
    ("stopped", (1, "failed", 0), True),
    ("none is left", (40, "running", None), False),
    ("slow", (8, "running", 0), False),
    ("the other one is slow", (40, "running", 9), False),
]


@pytest.mark.parametrize(("schedulers", "woken"), [case[1:] for case in DEAD], ids=[case[0] for case in DEAD])
def test_a_task_of_a_dead_scheduler_is_woken_when_another_one_runs(tasks, waker, schedulers, woken):
    _remove_schedulers()
    beat, state, other = schedulers
    if other is not None:
        tasks.scheduler(beat=other * SECONDS)
    tasks.scheduler(beat=beat * SECONDS, state=state)
    task = tasks.park(KEY, parked=10 * SECONDS)
    task.push(WAKE_KEY, {"arrived": [wait_token(KEY)], "conflict": {}})
    waker.do_round()
    assert task.state == ("scheduled" if woken else "awaiting_input")


def _remove_schedulers():
    from airflow.jobs.job import Job
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(Job))


def test_a_task_that_nothing_has_arrived_for_is_left_alone(tasks, waker):
    task = tasks.park(KEY)
    assert waker.do_round() is False
    assert task.state == "awaiting_input"


@pytest.mark.parametrize("state", ["queued", "running", "scheduled"])
def test_a_task_is_woken_after_it_has_parked(tasks, waker, state):
    task = tasks.park(KEY, state=state)
    task.push(WAKE_KEY, {"arrived": [wait_token(KEY)], "conflict": {}})
    assert waker.do_round() is True
    assert task.state == state
    task.change(state="awaiting_input", updated_at=datetime.now(UTC) - timedelta(minutes=1))
    assert waker.do_round() is False
    assert task.woken_with["arrived"] == [wait_token(KEY)]


def test_nothing_is_left_of_a_task_that_has_ended(tasks, waker):
    task = tasks.park(KEY, state="success")
    task.push(WAKE_KEY, {"arrived": [wait_token(KEY)], "conflict": {}})
    assert waker.do_round() is False
    assert WAKE_KEY not in task.xcoms()
    assert task.state == "success"


def test_a_wake_that_cannot_be_read_wakes_without_a_reason(tasks, waker):
    task = tasks.park(KEY)
    task.push(WAKE_KEY, ["something", "else"])
    waker.do_round()
    assert task.woken_with == {"arrived": [], "conflict": {}}


# two waits for one key


def test_the_later_of_two_waits_for_a_key_is_refused(tasks, waker):
    first, later = (tasks.park(KEY, "own", parked=timedelta(minutes=minutes)) for minutes in (9, 8))
    third = tasks.park(KEY, dag_id="flow-b", parked=timedelta(minutes=7))
    waker.do_round()
    assert (first.state, later.state, third.state) == ("awaiting_input", "scheduled", "scheduled")
    where = f"run {first.run_id} of flow-a, task wait"
    assert later.woken_with["conflict"] == {wait_token("own"): where, wait_token(KEY): where}
    assert wait_key(wait_token(KEY)) not in later.xcoms()
    assert wait_key(wait_token(KEY)) in first.xcoms()


def test_a_second_wait_is_refused_once(tasks, waker):
    tasks.park(KEY, parked=timedelta(minutes=9))
    later = tasks.park(KEY, "own", parked=timedelta(minutes=8))
    waker.do_round()
    # as a chunk, which parks again for its other keys
    later.change(state="awaiting_input", updated_at=datetime.now(UTC) - timedelta(minutes=1))
    waker.do_round()
    assert later.state == "awaiting_input"


def test_a_second_wait_is_refused_when_it_is_safe_also_by_another_api_server(tasks, waker):
    from airflow_allma.server.waker import Waker

    tasks.park(KEY)
    later = tasks.park(KEY, parked=1 * SECONDS)
    waker.do_round()
    assert later.state == "awaiting_input"
    later.change(updated_at=datetime.now(UTC) - timedelta(minutes=1))
    Waker().do_round()
    assert list(later.woken_with["conflict"]) == [wait_token(KEY)]


@pytest.mark.parametrize("ended", ["delivered", "failed", "run", "late"])
def test_a_wait_that_is_over_is_no_conflict(tasks, waker, resume, ended):
    first = tasks.park(KEY, until=time.time() - 1 if ended == "late" else None)
    if ended == "delivered":
        assert resume().status_code == 202
    elif ended == "failed":
        first.change(state="failed")
    elif ended == "run":
        first.change(run_state="failed")
    later = tasks.park(KEY, parked=timedelta(minutes=5))
    waker.do_round()
    assert later.state == "awaiting_input"


def test_tasks_that_parked_long_ago_are_looked_at_by_the_first_round_only(tasks, waker):
    waker.do_round()
    tasks.park(KEY)
    late = tasks.park(KEY, parked=timedelta(minutes=9))
    waker.do_round()
    assert late.state == "awaiting_input"
    new = tasks.park(KEY, parked=timedelta(seconds=60))
    waker.do_round()
    assert new.state == "scheduled"


# events that come early


def early_variables():
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return list(session.scalars(select(Variable.key)))


def test_an_event_that_nothing_waits_for_is_kept_and_delivered_later(tasks, waker, resume):
    answer = resume()
    assert (answer.status_code, answer.json()) == (202, {"state": "kept", "seconds": 600})
    waker.do_round()
    task = tasks.park(KEY)
    waker.do_round()
    assert task.state == "scheduled"
    assert task.event(KEY)["payload"] == {"n": 1}
    assert task.event(KEY)["by"] == "a-user"
    assert early_variables() == []


def test_a_kept_event_stands_encrypted_in_the_database(tasks, resume, session, monkeypatch):
    from airflow.models.crypto import get_fernet
    from cryptography.fernet import Fernet
    from sqlalchemy import text

    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    get_fernet.cache_clear()
    try:
        resume({"correlationValue": KEY, "payload": {"pin": "planted-secret"}})
    finally:
        get_fernet.cache_clear()
    ((stored, is_encrypted),) = session.execute(text("select val, is_encrypted from variable"))
    assert is_encrypted
    assert "planted-secret" not in stored


def test_a_second_early_event_for_a_key_is_refused(tasks, resume):
    assert resume().status_code == 202
    assert resume().status_code == 409


def test_an_early_event_of_one_sender_does_not_keep_that_of_another_away(tasks, waker, resume, monkeypatch):
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    assert resume({**BODY, "payload": {"n": 0}}, role="op").status_code == 202
    assert resume().status_code == 202
    monkeypatch.setattr(
        SimpleAuthManager, "is_authorized_dag", lambda self, *, user, **_: user.get_name() == "a-user"
    )
    task = tasks.park(KEY)
    waker.do_round()
    assert (task.event(KEY)["payload"], early_variables()) == ({"n": 1}, [])


def test_a_kept_event_is_not_kept_longer_than_said(tasks, waker, resume, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__EARLY_EVENT_SECONDS", "1")
    assert resume().json()["seconds"] == 1
    deadline = time.monotonic() + 30
    while early_variables() and time.monotonic() < deadline:
        waker.do_round()
    assert early_variables() == []
    task = tasks.park(KEY)
    waker.do_round()
    assert task.state == "awaiting_input"


def test_without_a_time_early_events_are_refused(tasks, resume, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__EARLY_EVENT_SECONDS", "0")
    answer = resume()
    assert answer.status_code == 404
    assert "Nothing waits for this correlationValue" in answer.json()["detail"]


def test_who_may_resume_nothing_cannot_have_events_kept(tasks, resume):
    assert resume(role="viewer").status_code == 403
    assert early_variables() == []


def test_rights_are_checked_again_when_a_kept_event_is_delivered(tasks, waker, resume, monkeypatch, caplog):
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    assert resume().status_code == 202
    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", lambda self, **_: False)
    task = tasks.park(KEY)
    waker.do_round()
    assert (task.state, task.event(KEY), early_variables()) == ("awaiting_input", None, [])
    assert "came early was not delivered: You may not resume" in caplog.text


def test_tokens_of_users_are_not_kept(tasks, resume, monkeypatch):
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    claims = {"sub": "a", "role": "user", "access_token": "planted-secret"}
    monkeypatch.setattr(SimpleAuthManager, "serialize_user", lambda self, user: claims)
    assert resume().status_code == 404
    assert early_variables() == []


def test_the_number_of_kept_events_is_limited(tasks, resume, monkeypatch):
    from airflow_allma.server import early_events

    monkeypatch.setattr(early_events, "MAX_EARLY_EVENTS", 2)
    statuses = [resume({"correlationValue": f"k{n}"}).status_code for n in range(3)]
    assert statuses == [202, 202, 429]


def test_a_variable_that_is_not_an_event_is_removed_with_a_warning(tasks, waker, session, caplog):
    from airflow.models.variable import Variable

    session.add(Variable("allma_early_event.x", "planted-secret"))
    session.add(Variable("other", "stays"))
    session.commit()
    waker.do_round()
    assert early_variables() == ["other"]
    assert "allma_early_event.x" in caplog.text
    assert "planted-secret" not in caplog.text


# events of ended runs


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


DEEP = "[" * 100_000


def test_a_row_that_cannot_be_read_does_not_stop_the_others(tasks, waker, session):
    from airflow.models.xcom import XComModel

    good = tasks.park(KEY)
    good.push(WAKE_KEY, {"arrived": [wait_token(KEY)], "conflict": {}})
    bad = tasks.park("x", parked=timedelta(hours=1))
    for key in (WAKE_KEY, "allma_checkpoint", hand_over_key(wait_token("x"))):
        bad.push(key, {})
        session.query(XComModel).filter_by(run_id=bad.run_id, key=key).update({"value": DEEP})
    session.commit()
    waker.do_round()
    assert good.state == "scheduled"
    assert list(bad.xcoms()) == [wait_key(wait_token("x"))]


@pytest.mark.parametrize("times", [{"since": -1.0}, {"until": 1e300}, {"delivered": 1e300}, {"since": 1e12}])
def test_a_wait_at_no_time_is_no_wait(tasks, resume, times):
    task = tasks.park(KEY)
    task.push(wait_key(wait_token(KEY)), {"key": KEY, "step": "s", "since": 1.0, "until": 1.0, **times})
    assert resume().json()["state"] == "kept"


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


# the thread


def test_a_duty_that_fails_does_not_stop_the_others(tasks, caplog):
    from airflow_allma.server.waker import Waker

    done = []

    def fail(*_):
        raise RuntimeError("no database")

    waker = Waker((("do this", fail), ("do that", lambda *_: done.append(1) or 0)))
    waker.do_round()
    waker.do_round()
    assert done == [1, 1]
    assert caplog.text.count("Could not do this") == 1


def test_the_thread_works_until_it_is_stopped(tasks):
    from airflow_allma.server.waker import Waker

    task = tasks.park(KEY)
    task.push(WAKE_KEY, {"arrived": [], "conflict": {}})
    waker = Waker()
    waker.start()
    waker.start()
    deadline = time.monotonic() + 30
    while task.state == "awaiting_input" and time.monotonic() < deadline:
        time.sleep(0.05)
    waker.stop()
    assert task.state == "scheduled"
    assert not waker._thread.is_alive()


def test_wake_reasons_are_json():
    from airflow_allma.server.waking import WakeReasons

    reasons = WakeReasons(["a", "b"])
    reasons.add(WakeReasons(["b", "c"], {"d": "run 1"}))
    assert json.loads(reasons.to_json()) == {"arrived": ["a", "b", "c"], "conflict": {"d": "run 1"}}
    assert WakeReasons.from_json(reasons.to_json()) == reasons
