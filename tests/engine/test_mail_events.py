"""E-mails in the messages of a queue."""

from __future__ import annotations

import base64
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.events import mail as events_mail
from airflow_allma.engine.events.mail import MAX_FILES, find_mail, read_mail, trigger_pattern
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow.mail_address import mail_address
from airflow_allma.flow.mail_routes import MailRoute, find_route

OBJECT = {"eventName": "ObjectCreated:Put", "pointer": {"bucket": "mail", "key": "in/1"}}


def an_email(text="Policy 4711", html=None, to="claims@in.corp.test, b@x.test", **headers):
    mail = EmailMessage()
    mail["From"] = "Ada Lovelace <ada@corp.test>"
    mail["To"] = to
    mail["Subject"] = "Grüße"
    for name, value in headers.items():
        mail[name.replace("_", "-")] = value
    if text is not None:
        mail.set_content(text)
    if html is not None and text is None:
        mail.set_content(html, subtype="html")
    elif html is not None:
        mail.add_alternative(html, subtype="html")
    return mail


def test_an_email_has_the_fields_of_the_language():
    mail = an_email(html="<p>Policy 4711</p>", Cc="c@x.test", Reply_To="r@x.test, Q <q@x.test>")
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="bill.pdf", cid="<one>")
    read = read_mail(mail.as_bytes())
    fields = dict(read.fields)
    headers = {one["key"]: one["value"] for one in fields.pop("headers")}
    assert headers["Subject"] == "Grüße"
    assert fields.pop("htmlBody").strip() == "<p>Policy 4711</p>"
    assert fields.pop("body").strip() == "Policy 4711"
    assert fields == {
        "from": "Ada Lovelace <ada@corp.test>",
        "senderName": "Ada Lovelace",
        "senderFullEmail": "ada@corp.test",
        "senderEmailPrefix": "ada",
        "to": "claims@in.corp.test",
        "cc": ["c@x.test"],
        "replyTo": ["r@x.test", "q@x.test"],
        "subject": "Grüße",
    }
    (file,) = read.files
    assert file.content == b"%PDF"
    assert file.facts == {
        "filename": "bill.pdf",
        "contentType": "application/pdf",
        "size": 4,
        "contentId": "<one>",
        "disposition": "attachment",
    }


def test_the_text_of_an_email_in_html_alone_is_the_text_of_its_page():
    read = read_mail(an_email(text=None, html="<p>Policy <b>4711</b></p>").as_bytes())
    assert read.text.strip() == "Policy 4711"


def test_the_recipient_of_the_envelope_counts_more_than_that_of_the_header():
    raw = an_email().as_bytes()
    assert read_mail(raw, ("hidden@in.corp.test",)).recipient == "hidden@in.corp.test"
    assert read_mail(raw).recipient == "claims@in.corp.test"
    with pytest.raises(PermanentStepError, match="no recipient"):
        read_mail(an_email(to="undisclosed-recipients:;").as_bytes())


@given(st.binary(max_size=400))
def test_no_email_is_too_odd_to_read(raw):
    read = read_mail(b"To: a@b.test\nContent-Type: multipart/mixed; boundary=x\n" + raw, ("a@b.test",))
    read.text.encode()
    str(read.fields).encode()


def test_an_email_can_have_many_attachments_but_not_any_number():
    mail = an_email()
    for _ in range(MAX_FILES):
        mail.add_attachment("x")
    assert len(read_mail(mail.as_bytes()).files) == MAX_FILES
    mail.add_attachment("x")
    with pytest.raises(PermanentStepError, match=f"more than {MAX_FILES} attachments"):
        read_mail(mail.as_bytes())


@pytest.mark.parametrize("encoding", ["BASE64", "UTF8", None])
def test_an_email_in_a_notification_is_found(encoding):
    raw = an_email().as_bytes()
    content = base64.b64encode(raw).decode() if encoding == "BASE64" else raw.decode()
    receipt = {"recipients": ["a@b.test", 7], "action": {"type": "SNS", "encoding": encoding}}
    found = find_mail({"notificationType": "Received", "receipt": receipt, "content": content}, ())
    assert (found.recipients, found.content) == (("a@b.test",), raw)


def test_an_email_in_an_object_is_found():
    action = {"type": "S3", "bucketName": "mail", "objectKey": "in/1"}
    by_ses = find_mail({"notificationType": "Received", "receipt": {"action": action}}, ())
    by_s3 = find_mail({"Records": []}, (OBJECT,))
    assert by_ses.pointer.uri == by_s3.pointer.uri == "s3://mail/in/1"


@pytest.mark.parametrize("body", [{"n": 1}, "text", None, {"notificationType": "Bounce"}])
def test_other_messages_are_not_about_emails(body):
    assert find_mail(body, ()) is None
    assert find_mail(body, ({"eventName": "ObjectRemoved:Delete"},)) is None


@pytest.mark.parametrize(
    ("body", "objects", "reason"),
    [
        ({"notificationType": "Received"}, (), "has no e-mail"),
        (
            {"notificationType": "Received", "content": "§", "receipt": {"action": {"encoding": "BASE64"}}},
            (),
            "not Base64",
        ),
        ({}, (OBJECT, OBJECT), "several objects"),
    ],
)
def test_a_notification_without_an_email_is_an_error(body, objects, reason):
    with pytest.raises(PermanentStepError, match=reason):
        find_mail(body, objects)


ROUTES = [
    MailRoute("a", "default", "in@x.test", None, None),
    MailRoute("b", "claim", "in@x.test", "CLAIM", None),
    MailRoute("c", "bill", "in@x.test", "BILL", None),
    MailRoute("d", "other", "other@x.test", "CLAIM", None),
]


@pytest.mark.parametrize(
    ("recipient", "text", "step"),
    [
        ("in@x.test", "a CLAIM", "claim"),
        ("IN@X.test", "a CLAIM and a BILL", "bill"),
        ("in@x.test", "a claim", "default"),
        ("other@x.test", "a claim", None),
        ("nobody@x.test", "a CLAIM", None),
    ],
)
def test_an_email_goes_to_its_address_then_to_its_first_keyword_then_to_the_default(recipient, text, step):
    for routes in (ROUTES, ROUTES[::-1]):
        route = find_route(routes, recipient, text)
        assert (route and route.step_id) == step


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        (r"Policy (\w+)", "4711"),
        (r"Policy (?<no>\d+)", "4711"),
        (r"Policy \d+", None),
        (r"Contract (\w+)", None),
        (r"\p{L}(\d)", None),
        (None, None),
    ],
)
def test_the_first_group_of_a_pattern_is_what_it_matches(pattern, matched):
    assert trigger_pattern(pattern, "About Policy 4711 and Policy 4712") == matched


def test_an_address_can_contain_variables_of_the_flow():
    variables = {"stage": "Test", "n": 1}
    assert mail_address("{{flow_variables.stage}}@in.Corp.test", variables) == "test@in.corp.test"
    assert mail_address("{{flow_variables.n}}@in.corp.test", variables) is None
    assert mail_address("{{other}}@in.corp.test", variables) is None


LONG = [
    ("To", "a@b.test, " * 200_000),
    ("Content-Type", "text/plain; " + "a=b; " * 200_000),
    ("Subject", "=?utf-8?q?a" * 10_000),
]


@pytest.mark.parametrize(("name", "value"), LONG, ids=[name for name, _ in LONG])
def test_a_header_that_would_take_minutes_is_refused(name, value):
    with pytest.raises(PermanentStepError, match=f"its header {name} is too long"):
        read_mail(f"{name}: {value}\r\n\r\nhi".encode(), ("in@x.test",))


def test_many_headers_that_would_take_minutes_are_refused(monkeypatch):
    monkeypatch.setattr(events_mail, "_MAX_HEADER_WORK", 10_000_000)
    headers = f"Reply-To: {'a@b.test, ' * 90}\r\n" * 20
    with pytest.raises(PermanentStepError, match="it has too many"):
        read_mail(f"{headers}\r\nhi".encode(), ("in@x.test",))


def test_an_email_to_hundreds_of_people_is_read():
    people = ", ".join(f"Person Number {n} <person{n}@example.test>" for n in range(200))
    assert read_mail(f"To: {people}\r\n\r\nhi".encode()).recipient == "person0@example.test"
