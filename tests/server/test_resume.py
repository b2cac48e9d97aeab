"""POST /allma/resume: who may resume what, and what is answered."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta

import pytest

from airflow_allma.common.wait_keys import WAKE_KEY, wait_key, wait_token
from tests.server.conftest import BODY, KEY, PAYLOAD

pytestmark = pytest.mark.airflow


def test_an_event_wakes_the_task_that_waits_for_it(tasks, resume):
    task = tasks.park(KEY)
    answer = resume()
    assert (answer.status_code, answer.json()) == (
        202,
        {"state": "delivered", "dagId": "flow-a", "runId": task.run_id, "taskId": "wait", "mapIndex": -1},
    )
    assert task.state == "scheduled"
    assert task.woken_with == {"arrived": [wait_token(KEY)], "conflict": {}}
    event = task.event(KEY)
    assert (event["payload"], event["by"]) == (PAYLOAD, "a-user")
    row = task.xcoms()[wait_key(wait_token(KEY))]
    assert row["delivered"] == pytest.approx(time.time(), abs=60)
    assert WAKE_KEY not in task.xcoms()


def test_a_payload_may_be_left_out(tasks, resume):
    task = tasks.park(KEY)
    assert resume({"correlationValue": KEY}).status_code == 202
    assert task.event(KEY)["payload"] == {}


def test_the_audit_log_says_who_resumed_what_without_the_payload(tasks, resume, session):
    from airflow.models.log import Log
    from sqlalchemy import select

    task = tasks.park(KEY)
    resume({"correlationValue": KEY, "payload": {"pin": "planted-secret"}})
    (line,) = session.scalars(select(Log).where(Log.event == "allma_resume"))
    assert (line.owner, line.dag_id, line.run_id, line.task_id) == ("a-user", "flow-a", task.run_id, "wait")
    assert json.loads(line.extra)["correlationValue"] == KEY
    assert "planted-secret" not in line.extra


def test_payloads_are_not_logged(tasks, resume, caplog):
    tasks.park(KEY)
    with caplog.at_level("DEBUG"):
        resume({"correlationValue": KEY, "payload": {"pin": "planted-secret"}})
        resume({"correlationValue": KEY, "payload": {"pin": "planted-secret"}})
    assert "planted-secret" not in caplog.text


BAD_BODIES = [
    (b"", "not valid JSON"),
    (b"{", "not valid JSON"),
    (b"[]", "must be a JSON object"),
    (b'{"payload": {}}', "correlationValue must be a string"),
    (b'{"correlationValue": ""}', "correlationValue must be a string"),
    (b'{"correlationValue": 7}', "correlationValue must be a string"),
    (b'{"correlationValue": "k", "payload": []}', "payload must be a JSON object"),
    (b'{"correlationValue": "k", "payload": null}', "payload must be a JSON object"),
    (b'{"correlationValue": "k", "paylod": {}}', "Unknown field 'paylod'"),
    (b'{"correlationValue": "k", "payload": {"a": NaN}}', "not valid JSON"),
    (b"\xff\xfe\xfd", "not valid JSON"),
    (b'{"correlationValue": "k", "payload": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001, "not valid JSON"),
]


@pytest.mark.parametrize(("body", "reason"), BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_a_bad_body_is_refused_with_the_reason(client, sign_in, body, reason):
    headers = sign_in("user") | {"Content-Type": "application/json"}
    answer = client.post("/resume", headers=headers, content=body)
    assert answer.status_code == 400
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_accepted_so_that_forms_of_other_sites_are_not(client, sign_in, media_type):
    headers = sign_in("user") | {"Content-Type": media_type}
    answer = client.post("/resume", headers=headers, content=json.dumps(BODY))
    assert answer.status_code == 400
    assert "Content-Type: application/json" in answer.json()["detail"]


def test_a_cookie_does_not_count_on_pages_of_other_sites(tasks, client, sign_in):
    tasks.park(KEY)
    client.cookies.set("_token", sign_in("user")["Authorization"].removeprefix("Bearer "))
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 202)):
        assert client.post("/resume", headers={"Sec-Fetch-Site": site}, json=BODY).status_code == status


def test_nobody_is_401_and_a_forged_token_403(tasks, client):
    task = tasks.park(KEY)
    assert client.post("/resume", json=BODY).status_code == 401
    forged = {"Authorization": "Bearer e30.e30.e30"}
    assert client.post("/resume", json=BODY, headers=forged).status_code == 403
    assert task.state == "awaiting_input"


def test_the_body_of_a_stranger_is_not_read(client):
    assert client.post("/resume", content=b"x" * 10_000_000).status_code == 401


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("user", 202), ("op", 202), ("admin", 202)])
def test_resuming_needs_the_right_to_answer_required_actions(tasks, resume, role, status):
    task = tasks.park(KEY)
    assert resume(role=role).status_code == status
    assert task.state == ("scheduled" if status == 202 else "awaiting_input")


def test_rights_are_those_of_the_dag_that_waits(tasks, resume, monkeypatch):
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    def only_flow_a(self, *, method, user, access_entity=None, details=None):
        return details is not None and details.id == "flow-a"

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", only_flow_a)
    mine, other = tasks.park("mine"), tasks.park("other", dag_id="flow-b")
    assert resume({"correlationValue": "mine"}).status_code == 202
    answer = resume({"correlationValue": "other"})
    assert answer.status_code == 403
    assert "flow-b" not in answer.text
    assert (mine.state, other.state) == ("scheduled", "awaiting_input")


@pytest.mark.parametrize(
    "case",
    [(True, 1024, 202), (True, 1025, 413), (False, 50_000, 413), (True, 50_000, 413)],
)
def test_a_large_payload_is_refused_before_it_is_read(tasks, client, sign_in, monkeypatch, case):
    declared, size, status = case
    monkeypatch.setenv("AIRFLOW__ALLMA__MAX_EVENT_BYTES", "1024")
    task = tasks.park(KEY)
    payload = {"a": "x" * (size - len('{"a":""}'))}
    body = json.dumps({"correlationValue": KEY, "payload": payload}).encode()

    def parts():
        yield from (body[start : start + 1000] for start in range(0, len(body), 1000))

    headers = sign_in("user") | {"Content-Type": "application/json"}
    answer = client.post("/resume", headers=headers, content=body if declared else parts())
    assert answer.status_code == status
    if status == 413:
        assert "1024 bytes" in answer.json()["detail"]
        assert task.state == "awaiting_input"


def test_an_event_is_delivered_once(tasks, resume):
    task = tasks.park(KEY)
    assert resume().status_code == 202
    second = resume({"correlationValue": KEY, "payload": {"approved": False}})
    assert second.status_code == 409
    assert "delivered before" in second.json()["detail"]
    assert task.event(KEY)["payload"] == PAYLOAD


def test_of_two_events_at_once_one_is_delivered(tasks, client, sign_in):
    task = tasks.park(KEY)
    headers, answers = sign_in("user"), []
    barrier = threading.Barrier(4)

    def send(number):
        barrier.wait()
        body = {"correlationValue": KEY, "payload": {"n": number}}
        answers.append((client.post("/resume", headers=headers, json=body).status_code, number))

    threads = [threading.Thread(target=send, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(status for status, _ in answers)
    assert statuses == [202, 409, 409, 409]
    (winner,) = [number for status, number in answers if status == 202]
    assert task.event(KEY)["payload"] == {"n": winner}


def test_an_event_whose_wait_keeps_changing_can_be_sent_again(tasks, session):
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    from airflow_allma.server.delivery import Event, NotDeliveredError, deliver

    task = tasks.park(KEY)
    is_own = task.key.where(XComModel) & (XComModel.key == wait_key(wait_token(KEY)))

    def change(_dag_id):
        row = session.scalar(select(XComModel).where(is_own))
        row.value = json.dumps({**json.loads(row.value), "since": json.loads(row.value)["since"] + 1})
        session.flush()
        return True

    with pytest.raises(NotDeliveredError, match="Send the event again") as refused:
        deliver(session, Event(KEY, PAYLOAD, "somebody"), change)
    # Not 409, which says that the event was delivered before.
    assert refused.value.status == 503
    assert task.event(KEY) is None


@pytest.mark.parametrize("state", ["success", "failed", "skipped"])
def test_an_event_for_a_task_that_has_ended_is_gone(tasks, resume, state):
    tasks.park(KEY).change(state=state)
    answer = resume()
    assert answer.status_code == 410
    assert "does not wait any more" in answer.json()["detail"]


def test_an_event_for_a_run_that_has_ended_is_gone(tasks, resume):
    task = tasks.park(KEY)
    task.change(run_state="failed")
    assert resume().status_code == 410
    assert task.event(KEY) is None


def test_an_event_after_the_deadline_is_gone(tasks, resume):
    task = tasks.park(KEY, until=time.time() - 1)
    answer = resume()
    assert answer.status_code == 410
    assert "The wait ended at" in answer.json()["detail"]
    assert task.event(KEY) is None


@pytest.mark.parametrize("state", [None, "scheduled", "queued", "running", "up_for_retry", "deferred"])
def test_an_event_for_a_task_that_has_not_parked_yet_is_stored_for_it(tasks, resume, state):
    task = tasks.park(KEY)
    task.change(state=state)
    assert resume().status_code == 202
    assert task.state == str(state)
    assert task.event(KEY)["payload"] == PAYLOAD
    assert task.xcoms()[WAKE_KEY] == {"arrived": [wait_token(KEY)], "conflict": {}}


def test_a_task_that_parked_just_now_is_not_woken_by_the_request(tasks, resume):
    task = tasks.park(KEY, parked=timedelta(seconds=1))
    assert resume().status_code == 202
    assert task.state == "awaiting_input"
    assert task.xcoms()[WAKE_KEY]["arrived"] == [wait_token(KEY)]


def test_a_run_that_waits_gets_the_event_although_earlier_runs_had_the_same_key(tasks, resume):
    ended = tasks.park(KEY)
    ended.change(state="success", run_state="success")
    task = tasks.park(KEY)
    assert resume().status_code == 202
    assert (task.state, ended.event(KEY)) == ("scheduled", None)


def test_the_first_of_two_waits_for_a_key_gets_the_event(tasks, resume):
    later = tasks.park(KEY, parked=timedelta(minutes=5))
    first = tasks.park(KEY, parked=timedelta(minutes=6))
    assert resume().status_code == 202
    assert (first.state, later.state) == ("scheduled", "awaiting_input")


@pytest.mark.parametrize("key", ["a/b?c=d", "ä" * 500, " ", "\x00", "'; drop table xcom; --", "%", "[[1]]"])
def test_every_string_is_a_key(tasks, resume, key):
    task, other = tasks.park(key), tasks.park("another")
    assert resume({"correlationValue": key}).status_code == 202
    assert (task.state, other.state) == ("scheduled", "awaiting_input")


def test_a_wait_that_has_ended_does_not_keep_the_event_from_one_that_goes_on(tasks, resume):
    late = tasks.park(KEY, "another", until=time.time() - 1)
    task = tasks.park(KEY, parked=timedelta(minutes=5))
    assert resume().status_code == 202
    assert (late.state, task.state) == ("awaiting_input", "scheduled")


def test_a_chunk_keeps_what_arrives_and_is_woken_for_all_of_it(tasks, resume):
    task = tasks.park("k1", "k2", "k3", map_index=4, parked=timedelta(seconds=1))
    for key in ("k1", "k3"):
        assert resume({"correlationValue": key, "payload": {"key": key}}).status_code == 202
    assert task.xcoms()[WAKE_KEY]["arrived"] == [wait_token("k1"), wait_token("k3")]
    assert [task.event(key) is None for key in ("k1", "k2", "k3")] == [False, True, False]


@pytest.mark.parametrize(("size", "status"), [(225280, 202), (225281, 413)])
def test_the_limit_without_a_setting(tasks, resume, size, status):
    tasks.park(KEY)
    payload = {"a": "x" * (size - len('{"a":""}'))}
    assert resume({"correlationValue": KEY, "payload": payload}).status_code == status


def test_who_may_resume_nothing_does_not_learn_what_waits(tasks, resume):
    tasks.park(KEY)
    answers = [resume({"correlationValue": key}, role="viewer") for key in (KEY, "nobody")]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert answers[0].json() == answers[1].json()
