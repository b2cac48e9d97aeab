"""No planted key of a model is found after runs in which the servers repeat it in every error.

Steps succeed, are refused, fail and are tried again, on the main path, in mapped tasks and in a chunk. What a
model writes itself is data, as the body of an API's answer is: it is the output as it came, and masked in
logs and traces.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from airflow_allma.engine.http import AiohttpClient
from airflow_allma.engine.secrets import Secrets
from demo.model_servers import Behaviour, ModelServer
from tests.airflow.flows import branch, fork
from tests.support import planted_secrets as planted
from tests.support.engine import run as run_engine
from tests.support.secrets import SecretsInMemory

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("keys")]

KEY = "planted-key-0123456789"
ECHOING = {
    "ok": Behaviour(answer="fine"),
    "refused": Behaviour(outcomes=(401,), echo_key=True),
    "forbidden": Behaviour(outcomes=(403,), echo_key=True),
    "missing": Behaviour(outcomes=(404,), echo_key=True),
    "invalid": Behaviour(outcomes=(400,), error_message=f"{KEY} {'x' * 480}{KEY}"),
    "code": Behaviour(outcomes=(400,), error_code=KEY),
    "flaky": Behaviour(outcomes=(503, 200), echo_key=True),
    "limited": Behaviour(outcomes=(429, 200), echo_key=True, retry_after="0"),
    "down": Behaviour(outcomes=(500,), echo_key=True),
    "declines": Behaviour(refusal=f"Not with {KEY}"),
    "prose": Behaviour(answer=f"Not JSON, but {KEY}"),
}
PROVIDERS = ("OPENAI", "ANTHROPIC", "GEMINI")


@pytest.fixture
def keys(models: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Connections with the planted key, a folder for results, the cache of answers, and all traces."""
    models.configure(**ECHOING)
    for provider in PROVIDERS:
        host = f"{models.url}/v1" if provider == "OPENAI" else models.url
        connection = {"conn_type": "http", "host": host, "password": KEY, "extra": {"headers": {"X-A": KEY}}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{provider}", json.dumps(connection))
    names = {provider: provider.lower() for provider in PROVIDERS}
    monkeypatch.setenv("AIRFLOW__ALLMA__LLM_CONNECTIONS", json.dumps(names))
    monkeypatch.setenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", f"file://{tmp_path}")
    monkeypatch.setenv("AIRFLOW__ALLMA__LLM_CACHE", "True")
    monkeypatch.setenv("AIRFLOW__ALLMA__TRACE_ITEMS", "all")


def asking(**fields: Any) -> dict[str, Any]:
    return {
        "stepType": "LLM_INVOCATION",
        "llmProvider": "{{currentItem.provider}}",
        "modelId": "{{currentItem.model}}",
        "directPrompt": "Item {{currentItem.model}}",
        "customConfig": {"jsonOutputMode": "$.currentItem.json"},
        "onError": {"continueOnFailure": True},
        **fields,
    }


def shown(ended: Any, folder: Path, log: str) -> list[tuple[str, str]]:
    """Return the XComs, the log, and every stored file."""
    return [
        ("XComs", json.dumps(list(ended.xcoms.values()), default=str)),
        ("log", log),
        *planted.files_below(folder),
    ]


@pytest.mark.parametrize("options", [{}, {"maxInMemoryItems": 1}], ids=["mapped tasks", "a chunk"])
def test_keys_that_servers_repeat_are_nowhere(options, models, run, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    providers = PROVIDERS if options else PROVIDERS[:1]
    items = [
        {"provider": provider, "model": model, "json": model == "prose"}
        for provider in providers
        for model in ECHOING
        if model != "declines" or provider == "OPENAI"
    ]
    steps = {"f": fork(branch("w"), failOnBranchError=False), "w": asking()}
    ended = run(steps, {"items": items}, airflow=options, enableExecutionLogs=True)
    assert ended.state == "success"
    assert planted.hits([("sent", str(models.requests))])
    found = shown(ended, tmp_path, caplog.text)
    assert "The key was ***" in dict(found)["log"]
    assert planted.hits(found) == []


def test_what_a_model_writes_is_data_as_the_answer_of_an_api_is_and_masked_in_records(models):
    models.configure(leaks=Behaviour(answer=f"It is {KEY}"))
    connection = {"id": "llm", "host": f"{models.url}/v1", "password": KEY}
    step = {
        "stepType": "LLM_INVOCATION",
        "llmProvider": "OPENAI",
        "modelId": "leaks",
        "connection": "llm",
        "directPrompt": "Hello",
        "defaultNextStepInstanceId": "call",
    }
    request = {
        "stepType": "API_CALL",
        "apiHttpMethod": "POST",
        "connection": "llm",
        "apiUrlTemplate": {"template": "/chat/completions"},
        "apiHeadersTemplate": {"Authorization": "Bearer {{conn.llm.password}}"},
        "requestBodyTemplate": {
            "model": {"sourceJsonPath": "$.body.model"},
            "messages": {"sourceJsonPath": "$.body.messages"},
        },
    }
    body = {"model": "leaks", "messages": [{"role": "user", "content": "Hello"}]}
    ended = run_engine(
        {"ask": step, "call": request},
        {"body": body},
        http=AiohttpClient(),
        secrets=Secrets(SecretsInMemory([connection])),
    )
    assert ended.outputs["ask"] == {"llm_response": f"It is {KEY}"}, ended.error
    message = ended.outputs["call"]["data"]["choices"][0]["message"]
    assert message["content"] == f"It is {KEY}"
    for record in ended.fakes.records:
        assert "It is ***" in str(record)
        assert KEY not in str(record)
