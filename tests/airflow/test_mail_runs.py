"""Runs that e-mails start, in the database of the Airflow in this process."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_allma import load_flows
from airflow_allma.engine import Services
from airflow_allma.engine.events import QueueMessage
from airflow_allma.engine.events.mail import MAX_MAIL_BYTES
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.operators.mail_runs import mail_payload
from airflow_allma.storage import LocalStore
from tests.airflow.flows import compose, flow
from tests.engine.test_mail_events import an_email
from tests.support.asset_events import AssetEvents
from tests.support.existing_runs import run_existing, runs_of
from tests.support.folder_loads import load

pytestmark = pytest.mark.airflow

SEEN = {"email": "$.triggeringEmail", "source": "$.initialContextData.triggerSource"}
WATCH = {"sqsQueueUrl": "https://sqs.eu-west-3.amazonaws.com/1/mail"}


def mail_flow(name: str, keyword: str | None = None, **fields: Any) -> dict[str, Any]:
    point = {
        "stepType": "EMAIL_START_POINT",
        "emailAddress": "claims@{{flow_variables.host}}",
        "defaultNextStepInstanceId": "triage",
        **({} if keyword is None else {"keyword": keyword}),
        **fields,
    }
    steps = {"work": compose(SEEN), "mail_in": point, "triage": compose(SEEN)}
    return flow(name, steps, flowVariables={"host": "in.corp.test"}, airflow={"watch": WATCH})


def notification(mail: Any) -> dict[str, Any]:
    receipt = {"recipients": ["claims@in.corp.test"], "action": {"type": "SNS", "encoding": "UTF8"}}
    inner = {"notificationType": "Received", "receipt": receipt, "content": mail.as_string()}
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-3:1:t", "Message": json.dumps(inner)}


@pytest.fixture
def folder(tmp_path, airflow_db):
    """Return a function that writes flows, loads the folder, and stores the Dag of the first."""
    from airflow.utils.session import create_session

    made: list[AssetEvents] = []
    with create_session() as session:

        def load(*flows: dict[str, Any]) -> AssetEvents:
            for one in flows:
                (tmp_path / f"{one['id']}.json").write_text(json.dumps(one))
            # As in a task's process: only the files that the flow needs.
            first = flows[0]["id"]
            made.append(AssetEvents(session, load_flows(tmp_path, only=first)[first]))
            return made[-1]

        yield load
        for one in made:
            one.pause(paused=True)


def test_an_email_starts_a_run_at_its_start_point(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", tmp_path.joinpath("store").as_uri())
    mail = an_email("Policy 4711")
    mail.add_attachment(b"1;2", maintype="text", subtype="csv", filename="a.csv")
    queue = folder(mail_flow("mail-one", triggerMessagePattern=r"Policy (\w+)"))
    queue.receive(notification(mail))
    assert queue.run_all().state == "success"
    (run_id,) = runs_of("mail-one")
    assert run_id == "mail__m-1__mail_in"
    ended = run_existing(queue.dag, run_id)
    assert {task.task_id: task.state for task in ended.tasks} == {
        "work": "skipped",
        "mail_in": "success",
        "triage": "success",
    }
    seen = ended.xcom("triage")
    assert seen["source"] == "EmailTrigger:claims@in.corp.test"
    assert seen["email"]["triggerPattern"] == "4711"
    assert seen["email"]["body"].strip() == "Policy 4711"
    (file,) = seen["email"]["attachments"]
    assert file["filename"] == "a.csv"
    assert file["s3Location"]["key"].endswith("mail-one/mail/m-1/1")


def test_an_email_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "mail").mkdir()
    with (tmp_path / "mail" / "large").open("wb") as file:
        file.truncate(MAX_MAIL_BYTES + 1)
    current: Any = SimpleNamespace(services=Services(store=LocalStore(tmp_path)))
    action = {"type": "S3", "bucketName": "mail", "objectKey": "large"}
    body = {"notificationType": "Received", "receipt": {"action": action}}
    message = QueueMessage.of({"messageId": "m-1", "body": json.dumps(body)})
    with pytest.raises(PermanentStepError, match=f"more than {MAX_MAIL_BYTES} bytes"):
        mail_payload(current, message)


def test_each_email_starts_only_the_flow_whose_keyword_fits(folder):
    queue = folder(mail_flow("mail-a"), mail_flow("mail-b", "CLAIM"))
    queue.receive(
        notification(an_email("a CLAIM")), notification(an_email("a claim")), notification(an_email("CLAIM"))
    )
    assert queue.run_all().state == "success"
    assert list(runs_of("mail-a")) == ["mail__m-2__mail_in"]


def test_other_messages_of_the_queue_are_named(folder):
    queue = folder(mail_flow("mail-c"))
    queue.receive({"n": 1}, notification(an_email("hello")))
    first = queue.run_all()
    assert first.state == "failed"
    error = first.xcom("work", key="allma_error")
    assert "m-1: it is not a notification about an e-mail." in error["errorMessage"]
    assert list(runs_of("mail-c")) == ["mail__m-2__mail_in"]


def text_before(problem):
    """Return the text before the position of a problem in a file of one line."""
    return Path(problem.file).read_text(encoding="utf-8")[: problem.column - 1]


def test_two_flows_cannot_take_the_same_emails(tmp_path):
    for one in (mail_flow("mail-x", "CLAIM"), mail_flow("mail-y", "CLAIM"), mail_flow("mail-z")):
        (tmp_path / f"{one['id']}.json").write_text(json.dumps(one))
    loaded = load(tmp_path)
    assert [source.flow.id for source in loaded.flows] == ["mail-x", "mail-z"]
    (problem,) = (one for one in loaded.problems if one.is_error)
    assert problem.file.endswith("mail-y.json")
    assert problem.path == "$.steps.mail_in.emailAddress"
    assert text_before(problem).endswith('"emailAddress": ')
    assert "start step `mail_in` of flow `mail-x`" in problem.message


def test_a_queue_is_watched_with_one_connection(tmp_path):
    for name, options in (
        ("queue-a", {"watch": WATCH}),
        ("queue-b", {"watch": {**WATCH, "connId": "other"}}),
        ("queue-c", {"watch": {**WATCH, "maxMessages": 1}}),
    ):
        definition = flow(name, {"work": compose(SEEN)}, airflow=options)
        (tmp_path / f"{name}.json").write_text(json.dumps(definition))
    loaded = load(tmp_path)
    assert [source.flow.id for source in loaded.flows] == ["queue-a", "queue-c"]
    (problem,) = (one for one in loaded.problems if one.is_error)
    assert problem.path == "$.airflow.watch"
    assert text_before(problem).endswith('"watch": ')
    assert "the connection of `[allma] aws_conn_id`, this one with `other`" in problem.message


def test_an_email_that_cannot_be_read_harms_only_itself(folder):
    queue = folder(mail_flow("mail-d"))
    broken = {"notificationType": "Received", "receipt": {"action": {"type": "S3"}}}
    stored = {"notificationType": "Received", "receipt": {"action": {"bucketName": "no", "objectKey": "k"}}}
    queue.receive(broken, stored, notification(an_email("hello")))
    first = queue.run_all()
    assert first.state == "failed"
    assert list(runs_of("mail-d")) == ["mail__m-3__mail_in"]
