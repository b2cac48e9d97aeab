from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import suppress

import pytest

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine import EngineSettings
from airflow_allma.engine.secrets import Secrets
from airflow_allma.storage import MemoryStore, Pointer
from tests.support.engine import fork, run
from tests.support.mail_steps import DESK, Connections, body_of, connection, mail_step, send
from tests.support.moto import EndpointClients
from tests.support.s3_faults import answer_with
from tests.support.smtp_server import LOGIN, PASSWORD, running_smtp


@pytest.fixture
def smtp():
    """A running SMTP server without TLS."""
    with running_smtp() as server:
        yield server


def test_an_email_has_html_text_names_reply_addresses_headers_and_attachments(smtp):
    store = MemoryStore()
    store.write(Pointer("docs", "a.pdf"), b"%PDF-1", content_type="application/pdf")
    store.write(Pointer("docs", "b"), b"\0\1")
    payload = {
        "case": {
            "no": 7,
            "docs": [{"filename": "Report ü.pdf", "s3Pointer": {"bucket": "docs", "key": "a.pdf"}}],
        },
        "client": {"mails": ["Ada <ada@corp.example>", "bob@corp.example"]},
        "headers": [{"name": "X-Case", "value": 7}, {"name": "X-Name", "value": "Größe"}],
    }
    ran = send(
        smtp,
        payload,
        store=store,
        fromName="Service Desk ü",
        to="$.client.mails",
        cc='Carol "C, D" <carol@corp.example>, dan@corp.example',
        bcc=["eve@corp.example", "$.missing"],
        replyTo='["reply@corp.example"]',
        subject="Case {{case.no}}: geschlossen - done",
        body='<h1>Closed</h1><p>Case <b>{{case.no}}</b> &amp; more: <a href="https://x.example/7">here</a></p>',
        customHeaders="{{json headers}}",
        attachmentsPath="$.case.docs",
        outputMappings={"$.all": "$", "$.status": "$._meta.status"},
    )
    assert ran.status == "COMPLETED", ran.error
    (mail,) = smtp.mails()
    assert mail["From"] == "Service Desk ü <desk@corp.example>"
    assert mail["To"] == "ada@corp.example, bob@corp.example"
    assert mail["Cc"] == "carol@corp.example, dan@corp.example"
    assert mail["Bcc"] is None
    assert mail["Reply-To"] == "reply@corp.example"
    assert mail["Subject"] == "Case 7: geschlossen - done"
    assert (mail["X-Case"], mail["X-Name"]) == ("7", "Größe")
    assert mail["Message-ID"].endswith("@corp.example>")
    assert body_of(mail, "html").strip() == payload_body()
    assert body_of(mail, "plain").replace("\r", "") == "Closed\n\nCase 7 & more: here (https://x.example/7)\n"
    (attachment,) = mail.iter_attachments()
    assert (attachment.get_filename(), attachment.get_content_type()) == ("Report ü.pdf", "application/pdf")
    assert attachment.get_content() == b"%PDF-1"
    (envelope,) = smtp.envelopes
    assert envelope.mail_from == DESK
    assert envelope.rcpt_tos == [f"{name}@corp.example" for name in ("ada", "bob", "carol", "dan", "eve")]
    assert envelope.original_content.isascii()
    assert ran.context["status"] == "SUCCESS"
    assert ran.context["all"] == {
        "sesMessageId": mail["Message-ID"].strip("<>"),
        "renderedEmail": {
            "from": DESK,
            "fromName": "Service Desk ü",
            "to": ["ada@corp.example", "bob@corp.example"],
            "cc": ["carol@corp.example", "dan@corp.example"],
            "bcc": ["eve@corp.example"],
            "replyTo": ["reply@corp.example"],
            "subject": "Case 7: geschlossen - done",
            "body": payload_body(),
            "customHeaders": [{"name": "X-Case", "value": "7"}, {"name": "X-Name", "value": "Größe"}],
            "attachments": payload["case"]["docs"],
        },
    }
    (line,) = ran.fakes.record("mail").calls.lines()
    assert line.startswith(f"sent: e-mail {ran.context['all']['sesMessageId']} to ada@corp.example, bob@")


def payload_body():
    return '<h1>Closed</h1><p>Case <b>7</b> &amp; more: <a href="https://x.example/7">here</a></p>'


@pytest.fixture
def ses(moto_endpoint):
    clients = EndpointClients(moto_endpoint)
    clients.client("ses").verify_email_identity(EmailAddress=DESK)
    return clients


def test_without_a_connection_ses_sends_the_raw_message(ses):
    store = MemoryStore()
    store.write(Pointer("docs", "a.txt"), b"text", content_type="text/plain")
    ran = run(
        {
            "mail": mail_step(
                attachments=[{"filename": "a.txt", "s3Pointer": "$.file"}], bcc="eve@corp.example", cc=""
            )
        },
        {"file": {"bucket": "docs", "key": "a.txt"}},
        aws=ses,
        store=store,
    )
    assert ran.status == "COMPLETED", ran.error
    assert ran.outputs["mail"]["sesMessageId"]
    assert ran.outputs["mail"]["renderedEmail"]["cc"] == []
    called = [line for line in ran.fakes.record("mail").calls.lines() if "e-mail" in line]
    assert "eve@corp.example" in called[0]


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [
        ("ThrottlingException", 400, "TransientStepError"),
        ("Throttling", 400, "TransientStepError"),
        ("ServiceUnavailable", 503, "TransientStepError"),
        ("InternalFailure", 500, "TransientStepError"),
        ("MessageRejected", 400, "MessageRejected"),
        ("AccessDenied", 403, "AccessDenied"),
    ],
)
def test_errors_of_ses_are_those_of_the_table(code, status, name):
    class Refusing:
        connection = "test connection"

        def client(self, service, region=None, *, retries=True):
            assert (service, retries) == ("ses", False)
            return self

        def send_raw_email(self, **_):
            raise answer_with(code, status)

    ran = run({"mail": mail_step()}, aws=Refusing())
    assert ran.error["errorName"] == name
    assert "test connection" in ran.error["errorMessage"]
    assert DESK in ran.error["errorMessage"]


def test_a_sender_that_is_not_verified_is_permanent(moto_endpoint):
    ran = run(
        {"mail": mail_step(**{"from": "nobody@unverified.example"})}, aws=EndpointClients(moto_endpoint)
    )
    assert ran.error["errorName"] == "MessageRejected"


def test_without_aws_the_error_names_both_ways():
    ran = run({"mail": mail_step()})
    assert "no AWS credentials are configured" in ran.error["errorMessage"]
    assert "`connection`" in ran.error["errorMessage"]


def attached(filename="a", key="k"):
    return {"attachments": [{"filename": filename, "s3Pointer": {"bucket": "docs", "key": key}}]}


MANY = [f"u{n}@corp.example" for n in range(101)]
ROUND = "Ada\r\nBcc: eve@evil.example"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subject": "{{line}}"}, "`subject` .* contains line breaks"),
        ({"subject": "a\n"}, "`subject` .* contains line breaks"),
        ({"subject": "=?utf-8?q?a=0D=0ABcc:_eve@evil.example?="}, "`subject` .* encoded word"),
        ({"subject": "x" * 999}, "longer than 998 characters"),
        ({"subject": "$.client"}, "`subject` must be a string; it is an object"),
        ({"subject": "$.missing"}, "`subject` must be a string; its path finds nothing"),
        ({"subject": "a\u2028b"}, "line breaks"),
        ({"body": "$.missing"}, "`body` must be a string"),
        ({"body": "{{{big}}}"}, "at most 10000000 can be sent"),
        ({"fromName": "{{line}}"}, "`fromName` .* contains line breaks"),
        ({"fromName": "=?utf-8?b?YQ==?="}, "encoded word"),
        ({"to": "{{line}}"}, "`to` .* contains line breaks"),
        ({"to": "=?utf-8?q?a?=@corp.example"}, "`to` .* encoded word"),
        ({"to": "=?utf-8?q?x?= <ada@corp.example>"}, "`to` .* encoded word"),
        ({"to": "ada"}, "`to` 'ada' is not an e-mail address"),
        ({"to": "ada@corp.example bob@corp.example"}, "is not an e-mail address"),
        ({"to": "ada@corp.example>, <bob@corp.example"}, "is not an e-mail address"),
        ({"to": '"a b"@corp.example'}, "is not an e-mail address"),
        ({"to": "ada@-corp.example"}, "is not an e-mail address"),
        ({"to": "ada@corp..example"}, "is not an e-mail address"),
        ({"to": "ä@corp.example"}, "other than ASCII before the '@'"),
        ({"to": ""}, "`to` has no address"),
        ({"to": "$.missing"}, "`to` has no address"),
        ({"to": ["$.missing", ""]}, "`to` has no address"),
        ({"to": "$.client"}, "`to` must be addresses"),
        ({"from": "a@x.example, b@x.example"}, "`from` must be one address; it has 2"),
        ({"from": "$.missing"}, "`from` must be one address; it has 0"),
        ({"replyTo": "no"}, "`replyTo` 'no' is not"),
        ({"to": "$.many"}, "has 101 recipients; at most 100"),
        ({"to": "$.many", "connection": None}, "has 101 recipients; at most 50"),
        ({"customHeaders": "X-A: b"}, "`customHeaders` must be a list"),
        ({"customHeaders": [{"name": "X A", "value": "b"}]}, "not a valid header name"),
        ({"customHeaders": [{"name": "X-A:\r\nBcc", "value": "b"}]}, "not a valid header name"),
        ({"customHeaders": [{"name": "Bcc", "value": "eve@evil.example"}]}, "cannot set 'Bcc'"),
        ({"customHeaders": [{"name": "Content-Type", "value": "text/x"}]}, "cannot set 'Content-Type'"),
        ({"customHeaders": [{"name": "X-A", "value": "{{line}}"}]}, "`customHeaders.X-A` .* line breaks"),
        ({"customHeaders": "$.client"}, "must be a list of {name, value}"),
        ({"customHeaders": "$.many"}, r"`customHeaders` \[0\] must be {name, value}"),
        ({"attachmentsPath": "$.client"}, "must be a list of {filename, s3Pointer}"),
        ({"attachmentsPath": "$.many"}, r"has 101 attachments"),
        (
            {"attachments": [{"filename": "{{line}}", "s3Pointer": {"bucket": "b", "key": "k"}}]},
            "line breaks",
        ),
        (
            {"attachments": [{"filename": "../..", "s3Pointer": {"bucket": "b", "key": "k"}}]},
            "not the name of a file",
        ),
        ({"attachments": [{"filename": "a", "s3Pointer": {"bucket": "b"}}]}, "it has no key"),
        ({"attachments": [{"filename": "a", "s3Pointer": {"bucket": "b", "key": "k"}}]}, "does not exist"),
        ({"attachments": [{"filename": "a", "s3Pointer": {"bucket": "docs", "key": "empty"}}]}, "is empty"),
        (
            {"attachments": [{"filename": "a", "s3Pointer": {"bucket": "docs", "key": "big"}}]},
            "at most 7340032",
        ),
        ({"connection": "nowhere"}, "Connection 'nowhere' does not exist"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_the_call(smtp, fields, message):
    store = MemoryStore()
    store.write(Pointer("docs", "empty"), b"")
    store.write(Pointer("docs", "big"), bytes((7 << 20) + 1))
    payload = {"line": ROUND, "client": {"a": 1}, "many": MANY, "big": "x" * 10_000_001}
    step = {**mail_step(connection="post"), **fields}
    ran = run(
        {"mail": {key: value for key, value in step.items() if value is not None}},
        payload,
        store=store,
        secrets=Secrets(Connections(connection(smtp.port))),
    )
    assert ran.error["errorName"] == "PermanentStepError", ran.error
    with pytest.raises(ValueError, match=message):
        raise ValueError(ran.error["errorMessage"])
    assert smtp.envelopes == []


def test_one_refused_recipient_means_that_nobody_gets_the_email(smtp):
    smtp.refused["bob@corp.example"] = "550 no such user"
    ran = send(smtp, to=["ada@corp.example", "bob@corp.example", "carol@corp.example"])
    assert ran.error["errorName"] == "PermanentStepError"
    assert "refused the recipient bob@corp.example: 550 no such user. Nobody got" in ran.error["errorMessage"]
    assert ran.error["errorDetails"]["refusedRecipients"] == ["bob@corp.example"]
    assert smtp.envelopes == []


def test_a_recipient_that_is_refused_for_now_is_transient(smtp):
    smtp.refused["ada@corp.example"] = "450 try later"
    ran = send(smtp)
    assert ran.error["errorName"] == "TransientStepError"
    assert ran.fakes.record("mail").tries == 5


@pytest.mark.parametrize(
    ("answer", "name"), [("554 looks like spam", "PermanentStepError"), ("451 later", "TransientStepError")]
)
def test_the_answer_to_the_message_decides(smtp, answer, name):
    smtp.answer = answer
    ran = send(smtp)
    assert ran.error["errorName"] == name
    assert f"refused the message: {answer}" in ran.error["errorMessage"]
    assert "post" in ran.error["errorMessage"]


def test_a_connection_that_is_lost_is_transient(smtp):
    smtp.hangs_up = True
    ran = send(smtp)
    assert ran.error["errorName"] == "TransientStepError"
    assert "connection 'post'" in ran.error["errorMessage"]


def test_a_reply_without_end_is_an_error():
    sent = []

    def answer(listening):
        client, _ = listening.accept()
        with client, suppress(OSError):
            while len(sent) < 10_000:
                client.sendall(b"220-still here\r\n" * 100)
                sent.append(100)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        ran = run(
            {"mail": mail_step(connection="post")},
            secrets=Secrets(Connections(connection(listening.getsockname()[1]))),
            settings=EngineSettings(transient_tries=1),
        )
        thread.join()
    assert ran.error["errorName"] == "TransientStepError"
    assert "a reply has more than 100 lines" in ran.error["errorMessage"]
    assert len(sent) < 10_000


def test_a_server_that_cannot_be_reached_is_transient(smtp):
    ran = send(smtp, connections=Connections(connection(1)))
    assert ran.error["errorName"] == "TransientStepError"
    assert "check host, port and TLS" in ran.error["errorMessage"]


@pytest.mark.parametrize(("password", "status"), [(PASSWORD, "COMPLETED"), ("wrong", "FAILED")])
def test_the_connection_has_login_and_password(smtp, password, status):
    ran = send(smtp, connections=Connections(connection(smtp.port, login=LOGIN, password=password)))
    assert ran.status == status
    if status == "FAILED":
        assert ran.error["errorName"] == "PermanentStepError"
        assert "refused the login: 535" in ran.error["errorMessage"]
        assert password not in json.dumps(ran.error)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"extra": {"timeout": "soon"}}, "timeout in the extra"),
        ({"extra": {"auth_type": "oauth2"}}, "auth_type other than 'basic'"),
    ],
)
def test_a_connection_that_cannot_be_used_is_named(smtp, fields, message):
    ran = send(smtp, connections=Connections(connection(smtp.port, **fields)))
    assert ran.error["errorName"] == "PermanentStepError"
    assert message in ran.error["errorMessage"]


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (ConnectionSecret("post", "http", "127.0.0.1"), "is 'http'; an EMAIL step needs one of type 'smtp'"),
        (ConnectionSecret("post", "smtp"), "has no host"),
    ],
)
def test_a_connection_of_another_kind_is_refused(smtp, own, message):
    ran = send(smtp, connections=Connections(own))
    assert message in ran.error["errorMessage"]


def test_no_password_is_sent_without_the_tls_that_the_connection_asks_for(smtp):
    secret = connection(smtp.port, login=LOGIN, password=PASSWORD, extra={"disable_tls": "false"})
    ran = send(smtp, connections=Connections(secret))
    assert ran.error["errorName"] == "PermanentStepError"
    assert "STARTTLS extension not supported by server. Set disable_ssl" in ran.error["errorMessage"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    import subprocess

    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(cert),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


@pytest.mark.parametrize(("check", "status"), [("none", "COMPLETED"), ("default", "FAILED")])
def test_starttls_checks_the_certificate_unless_the_connection_says_not_to(certificate, check, status):
    with running_smtp(tls=certificate) as server:
        secret = connection(server.port, extra={"disable_tls": False, "ssl_context": check})
        ran = send(server, connections=Connections(secret))
    assert ran.status == status
    if status == "FAILED":
        assert ran.error["errorName"] == "PermanentStepError"
        assert "certificate is not trusted" in ran.error["errorMessage"]


def test_a_message_above_the_servers_limit_is_not_sent():
    with running_smtp(max_bytes=2000) as server:
        ran = send(server, body="<p>" + "long " * 1000)
    assert ran.error["errorName"] == "PermanentStepError"
    assert "takes 2000" in ran.error["errorMessage"]


def test_each_item_of_a_fork_gets_its_email(smtp):
    steps = {
        "each": fork("mail", items="$.users", config={"maxConcurrency": 8}),
        "mail": mail_step(connection="post", to="{{currentItem}}", subject="For {{currentItem}}"),
    }
    users = [f"u{n}@corp.example" for n in range(30)]
    ran = run(steps, {"users": users}, secrets=Secrets(Connections(connection(smtp.port))))
    assert ran.status == "COMPLETED", ran.error
    assert sorted(mail["Subject"] for mail in smtp.mails()) == sorted(f"For {user}" for user in users)
