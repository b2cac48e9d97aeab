"""E-mails, downloads, tools and modules of one's own have the same result on the command line, as a task, in
mapped tasks and in a chunk."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest

from demo.servers import aws_connection
from tests.airflow.flows import branch, flow, fork
from tests.support.cli import run_cli, write_file
from tests.support.download_server import DownloadServer, running_downloads
from tests.support.fake_lambda import FakeLambda, running_lambda
from tests.support.mcp_servers import running_mcp
from tests.support.moto import REGION, EndpointClients
from tests.support.own_modules import forget, install
from tests.support.smtp_server import LOGIN, PASSWORD, SmtpFake, running_smtp

pytestmark = pytest.mark.airflow

SOME = 60
MANY = 1000
KEY = "planted-key-4711"
Json = dict[str, Any]
DESK = "desk@corp.example"
CODE = """
def score(inputs, call):
    return {"score": inputs["n"] * inputs["factor"]}

async def later(inputs, call):
    return {"n": inputs["n"], "step": call.step_id}
"""


@dataclass
class Servers:
    """What the steps call."""

    clients: EndpointClients
    bucket: str
    smtp: SmtpFake
    downloads: DownloadServer
    functions: FakeLambda
    scores: str
    tools: str

    def sent_by_ses(self) -> int:
        """Return how many e-mails moto's SES has sent."""
        # moto counts a recipient twice: in the envelope and in the message.
        return int(self.clients.client("ses").get_send_quota()["SentLast24Hours"]) // 2

    @property
    def environment(self) -> dict[str, str]:
        """The connections and settings of Dags and of the command line."""
        aws = aws_connection(self.clients.endpoint)
        aws["extra"]["service_config"] = {"lambda": {"endpoint_url": self.functions.url}}
        smtp = {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": self.smtp.port,
            "login": LOGIN,
            "password": PASSWORD,
            "extra": {"disable_ssl": True, "disable_tls": True},
        }
        modules = {
            "acme/http": {"connection": "acme", "path": "/score"},
            "acme/lambda": {"lambdaArn": "score"},
        }
        return {
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
            "AIRFLOW_CONN_POST": json.dumps(smtp),
            "AIRFLOW_CONN_WIKI": json.dumps({"conn_type": "mcp", "host": self.tools, "password": KEY}),
            "AIRFLOW_CONN_ACME": json.dumps({"conn_type": "http", "host": self.scores}),
            "AIRFLOW__ALLMA__EXTERNAL_MODULES": json.dumps(modules),
            "AWS_ENDPOINT_URL": self.clients.endpoint,
            "AWS_ENDPOINT_URL_LAMBDA": self.functions.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
        }


class _Scores(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"outputData": {"score": body["stepInput"]["n"] + 1}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def running_scores() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Scores)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def servers(moto_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    clients = EndpointClients(moto_endpoint)
    clients.client("ses").verify_email_identity(EmailAddress=DESK)
    bucket = f"own-{uuid4().hex[:8]}"
    clients.client("s3").create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    with ExitStack() as stack:
        functions = stack.enter_context(running_lambda())
        functions.answer("score", (200, {}, b'{"outputData": {"from": "lambda"}}'))
        yield Servers(
            clients,
            bucket,
            stack.enter_context(running_smtp()),
            stack.enter_context(running_downloads()),
            functions,
            stack.enter_context(running_scores()),
            stack.enter_context(running_mcp(tmp_path_factory.mktemp("mcp"))).url,
        )


@pytest.fixture
def environment(servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    for name, value in servers.environment.items():
        monkeypatch.setenv(name, value)
    install(tmp_path / "site", "acme_steps", CODE, {"acme/score": "score", "acme/later": "later"})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    forget("acme_steps")


@dataclass(frozen=True)
class Case:
    """A step that is run for items ``{"n": number}``, and its output; ``*`` is any string."""

    step: Json
    output: Callable[[int, Json], Json]


def mail(**fields: Any) -> Json:
    return {
        "stepType": "EMAIL",
        "from": DESK,
        "to": "u{{currentItem.n}}@corp.example",
        "subject": "Number {{currentItem.n}}",
        "body": "<p>Hi</p>",
        **fields,
    }


def mailed(n: int, _: Json) -> Json:
    shown = {"from": DESK, "to": [f"u{n}@corp.example"], "subject": f"Number {n}", "body": "<p>Hi</p>"}
    return {"sesMessageId": "*", "renderedEmail": shown}


def downloaded(n: int, payload: Json) -> Json:
    pointer = {"bucket": payload["bucket"], "key": f"{payload['mark']}/{n}.txt"}
    return {
        "filePointer": pointer,
        "content": {"_s3_output_pointer": pointer},
        "contentType": "text/plain",
        "contentLength": len(f"item {n}"),
    }


def found(n: int, payload: Json) -> Json:
    value = {"q": payload["mark"], "top": n}
    content = {"type": "text", "text": json.dumps(value, indent=2)}
    return {"result": {"content": [content], "structuredContent": value, "isError": False}}


CASES = {
    "EMAIL by SES": Case(mail(), mailed),
    "EMAIL by SMTP": Case(mail(connection="post"), mailed),
    "FILE_DOWNLOAD": Case(
        {
            "stepType": "FILE_DOWNLOAD",
            "sourceUrlTemplate": "{{files}}/item/{{currentItem.n}}",
            "destinationBucket": "$BUCKET",
            "destinationKeyTemplate": "{{mark}}/{{currentItem.n}}.txt",
        },
        downloaded,
    ),
    "MCP_CALL": Case(
        {
            "stepType": "MCP_CALL",
            "connection": "wiki",
            "toolName": "lookup",
            "inputMappings": {"top": "$.currentItem.n"},
            "literals": {"q": "{{mark}}"},
        },
        found,
    ),
    "a Python function": Case(
        {
            "stepType": "CUSTOM_LOGIC",
            "moduleIdentifier": "acme/score",
            "customConfig": {"factor": "$.factor"},
            "inputMappings": {"n": "$.currentItem.n"},
        },
        lambda n, _: {"score": n * 3},
    ),
    "a coroutine": Case(
        {
            "stepType": "DATA_LOAD",
            "moduleIdentifier": "acme/later",
            "inputMappings": {"n": "$.currentItem.n"},
        },
        lambda n, _: {"n": n, "step": "w"},
    ),
    "an HTTP service": Case(
        {
            "stepType": "DATA_TRANSFORMATION",
            "moduleIdentifier": "acme/http",
            "inputMappings": {"n": "$.currentItem.n"},
        },
        lambda n, _: {"score": n + 1},
    ),
    "a Lambda function": Case(
        {
            "stepType": "DATA_SAVE",
            "moduleIdentifier": "acme/lambda",
            "inputMappings": {"n": "$.currentItem.n"},
        },
        lambda n, _: {"from": "lambda"},
    ),
}


def without_ids(value: Any) -> Any:
    if isinstance(value, dict) and "sesMessageId" in value:
        return {**value, "sesMessageId": "*" if value["sesMessageId"] else ""}
    return value


def on_command_line(step: Json, payload: Json, tmp_path: Any, run: Any) -> list[Any]:
    del run
    file = write_file(tmp_path, "flow.json", flow("once", {"w": step}))
    ended = run_cli("run", file, "--payload", json.dumps({**payload, "currentItem": {"n": 0}}))
    assert ended.code == 0, ended.out
    return [ended.json["context"]["steps_output"]["w"]]


def as_a_task(step: Json, payload: Json, tmp_path: Any, run: Any) -> list[Any]:
    del tmp_path
    ended = run({"w": step}, {**payload, "currentItem": {"n": 0}})
    assert ended.state == "success"
    return [ended.xcom("w")]


def over(count: int, step: Json, payload: Json, run: Any, **options: Any) -> list[Any]:
    steps = {"f": fork(branch("w")), "w": step}
    ended = run(steps, {**payload, "items": [{"n": n} for n in range(count)]}, airflow=options)
    assert ended.state == "success"
    chunked = options.get("maxInMemoryItems") == 1
    assert ended.task("f.chunk", 0 if chunked else -1).state == ("success" if chunked else "skipped")
    aggregated: list[Any] = ended.xcom("f.aggregate")["aggregatedData"]
    return aggregated


def in_mapped_tasks(step: Json, payload: Json, tmp_path: Any, run: Any) -> list[Any]:
    del tmp_path
    return over(2, step, payload, run)


def in_a_chunk(step: Json, payload: Json, tmp_path: Any, run: Any) -> list[Any]:
    del tmp_path
    return over(SOME, step, payload, run, maxInMemoryItems=1, maxChunks=1, chunkConcurrency=8)


def in_a_large_chunk(step: Json, payload: Json, tmp_path: Any, run: Any) -> list[Any]:
    del tmp_path
    return over(MANY, step, payload, run, maxInMemoryItems=1, maxChunks=1, chunkConcurrency=8)


@pytest.mark.parametrize(
    "way",
    [
        on_command_line,
        as_a_task,
        in_mapped_tasks,
        in_a_chunk,
        pytest.param(in_a_large_chunk, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("environment")
def test_a_step_has_the_same_result_in_each_way_to_run(name, way, servers, run, tmp_path):
    case = CASES[name]
    payload = {"bucket": servers.bucket, "files": servers.downloads.url, "mark": uuid4().hex, "factor": 3}
    step = {key: servers.bucket if value == "$BUCKET" else value for key, value in case.step.items()}
    by_smtp, by_ses = len(servers.smtp.envelopes), servers.sent_by_ses()
    outputs = [without_ids(output) for output in way(step, payload, tmp_path, run)]
    assert outputs == [case.output(n, payload) for n in range(len(outputs))]
    count = len(outputs)
    assert len(outputs) == {in_mapped_tasks: 2, in_a_chunk: SOME, in_a_large_chunk: MANY}.get(way, 1)
    assert len(servers.smtp.envelopes) - by_smtp == (count if name == "EMAIL by SMTP" else 0)
    assert servers.sent_by_ses() - by_ses == (count if name == "EMAIL by SES" else 0)
    if name == "FILE_DOWNLOAD":
        s3 = servers.clients.client("s3")
        for n in (0, count - 1):
            stored = s3.get_object(Bucket=servers.bucket, Key=f"{payload['mark']}/{n}.txt")
            assert stored["Body"].read() == f"item {n}".encode()
