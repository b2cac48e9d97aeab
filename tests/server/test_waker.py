"""What the waker does in each round: wake tasks when that is safe, and refuse second waits."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from airflow_allma.common.wait_keys import WAKE_KEY, hand_over_key, wait_key, wait_token
from tests.server.conftest import KEY

pytestmark = pytest.mark.airflow

SECONDS = timedelta(seconds=1)


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
