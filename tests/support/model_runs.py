"""Flows whose steps ask fake models of all providers over loopback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_allma.engine.http import AiohttpClient
from airflow_allma.engine.llm.model_services import ModelServices
from airflow_allma.engine.secrets import Secrets
from demo.model_servers import ModelServer
from tests.support.engine import FlowResult, run
from tests.support.model_servers import KEY
from tests.support.secrets import SecretsInMemory

PROVIDERS = ("OPENAI", "ANTHROPIC", "GEMINI", "AWS_BEDROCK")
BEDROCK = {
    "region_name": "eu-central-1",
    "aws_access_key_id": "AKID",
    "aws_secret_access_key": KEY,
}

Json = dict[str, Any]


def connections_of(server: ModelServer) -> dict[str, Json]:
    """Return provider -> its connection at a server of fake models."""
    return {
        "OPENAI": {"id": "openai", "kind": "http", "host": f"{server.url}/v1", "password": KEY},
        "ANTHROPIC": {"id": "anthropic", "kind": "http", "host": server.url, "password": KEY},
        "GEMINI": {"id": "gemini", "kind": "http", "host": server.url, "password": KEY},
        "AWS_BEDROCK": {
            "id": "aws_bedrock",
            "kind": "pydanticai_bedrock",
            "host": server.url,
            "extra": BEDROCK,
        },
    }


def model_step(provider: str = "OPENAI", **fields: Any) -> Json:
    """Return a step that asks the model ``fake`` of a provider."""
    return {
        "stepType": "LLM_INVOCATION",
        "llmProvider": provider,
        "modelId": "fake",
        "directPrompt": "Say OK",
        **fields,
    }


def ask(
    server: ModelServer,
    step: Json | None,
    payload: Json | None = None,
    *,
    steps: Mapping[str, Json] | None = None,
    cache: bool = False,
    without: frozenset[str] = frozenset(),
    **services: Any,
) -> FlowResult:
    """Run a flow, of one step ``ask`` unless ``steps`` has others, over real HTTP.

    Args:
        server: the fake models.
        step: the step.
        payload: of the run.
        steps: the steps of the flow.
        cache: whether answers are kept.
        without: the providers for which the settings name no connection.
        services: further fields of ``Services``.
    """
    known = connections_of(server)
    named = json.dumps({name: one["id"] for name, one in known.items() if name not in without})
    return run(
        {"ask": step} if steps is None and step is not None else steps or {},
        payload,
        http=AiohttpClient(),
        secrets=Secrets(SecretsInMemory(known.values())),
        models=ModelServices(llm_connections=named, llm_cache=cache),
        **services,
    )
