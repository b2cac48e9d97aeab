from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_allma.common.aws_calls import AwsCall, observed
from airflow_allma.engine.http import AiohttpClient, HttpResponse
from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from airflow_allma.engine.outside_calls import NO_CALLS, HttpCall, MailCall, OutsideCalls, describe
from airflow_allma.exceptions import TransientStepError
from airflow_allma.storage import Pointer, S3Store
from tests.support.engine import run
from tests.support.moto import EndpointClients

URL = "https://api.test/a"


def api_step(url=URL, **fields):
    return {"stepType": "API_CALL", "apiHttpMethod": "GET", "apiUrlTemplate": {"template": url}, **fields}


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            HttpCall("GET", "https://u:p@api.test/a?token=t&x=1", 200, 52.4, 0, 12),
            "200 from GET https://***@api.test/a?token=***&x=1 in 52 ms, 0 bytes sent, 12 received",
        ),
        (
            HttpCall("POST", URL, None, 10000.0, 3, 0, "TimeoutError"),
            "TimeoutError from POST https://api.test/a in 10000 ms, 3 bytes sent, 0 received",
        ),
        (
            HttpCall("GET", URL, 200, 1.0, 0, 0, "PermanentStepError"),
            "PermanentStepError after 200 from GET https://api.test/a in 1 ms, 0 bytes sent, 0 received",
        ),
        (
            HttpCall("GET", "https://api.test/\x1b[2J\n", 404, 1.0, 0, 0),
            "404 from GET https://api.test/\\x1b[2J\\n in 1 ms, 0 bytes sent, 0 received",
        ),
        (
            AwsCall("dynamodb", "UpdateItem", "users", "R1", 3.2),
            "done: dynamodb UpdateItem users in 3 ms, request R1",
        ),
        (
            AwsCall("sqs", "SendMessage", "https://sqs.test/1/q", "", 9.0, "ConnectTimeoutError"),
            "ConnectTimeoutError: sqs SendMessage https://sqs.test/1/q in 9 ms",
        ),
        (AwsCall("ses", "SendRawEmail", "", "R2", 9.0), "done: ses SendRawEmail in 9 ms, request R2"),
        (MailCall("<1@x>", ("a@x",), 8.0), "sent: e-mail <1@x> to a@x in 8 ms"),
        (
            MailCall("", tuple(f"{name}@x" for name in "abcdefg"), 8.0, "SMTPRecipientsRefused"),
            "SMTPRecipientsRefused: e-mail to a@x, b@x, c@x, d@x, e@x and 2 more in 8 ms",
        ),
    ],
)
def test_a_call_is_one_masked_line(call, line):
    assert describe(call) == line


def test_a_long_url_is_shortened():
    assert len(describe(HttpCall("GET", "https://api.test/" + "x" * 10_000, 200, 1.0, 0, 0))) < 700


def test_the_last_ten_calls_are_kept_and_all_are_counted():
    calls = OutsideCalls()
    assert (calls.count, list(calls.last), calls.lines()) == (0, [], [])
    for number in range(25):
        calls.add(MailCall(f"m{number}", (), 1.0))
    assert calls.count == 25
    assert [call.message_id for call in calls.last] == [f"m{number}" for number in range(15, 25)]
    assert calls.lines()[0] == "15 earlier calls are not shown"
    assert len(calls.lines()) == 11


def test_threads_can_add_calls_at_once():
    calls = OutsideCalls()
    threads = [
        threading.Thread(target=lambda: [calls.add(MailCall("m", (), 1.0)) for _ in range(500)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls.count == 4000


def test_the_calls_of_steps_that_make_none_stay_empty():
    NO_CALLS.add(MailCall("m", (), 1.0))
    assert NO_CALLS.count == 0


def test_a_record_names_each_try_of_a_request_and_the_output_does_not():
    http = FakeHttpClient().route(
        "GET", URL, HttpResponse(503), TransientStepError("lost"), json_response({"ok": 1})
    )
    done = run({"call": api_step()}, http=http)
    calls = done.fakes.record("call").calls
    assert [(call.method, call.url, call.status, call.error) for call in calls.last] == [
        ("GET", URL, 503, None),
        ("GET", URL, None, "TransientStepError"),
        ("GET", URL, 200, None),
    ]
    assert calls.last[2].bytes_received == len(b'{"ok":1}')
    assert "calls" not in str(done.outputs["call"])


def test_the_record_of_a_failed_step_has_its_calls_and_the_error_does_not():
    http = FakeHttpClient().route("POST", URL, HttpResponse(404, {}, b"no such thing"))
    step = api_step(
        apiHttpMethod="POST", requestBodyTemplate={"a": {"sourceJsonPath": "$.initialContextData.a"}}
    )
    done = run({"call": step}, {"a": "b"}, http=http)
    (call,) = done.fakes.record("call").calls.last
    assert (call.status, call.bytes_sent, call.bytes_received) == (404, len('{"a":"b"}'), 13)
    assert "milliseconds" not in str(done.error)


def test_a_request_without_a_response_is_recorded_with_the_reason():
    async def request():
        calls, client = OutsideCalls(), AiohttpClient()
        from airflow_allma.engine.http_calls import recorded_request

        with pytest.raises(TransientStepError):
            await recorded_request(
                calls, client, "GET", "http://127.0.0.1:1/", headers={}, body=None, timeout=5
            )
        await client.close()
        return calls

    (call,) = asyncio.run(request()).last
    assert (call.status, call.error) == (None, "ClientConnectorError")


def test_steps_that_call_nothing_have_no_calls():
    done = run({"a": {"stepType": "NO_OP"}})
    assert done.fakes.record("a").calls.count == 0


def test_the_calls_of_boto3_clients_are_reported_to_their_own_caller(moto_endpoint):
    clients = EndpointClients(moto_endpoint)
    client = clients.client("dynamodb")
    mine, others = OutsideCalls(), OutsideCalls()

    def missing_table():
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.get_item(TableName="none", Key={"id": {"S": "1"}})

    client.list_tables()
    observed(mine.add, missing_table)
    thread = threading.Thread(target=observed, args=(others.add, client.list_tables))
    thread.start()
    thread.join()
    (call,) = mine.last
    assert (call.service, call.operation, call.resource, call.error) == (
        "dynamodb",
        "GetItem",
        "none",
        "ResourceNotFoundException",
    )
    assert call.request_id
    (other,) = others.last
    assert (other.operation, other.resource, other.error) == ("ListTables", "", None)


def test_an_aws_call_without_a_response_is_reported():
    client = EndpointClients("http://127.0.0.1:1").client("sqs")
    calls = OutsideCalls()

    def send():
        with pytest.raises(Exception, match="connect"):
            client.send_message(QueueUrl="http://127.0.0.1:1/1/q", MessageBody="x")

    observed(calls.add, send)
    (call,) = calls.last
    assert (call.resource, call.request_id, call.error) == (
        "http://127.0.0.1:1/1/q",
        "",
        "EndpointConnectionError",
    )


def test_a_module_step_records_its_calls_of_aws(moto_endpoint):
    clients = EndpointClients(moto_endpoint)
    store = S3Store(clients)
    clients.client("s3").create_bucket(
        Bucket="records", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    store.write(Pointer("records", "a.txt"), b"hello")
    step = {
        "stepType": "DATA_LOAD",
        "moduleIdentifier": "system/s3-data-loader",
        "customConfig": {"sourceS3Uri": "s3://records/{{initialContextData.key}}"},
    }
    done = run({"load": step}, {"key": "a.txt"}, store=store, aws=clients)
    assert [
        (call.service, call.operation, call.resource) for call in done.fakes.record("load").calls.last
    ] == [("s3", "HeadObject", "s3://records/a.txt"), ("s3", "GetObject", "s3://records/a.txt")]
    failed = run({"load": step}, {"key": "b.txt"}, store=store, aws=clients)
    assert [call.error for call in failed.fakes.record("load").calls.last] == ["404"]
