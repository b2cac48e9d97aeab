"""SQS_SEND and SNS_PUBLISH: where values come from, the limits of the services, FIFO, and every error."""

from __future__ import annotations

import hashlib
import itertools
import json

import pytest

from airflow_allma.engine.modules import ModuleContext, run_module
from airflow_allma.engine.modules.sns_publish import MAX_SNS_BYTES
from airflow_allma.engine.modules.sqs_send import MAX_SQS_BYTES
from airflow_allma.exceptions import PermanentStepError, StepError
from airflow_allma.flow import Flow
from tests.support.engine import flow_of, run
from tests.support.moto import EndpointClients

_numbers = itertools.count()
REGION = "eu-central-1"
NO_QUEUE = f"https://sqs.{REGION}.amazonaws.com/123456789012/none"
NO_TOPIC = f"arn:aws:sns:{REGION}:123456789012:none"
TYPES = {"SQS_SEND": "queueUrl", "SNS_PUBLISH": "topicArn"}


@pytest.fixture
def clients(moto_endpoint):
    return EndpointClients(moto_endpoint)


class Target:
    """A queue, or a topic with a queue that gets its messages."""

    def __init__(self, clients, kind, *, fifo=False):
        self.kind, self.clients = kind, clients
        name = f"messages-{next(_numbers)}{'.fifo' if fifo else ''}"
        attributes = {"FifoQueue": "true"} if fifo else {}
        self.sqs = clients.client("sqs")
        self.queue = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.address = self.queue
        if kind == "SNS_PUBLISH":
            sns = clients.client("sns")
            topic = sns.create_topic(Name=name, Attributes={"FifoTopic": "true"} if fifo else {})["TopicArn"]
            arn = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
            sns.subscribe(
                TopicArn=topic,
                Protocol="sqs",
                Endpoint=arn["Attributes"]["QueueArn"],
                Attributes={"RawMessageDelivery": "true"},
            )
            self.address = topic

    def step(self, **fields):
        return {"stepType": self.kind, "customConfig": {TYPES[self.kind]: self.address}, **fields}

    def run(self, data=None, /, **fields):
        return run({"a": self.step(**fields)}, data, aws=self.clients)

    def messages(self):
        found = self.sqs.receive_message(
            QueueUrl=self.queue, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
        )
        return found.get("Messages", [])

    def bodies(self):
        return [json.loads(message["Body"]) for message in self.messages()]


@pytest.fixture(params=TYPES)
def target(clients, request):
    return Target(clients, request.param)


@pytest.fixture(params=TYPES)
def fifo(clients, request):
    return Target(clients, request.param, fifo=True)


def test_the_payload_is_sent_as_json_and_the_id_is_the_output(target):
    ran = target.run({"bill": {"no": 7}}, payload={"kind": "bill"}, inputMappings={"payload.no": "$.bill.no"})
    assert target.bodies() == [{"kind": "bill", "no": 7}]
    ((name, message_id),) = ran.outputs["a"].items()
    assert name == {"SQS_SEND": "sqsMessageId", "SNS_PUBLISH": "snsMessageId"}[target.kind]
    assert message_id
    assert ran.fakes.record("a").meta == {"status": "SUCCESS"}
    (call,) = ran.fakes.record("a").calls.last
    assert (call.operation, call.resource) == (
        {"SQS_SEND": "SendMessage", "SNS_PUBLISH": "Publish"}[target.kind],
        target.address,
    )


@pytest.mark.parametrize(
    ("fields", "payload"),
    [
        ({"payload": {"a": 1}}, {"a": 1}),
        ({"payload": {"a": 1}, "config": {"payload": {"b": "{{x}}"}}}, {"b": "5"}),
        ({"payload": {"a": 1}, "literals": {"payload": {"c": "$.x"}}}, {"c": 5}),
        ({"payload": {"a": 1, "b": 1}, "literals": {"payload.b": "{{x}}"}}, {"a": 1, "b": "5"}),
        (
            {"config": {"payload": {"a": {"p": 1}}}, "inputMappings": {"payload.a.q": "$.x"}},
            {"a": {"p": 1, "q": 5}},
        ),
        ({"config": {"payload": {"a": 1}}, "inputMappings": {"payload": "$.doc"}}, {"d": True}),
        ({"literals": {"payload": {"a": 1}}, "inputMappings": {"payload.b": "$.x"}}, {"a": 1, "b": 5}),
        ({"inputMappings": {"payload": "$.list"}}, [1, "ü"]),
        ({"inputMappings": {"payload": "$.text"}}, "plain"),
        ({"inputMappings": {"payload": "$.nothing"}}, None),
        ({"payload": {}}, {}),
    ],
)
def test_later_sources_of_a_value_win_and_mapped_keys_are_added(clients, fields, payload):
    queue = Target(clients, "SQS_SEND")
    config = {"queueUrl": queue.queue, **fields.pop("config", {})}
    data = {"x": 5, "doc": {"d": True}, "list": [1, "ü"], "text": "plain", "nothing": None}
    ran = queue.run(data, customConfig=config, **fields)
    assert ran.status == "COMPLETED", ran.error
    assert queue.bodies() == [payload]


@pytest.mark.parametrize("where", ["step", "config", "literals", "mapped"])
def test_the_address_can_be_in_each_place(target, where):
    field = TYPES[target.kind]
    step = {"stepType": target.kind, "payload": {"n": 1}}
    places = {
        "step": {field: target.address},
        "config": {"customConfig": {field: "{{address}}"}},
        "literals": {"literals": {field: "$.address"}},
        "mapped": {"inputMappings": {field: "$.address"}},
    }
    ran = run({"a": {**step, **places[where]}}, {"address": target.address}, aws=target.clients)
    assert ran.status == "COMPLETED", ran.error
    assert target.bodies() == [{"n": 1}]


@pytest.mark.parametrize(
    ("written", "module", "kind"),
    [
        ("MESSAGING", "system/sqs-send", "SQS_SEND"),
        ("MESSAGING", "system/sns-publish", "SNS_PUBLISH"),
        ("SNS_SEND", "system/sns-publish", "SNS_PUBLISH"),
        ("SNS_SEND", None, "SNS_PUBLISH"),
    ],
)
def test_the_documented_aliases_send_too(clients, written, module, kind):
    target = Target(clients, kind)
    step = {**target.step(payload={"n": 1}), "stepType": written}
    assert (
        run({"a": step | ({"moduleIdentifier": module} if module else {})}, aws=clients).status == "COMPLETED"
    )
    assert target.bodies() == [{"n": 1}]


def test_an_alias_is_resolved_in_branches_and_when_the_model_is_read_alone():
    step = {"stepType": "SNS_SEND", "topicArn": NO_TOPIC, "payload": {}}
    flow = Flow.model_validate({"id": "f", "startStepInstanceId": "a", "steps": {"a": step}})
    assert flow.steps["a"].step_type == "SNS_PUBLISH"
    assert flow_of({"a": step}).steps["a"].step_type == "SNS_PUBLISH"


ATTRIBUTES = {
    "kind": {"DataType": "String", "StringValue": "order"},
    "total": {"DataType": "Number.float", "StringValue": 1.5},
    "blob": {"DataType": "Binary", "BinaryValue": "/w=="},
}


def test_attributes_are_sent_with_their_types(target):
    # moto cannot deliver binary attributes from a topic to a queue
    given = {name: ATTRIBUTES[name] for name in ATTRIBUTES if name != "blob" or target.kind == "SQS_SEND"}
    ran = target.run({"kind": "order"}, payload={}, messageAttributes=given)
    assert ran.status == "COMPLETED", ran.error
    (message,) = target.messages()
    got = message["MessageAttributes"]
    assert got["kind"]["StringValue"] == "order"
    assert (got["total"]["DataType"], got["total"]["StringValue"]) == ("Number.float", "1.5")
    assert target.kind == "SNS_PUBLISH" or got["blob"]["BinaryValue"] == b"\xff"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"a": {"StringValue": "x"}}, r"messageAttributes.a.DataType: is missing"),
        ({"a": {"DataType": "Text", "StringValue": "x"}}, "must have a DataType, which is String"),
        ({"a": {"DataType": "String"}}, "needs a StringValue that is not empty"),
        ({"a": {"DataType": "String", "StringValue": ""}}, "needs a StringValue that is not empty"),
        ({"a": {"DataType": "String", "BinaryValue": "eA=="}}, "needs a StringValue"),
        ({"a": {"DataType": "String", "StringValue": "x", "BinaryValue": "eA=="}}, "no other value"),
        ({"a": {"DataType": "Binary", "StringValue": "x"}}, "needs a BinaryValue"),
        ({"a": {"DataType": "Binary", "BinaryValue": "?"}}, "must be Base64"),
        ({"a": {"DataType": "Number", "StringValue": "one"}}, "must be a number"),
        ({"a": "x"}, "messageAttributes.a"),
        ({"AWS.a": {"DataType": "String", "StringValue": "x"}}, "cannot be the name of a message attribute"),
        ({"a b": {"DataType": "String", "StringValue": "x"}}, "cannot be the name of a message attribute"),
        ({"a..b": {"DataType": "String", "StringValue": "x"}}, "cannot be the name of a message attribute"),
        (
            {"n" * 257: {"DataType": "String", "StringValue": "x"}},
            "cannot be the name of a message attribute",
        ),
    ],
)
def test_attributes_that_the_services_refuse_are_errors_before_the_call(target, attributes, message):
    ran = target.run(
        payload={}, customConfig={TYPES[target.kind]: target.address, "messageAttributes": attributes}
    )
    assert ran.error["errorName"] == "PermanentStepError"
    assert message in ran.error["errorMessage"]
    assert ran.fakes.record("a").calls.count == 0


def test_sqs_takes_ten_attributes_and_sns_more(clients):
    many = {f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(11)}
    ran = Target(clients, "SQS_SEND").run(payload={}, messageAttributes=many)
    assert "has 11 attributes, and SQS accepts 10" in ran.error["errorMessage"]
    assert Target(clients, "SNS_PUBLISH").run(payload={}, messageAttributes=many).status == "COMPLETED"


LIMITS = {"SQS_SEND": MAX_SQS_BYTES, "SNS_PUBLISH": MAX_SNS_BYTES}


class Sent:
    """Clients that take every message and only remember its size."""

    connection = "test connection 'sent'"

    def __init__(self):
        self.sizes = []

    def client(self, service, region=None, *, retries=True):
        assert not retries
        return self

    def send_message(self, **parameters):
        self.sizes.append(len(parameters["MessageBody"].encode()))
        return {"MessageId": "m"}

    def publish(self, **parameters):
        return self.send_message(MessageBody=parameters["Message"])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("extra", "attributes"), [(0, False), (1, False), (0, True)])
def test_a_message_may_be_as_large_as_the_service_accepts_with_its_attributes(kind, extra, attributes):
    sent = Sent()
    address = {"queueUrl": NO_QUEUE, "topicArn": NO_TOPIC}
    body = {"x": "ü" * 100}
    free = LIMITS[kind] - len(json.dumps({"x": "", "y": ""}, separators=(",", ":"))) - 200 + extra
    given = {"k": {"DataType": "String", "StringValue": "v"}} if attributes else {}
    inputs = {**address, "payload": {**body, "y": "a" * free}, "messageAttributes": given}
    module = {"SQS_SEND": "system/sqs-send", "SNS_PUBLISH": "system/sns-publish"}[kind]
    if not extra and not attributes:
        run_module(module, inputs, ModuleContext(aws=sent))
        assert sent.sizes == [LIMITS[kind]]
        return
    with pytest.raises(PermanentStepError, match="send the pointer") as caught:
        run_module(module, inputs, ModuleContext(aws=sent))
    assert caught.value.details["messageBytes"] == LIMITS[kind] + (extra or len("k" + "String" + "v"))
    assert sent.sizes == []


def test_a_message_to_fifo_is_deduplicated_by_its_body(fifo):
    for _ in range(2):
        assert fifo.run(payload={"n": 1}, messageGroupId="g").status == "COMPLETED"
    (message,) = fifo.messages()
    expected = hashlib.sha256(b'{"n":1}').hexdigest()
    assert message["Attributes"]["MessageDeduplicationId"] == expected
    assert message["Attributes"]["MessageGroupId"] == "g"


def test_own_ids_of_a_message_to_fifo_are_used_also_numbers(fifo):
    mapped = {"messageGroupId": "$.group", "messageDeduplicationId": "$.id"}
    ran = fifo.run({"group": 5, "id": "i-1"}, payload={"n": 1}, inputMappings=mapped)
    assert ran.status == "COMPLETED", ran.error
    (message,) = fifo.messages()
    assert message["Attributes"]["MessageDeduplicationId"] == "i-1"
    assert message["Attributes"]["MessageGroupId"] == "5"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "messageGroupId is missing"),
        ({"messageGroupId": "a b"}, "messageGroupId must have 1 to 128"),
        ({"messageGroupId": "g" * 129}, "messageGroupId must have 1 to 128"),
        ({"messageGroupId": ["g"]}, "messageGroupId"),
        ({"messageGroupId": "g", "messageDeduplicationId": ""}, "messageDeduplicationId must have 1 to 128"),
    ],
)
def test_wrong_ids_of_a_message_to_fifo_are_errors_before_the_call(fifo, fields, message):
    ran = fifo.run(payload={}, literals=fields)
    assert (ran.error["errorName"], ran.fakes.record("a").calls.count) == ("PermanentStepError", 0)
    assert message in ran.error["errorMessage"]


def test_only_fifo_deduplicates(target):
    ran = target.run(payload={}, messageDeduplicationId="x")
    assert "is not FIFO" in ran.error["errorMessage"]
    assert ran.fakes.record("a").calls.count == 0


@pytest.mark.parametrize(
    ("kind", "address", "name"),
    [("SQS_SEND", NO_QUEUE, "QueueDoesNotExist"), ("SNS_PUBLISH", NO_TOPIC, "NotFoundException")],
)
def test_an_unknown_queue_or_topic_names_it_with_connection_and_setting(clients, kind, address, name):
    ran = run({"a": {"stepType": kind, TYPES[kind]: address, "payload": {}}}, aws=clients)
    error = ran.error
    assert (error["errorName"], error["isRetryable"]) == (name, False)
    for part in (address, "test connection 'moto'", f"`{TYPES[kind]}`", "[allma] aws_conn_id"):
        assert part in error["errorMessage"]
    assert error["errorDetails"][TYPES[kind]] == address
    assert ran.fakes.record("a").tries == 1


@pytest.mark.parametrize(
    ("kind", "address", "message"),
    [
        ("SQS_SEND", "https://evil.test/1/q", "which is not SQS"),
        ("SQS_SEND", "http://169.254.169.254/latest/meta-data", "which is not SQS"),
        ("SQS_SEND", "https://s3.amazonaws.com/1/q", "another AWS service"),
        ("SQS_SEND", "orders", "a queue URL is https://sqs"),
        ("SNS_PUBLISH", "orders", "must be the ARN of a topic"),
        ("SNS_PUBLISH", "arn:aws:sqs:eu-west-3:1:q", "must be the ARN of a topic"),
        ("SNS_PUBLISH", NO_TOPIC + "\n", "must be the ARN of a topic"),
    ],
)
def test_addresses_from_data_that_are_not_those_of_the_service_are_refused(kind, address, message):
    class Aws:
        connection = "Airflow connection 'aws_default'"

        def client(self, service, region=None, *, retries=True):
            import boto3

            return boto3.client(service, "eu-west-3", aws_access_key_id="x", aws_secret_access_key="x")

    step = {"stepType": kind, "payload": {}, "inputMappings": {TYPES[kind]: "$.address"}}
    ran = run({"a": step}, {"address": address}, aws=Aws())
    assert ran.error["errorName"] == "PermanentStepError"
    assert message in ran.error["errorMessage"]
    assert ran.fakes.record("a").calls.count == 0


def test_calls_go_to_the_region_of_the_address(moto_endpoint):
    clients = EndpointClients(moto_endpoint)
    run(
        {"a": {"stepType": "SQS_SEND", "queueUrl": NO_QUEUE.replace(REGION, "us-west-2"), "payload": {}}},
        aws=clients,
    )
    run(
        {"a": {"stepType": "SNS_PUBLISH", "topicArn": NO_TOPIC.replace(REGION, "ap-south-1"), "payload": {}}},
        aws=clients,
    )
    assert clients.made == [("sqs", "us-west-2"), ("sns", "ap-south-1")]


@pytest.mark.parametrize(
    ("code", "status", "name", "tries"),
    [
        ("ThrottlingException", 400, "TransientStepError", 5),
        ("RequestThrottled", 403, "TransientStepError", 5),
        ("KMS.ThrottlingException", 400, "TransientStepError", 5),
        ("ServiceUnavailable", 503, "TransientStepError", 5),
        ("Whatever", 500, "TransientStepError", 5),
        ("AccessDenied", 403, "AccessDenied", 1),
        ("InvalidMessageContents", 400, "InvalidMessageContents", 1),
    ],
)
def test_throttling_and_5xx_are_transient_and_other_errors_keep_their_name(code, status, name, tries):
    from botocore.exceptions import ClientError

    class Failing(Sent):
        def send_message(self, **_):
            raise ClientError(
                {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}},
                "Send",
            )

    ran = run({"a": {"stepType": "SQS_SEND", "queueUrl": NO_QUEUE, "payload": {}}}, aws=Failing())
    assert (ran.error["errorName"], ran.fakes.record("a").tries) == (name, tries)


def test_characters_that_sqs_refuses_are_escaped_in_the_json(clients):
    queue = Target(clients, "SQS_SEND")
    text = "a\ufffeb\uffff\x00\x1f\x7f\U0001f600"
    queue.run({"text": text}, inputMappings={"payload.text": "$.text"})
    assert queue.bodies() == [{"text": text}]


def test_broken_unicode_is_an_error(target):
    ran = target.run({"text": "\ud800"}, inputMappings={"payload.text": "$.text"})
    assert "broken Unicode" in ran.error["errorMessage"]


def test_without_aws_the_error_says_what_to_configure():
    ran = run({"a": {"stepType": "SQS_SEND", "queueUrl": NO_QUEUE, "payload": {}}})
    assert "no AWS credentials are configured" in ran.error["errorMessage"]


def test_a_missing_payload_is_an_error():
    with pytest.raises(StepError, match=r"\$\.payload: is missing"):
        run_module("system/sqs-send", {"queueUrl": NO_QUEUE}, ModuleContext(aws=Sent()))
