"""The last checkpoint becomes a line in the note of the run."""

from __future__ import annotations

import pytest

from airflow_allma.common.checkpoint_notes import CHECKPOINT_KEY

pytestmark = pytest.mark.airflow

REACHED = {"ordinal": 1, "total": 2, "percent": 50, "label": "Paid", "reachedAt": "2026-03-01T08:30:00.000Z"}
LINE = "Checkpoint 1 of 2 (50 %): Paid, 2026-03-01 08:30:00 UTC"


def note_of(session, task):
    session.expire_all()
    return task.instance(session).dag_run.note


def write(session):
    from airflow_allma.server.run_notes import write_checkpoint_notes

    return write_checkpoint_notes(session)


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
