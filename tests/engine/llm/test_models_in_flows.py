"""Steps of type LLM_INVOCATION with the clients of this process, against fake models on loopback."""

from __future__ import annotations

import pytest

from airflow_allma.engine.http import AiohttpClient
from airflow_allma.engine.secrets import Secrets
from demo.model_servers import Behaviour
from tests.support.engine import run
from tests.support.fake_lambda import FakeLambda
from tests.support.model_calls import KEY
from tests.support.moto import EndpointClients
from tests.support.secrets import SecretsInMemory


def ask(models, provider, fake_lambda: FakeLambda, model="m"):
    step = {
        "stepType": "LLM_INVOCATION",
        "llmProvider": provider,
        "modelId": model,
        "directPrompt": "Classify {{ticket}}",
        "customConfig": {"jsonOutputMode": True},
        **({} if provider in {"AWS_BEDROCK", "CUSTOM_LAMBDA"} else {"connection": "llm"}),
    }
    host = f"{models.url}/v1" if provider == "OPENAI" else models.url
    return run(
        {"ask": step},
        {"ticket": "T-1"},
        http=AiohttpClient(),
        aws=EndpointClients(models.url, {"lambda": fake_lambda.url}),
        secrets=Secrets(SecretsInMemory([{"id": "llm", "host": host, "password": KEY}])),
    )


@pytest.mark.parametrize("provider", ["OPENAI", "ANTHROPIC", "GEMINI", "AWS_BEDROCK", "CUSTOM_LAMBDA"])
def test_a_step_calls_the_model_of_its_provider(models, fake_lambda, provider):
    models.configure(m=Behaviour(answer='{"category": "bug"}'))
    fake_lambda.answer("m", (200, {}, b'{"outputData": {"text": "{\\"category\\": \\"bug\\"}"}}'))
    ran = ask(models, provider, fake_lambda)
    assert ran.outputs == {"ask": {"category": "bug"}}, ran.error
    # The request, and the answer with its tokens.
    assert ran.fakes.record("ask").calls.count == 2


@pytest.mark.parametrize("provider", ["OPENAI", "ANTHROPIC", "GEMINI"])
def test_a_step_whose_key_is_rejected_fails_without_showing_it(models, fake_lambda, provider):
    models.configure(m=Behaviour(outcomes=(401,), echo_key=True))
    ran = ask(models, provider, fake_lambda)
    assert ran.error["errorName"] == "ModelAuthenticationError"
    assert ran.error["errorMessage"].endswith(
        "the key of connection 'llm' was rejected. Correct its password."
    )
    assert KEY not in str(ran.error)
