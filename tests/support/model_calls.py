"""Calls of models in tests: requests and answers as JSON, and connections without an Airflow."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_allma.engine.http_fake import FakeHttpClient
from airflow_allma.engine.llm.anthropic import AnthropicClient
from airflow_allma.engine.llm.bedrock import BedrockClient
from airflow_allma.engine.llm.gemini import GeminiClient
from airflow_allma.engine.llm.lambda_model import LambdaModelClient
from airflow_allma.engine.llm.model_request import (
    FunctionTool,
    Media,
    ModelName,
    ModelRequest,
    ModelResponse,
    Parameters,
    ProviderTool,
    ToolChoice,
    ToolChoiceMode,
)
from airflow_allma.engine.llm.openai import OpenAiClient
from airflow_allma.engine.outside_calls import OutsideCalls
from airflow_allma.engine.secrets import Secrets
from airflow_allma.engine.services import Services
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import StepError
from airflow_allma.flow.steps.llm import LlmProvider, LlmToolType
from tests.support.engine import INFO
from tests.support.secrets import SecretsInMemory

Json = dict[str, Any]

CLIENTS = {
    "OPENAI": OpenAiClient,
    "ANTHROPIC": AnthropicClient,
    "GEMINI": GeminiClient,
    "AWS_BEDROCK": BedrockClient,
    "CUSTOM_LAMBDA": LambdaModelClient,
}
KEY = "planted-key-0123456789"
OK = {
    "OPENAI": {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]},
    "ANTHROPIC": {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"},
    "GEMINI": {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]},
}
"""The shortest answer of each provider."""

_ATTRIBUTES = {
    "temperature": "temperature",
    "maxOutputTokens": "max_output_tokens",
    "topP": "top_p",
    "topK": "top_k",
    "seed": "seed",
}


def model_request(provider: str, fields: Mapping[str, Any]) -> ModelRequest:
    """Return a request, written as in flows; parameters that are not written are the language's defaults."""
    parameters = {_ATTRIBUTES[name]: value for name, value in fields.get("parameters", {}).items()}
    choice = fields.get("toolChoice")
    if isinstance(choice, dict):
        tool_choice = ToolChoice(ToolChoiceMode.FUNCTION, choice["name"])
    else:
        tool_choice = None if choice is None else ToolChoice(ToolChoiceMode(choice))
    return ModelRequest(
        ModelName(LlmProvider(provider), fields.get("model", "test-model")),
        fields.get("prompt", "Hello"),
        tuple(Media(kind, base64.b64decode(data)) for kind, data in fields.get("media", ())),
        tuple(map(_tool, fields.get("tools", ()))),
        tool_choice,
        Parameters(**parameters, explicit=frozenset(parameters)),
        fields.get("json", False),
        fields.get("config", {}),
    )


def _tool(tool: Mapping[str, Any]) -> FunctionTool | ProviderTool:
    if tool["type"] == "function":
        return FunctionTool(tool["name"], tool["description"], tool["parameters"])
    return ProviderTool(LlmToolType(tool["type"]), tool.get("config", {}))


def answer_as_json(answer: ModelResponse) -> Json:
    """Return the fields of an answer that are not the defaults."""
    defaults = asdict(ModelResponse(None, answer.finish))
    fields = {name: value for name, value in asdict(answer).items() if value != defaults[name]}
    return {**fields, "finish": answer.finish.value}


@dataclass
class ModelCalls:
    """Sends requests with one client.

    Attributes:
        provider: the provider.
        connection: the fields of its connection, whose id is ``llm``; None: no connection is named.
        http: the HTTP client.
        services: further fields of ``Services``.
        source: where connections are looked up.
        calls: what the last request did outside.
        log: the lines of the log.
    """

    provider: str
    connection: Json | None = field(default_factory=dict)
    http: Any = field(default_factory=FakeHttpClient)
    services: Json = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        own = {"id": "llm", "password": KEY, **(self.connection or {})}
        self.source = SecretsInMemory([own])
        self.secrets = Secrets(self.source)
        self.client: Any = CLIENTS[self.provider]()
        self.calls = OutsideCalls()
        self._logger = logging.getLogger(f"test.models.{id(self)}")
        self._logger.handle = lambda record: self.log.append(record.getMessage())

    async def send_async(self, fields: Mapping[str, Any], **request: Any) -> ModelResponse:
        """Check and send a request on the running event loop."""
        built = model_request(self.provider, {**fields, **request})
        self.client.check(built)
        services = Services(http=self.http, secrets=self.secrets, log=self._logger, **self.services)
        self.calls = OutsideCalls()
        call = StepCall("ask", {}, {}, INFO, services, lambda pointer: pointer, self.calls)
        return await self.client.send(built, call, None if self.connection is None else "llm")

    def send(self, fields: Mapping[str, Any] | None = None, **request: Any) -> ModelResponse:
        """Check and send a request."""

        async def main() -> ModelResponse:
            try:
                return await self.send_async(fields or {}, **request)
            finally:
                await self.http.close()

        return asyncio.run(main())

    def failure(self, fields: Mapping[str, Any] | None = None, **request: Any) -> StepError:
        """Return the error of a request."""
        try:
            answer = self.send(fields, **request)
        except StepError as error:
            return error
        raise AssertionError(f"no error, but {answer}")
