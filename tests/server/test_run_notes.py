"""The last checkpoint, and the failed items of forks, become lines in notes."""

from __future__ import annotations

from urllib.parse import quote_plus

import pytest

from airflow_allma.common.checkpoint_notes import CHECKPOINT_KEY
from airflow_allma.common.fork_notes import FORK_NOTE_KEY, ForkNote

pytestmark = pytest.mark.airflow

REACHED = {"ordinal": 1, "total": 2, "percent": 50, "label": "Paid", "reachedAt": "2026-03-01T08:30:00.000Z"}
LINE = "Checkpoint 1 of 2 (50 %): Paid, 2026-03-01 08:30:00 UTC"


def note_of(session, task):
    session.expire_all()
    return task.instance(session).dag_run.note


def write(session):
    from airflow_allma.server.run_notes import write_run_notes

    return write_run_notes(session)


def test_a_checkpoint_is_written_once_and_its_xcom_removed(tasks, session):
    task = tasks.park("order:1")
    task.push(CHECKPOINT_KEY, REACHED)
    assert write(session) == 0
    assert note_of(session, task) == LINE
    assert CHECKPOINT_KEY not in task.xcoms()


def test_the_next_one_replaces_it_and_what_people_wrote_stays(tasks, session):
    task = tasks.park("order:1")
    task.instance(session).dag_run.note = "Called"
    session.commit()
    task.push(CHECKPOINT_KEY, REACHED)
    write(session)
    task.push(CHECKPOINT_KEY, {**REACHED, "ordinal": 2, "percent": 100, "label": "Sent"})
    write(session)
    assert note_of(session, task) == "Called\nCheckpoint 2 of 2 (100 %): Sent, 2026-03-01 08:30:00 UTC"


@pytest.mark.parametrize("value", [[1], {"ordinal": 1}, "text"])
def test_what_is_no_checkpoint_is_removed(tasks, session, value):
    task = tasks.park("order:1")
    task.push(CHECKPOINT_KEY, value)
    write(session)
    assert note_of(session, task) is None
    assert CHECKPOINT_KEY not in task.xcoms()


FORK = {"fork": "get_users", "items": 5_000, "failed": 52}
COUNTS = "Fork `get_users`: 52 of 5,000 items failed."


def link(task):
    query = f"dag_id={task.dag_id}&run_id={quote_plus(task.run_id)}&allma_fork=get_users"
    return f"[Show them](/allma/ui?{query})"


def test_failed_items_are_in_the_notes_of_the_run_and_of_the_task_with_a_link(tasks, session):
    task = tasks.park("order:1")
    task.push(FORK_NOTE_KEY, FORK)
    assert write(session) == 0
    assert note_of(session, task) == f"{COUNTS} {link(task)}"
    assert task.instance(session).note == f"{COUNTS} {link(task)}"
    assert FORK_NOTE_KEY not in task.xcoms()


def test_a_rerun_replaces_the_line_of_the_same_fork_and_leaves_all_others(tasks, session):
    task = tasks.park("order:1")
    task.instance(session).dag_run.note = "Called"
    task.instance(session).note = "Ask Ada"
    session.commit()
    for key, value in (
        (FORK_NOTE_KEY, FORK),
        (CHECKPOINT_KEY, REACHED),
        (FORK_NOTE_KEY, {**FORK, "fork": "other", "failed": 1}),
        (FORK_NOTE_KEY, {**FORK, "failed": 0}),
    ):
        task.push(key, value)
        write(session)
    lines = note_of(session, task).splitlines()
    assert lines[:3] == ["Called", "Fork `get_users`: all 5,000 items succeeded.", LINE]
    assert lines[3].startswith("Fork `other`: 1 of 5,000 items failed. [Show them](")
    assert task.instance(session).note.splitlines()[:2] == ["Ask Ada", lines[1]]


def test_nothing_is_written_where_no_item_failed_before_either(tasks, session):
    task = tasks.park("order:1")
    task.push(FORK_NOTE_KEY, {**FORK, "failed": 0})
    write(session)
    assert note_of(session, task) is None
    assert task.instance(session).note is None
    assert FORK_NOTE_KEY not in task.xcoms()


def test_a_note_without_room_stays_as_people_wrote_it(tasks, session):
    task = tasks.park("order:1")
    task.instance(session).dag_run.note = "x" * 950
    session.commit()
    task.push(FORK_NOTE_KEY, FORK)
    write(session)
    assert note_of(session, task) == "x" * 950
    assert task.instance(session).note.startswith(COUNTS)


@pytest.mark.parametrize("value", [[1], {"fork": "f"}, {"fork": 1, "items": 1, "failed": 1}, "text"])
def test_what_is_no_count_of_a_fork_is_removed(tasks, session, value):
    task = tasks.park("order:1")
    task.push(FORK_NOTE_KEY, value)
    write(session)
    assert note_of(session, task) is None
    assert FORK_NOTE_KEY not in task.xcoms()


def test_the_name_of_a_fork_cannot_end_its_line_or_its_code():
    note = ForkNote("a`b\n[x](javascript:1)", 2, 1)
    line = note.line("https://h/allma/ui")
    assert line == "Fork `a'b\\n[x](javascript:1)`: 1 of 2 items failed. [Show them](https://h/allma/ui)"
    assert note.pattern.search(f"Called\n{line}\nmore").group() == line
