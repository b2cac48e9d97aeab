"""LLM_INVOCATION steps, and a fake of the clients that call models."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from airflow_allma.engine.llm.model_request import FinishReason, ModelResponse, TokenUsage
from airflow_allma.engine.llm.model_services import ModelServices
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow.steps.llm import LlmProvider
from tests.support.engine import run


def model_step(**fields):
    own_prompt = {} if "promptTemplateId" in fields else {"directPrompt": "Hello"}
    return {"stepType": "LLM_INVOCATION", "llmProvider": "OPENAI", "modelId": "main", **own_prompt, **fields}


def answer(text="fine", **fields):
    usage = fields.pop("usage", TokenUsage(10, 5))
    return ModelResponse(text, fields.pop("finish", FinishReason.STOP), usage, **fields)


@dataclass
class FakeModels:
    """Clients of all providers: they give each model's answers in order, the last one again and again.

    Attributes:
        answers: model id -> answers, or errors to raise.
        refused: model id -> why `check` refuses its requests.
        requests: the requests that were sent.
        connections: the connection of each.
        seconds: how long an answer takes.
    """

    answers: dict = field(default_factory=dict)
    refused: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)
    connections: list = field(default_factory=list)
    seconds: float = 0.0
    in_flight: int = 0
    most_in_flight: int = 0

    def services(self, **settings):
        return ModelServices(clients=dict.fromkeys(LlmProvider, self), **settings)

    @property
    def asked(self):
        return [request.model.model_id for request in self.requests]

    def check(self, request):
        if reason := self.refused.get(request.model.model_id):
            raise PermanentStepError(reason)

    async def send(self, request, call, connection):
        del call
        self.requests.append(request)
        self.connections.append(connection)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.in_flight -= 1
        answers = self.answers.get(request.model.model_id, [answer()])
        given = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(given, Exception):
            raise given
        return given


def ask(models, payload=None, *, settings=None, step=None, **services):
    """Run a flow of one model step over fake models."""
    used = models.services(**(settings or {}))
    return run({"ask": step or model_step()}, payload, models=used, **services)
