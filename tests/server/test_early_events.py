"""Events that come before anything waits for them: kept, bounded, and delivered later."""

from __future__ import annotations

import time

import pytest

from tests.server.conftest import BODY, KEY, PAYLOAD

pytestmark = pytest.mark.airflow


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
    assert task.event(KEY)["payload"] == PAYLOAD
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
    assert (task.event(KEY)["payload"], early_variables()) == (PAYLOAD, [])


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
