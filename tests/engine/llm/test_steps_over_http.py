"""Steps that ask models of all providers over loopback, which check requests as the providers do."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from airflow_allma.engine import EngineSettings
from airflow_allma.engine.llm.model_services import ModelServices
from airflow_allma.storage import LocalStore
from airflow_allma.storage.keys import OffloadLocation
from demo.model_servers import Behaviour, CalledTool, Limit
from tests.support.engine import fork, run
from tests.support.fake_lambda import fake_lambda
from tests.support.model_runs import PROVIDERS, ask, model_step
from tests.support.model_servers import KEY
from tests.support.moto import EndpointClients

__all__ = ["fake_lambda"]

PNG = {"base64": "iVBORw0KGgo=", "mimeType": "image/png"}
PDF = {"base64": "JVBERi0xLjQ=", "mimeType": "application/pdf"}
FIND = {
    "type": "function",
    "name": "find_order",
    "description": "Finds an order.",
    "parameters": {"type": "object", "properties": {"number": {"type": "string"}}},
}
UNAVAILABLE = Behaviour(outcomes=(503,))


def no_key_in(ended):
    shown = json.dumps(ended.context) + repr(ended.error) + repr(ended.fakes.records)
    return KEY not in shown


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_provider_answers_with_json_and_its_tokens(models, provider):
    models.configure(fake=Behaviour(answer='{"category": "billing"}', wrap="fence", cached_tokens=4))
    step = model_step(
        provider,
        customConfig={"jsonOutputMode": True},
        inferenceParameters={"temperature": 0.2, "maxOutputTokens": 50},
        outputMappings={"$.category": "$.category", "$.tokens": "$._meta.tokenUsage"},
    )
    ended = ask(models, step)
    assert ended.status == "COMPLETED", ended.error
    assert ended.context["category"] == "billing"
    # "```json", two words of JSON, "```"; OpenAI also gets the sentence "Answer with JSON."
    words = 5 if provider == "OPENAI" else 2
    assert ended.context["tokens"] == {"inputTokens": words + 4, "outputTokens": 4}
    assert no_key_in(ended)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_provider_takes_pictures_documents_and_functions(models, provider):
    models.configure(fake=Behaviour(tool_calls=(CalledTool(name="find_order", args={"number": "7"}),)))
    choice = {"type": "function", "name": "find_order"}
    step = model_step(provider, mediaAttachments=[PNG, PDF], tools=[FIND], toolChoice=choice)
    ended = ask(models, step)
    assert ended.status == "COMPLETED", ended.error
    (called,) = ended.outputs["ask"]["tool_calls"]
    assert (called["name"], called["args"]) == ("find_order", {"number": "7"})


TOOLS = [
    ("OPENAI", "web_search"),
    ("ANTHROPIC", "web_search"),
    ("ANTHROPIC", "code_execution"),
    ("GEMINI", "google_search"),
    ("GEMINI", "code_execution"),
]


@pytest.mark.parametrize(("provider", "tool"), TOOLS)
def test_each_provider_takes_its_own_tools(models, provider, tool):
    ended = ask(models, model_step(provider, tools=[{"type": tool}]))
    assert ended.status == "COMPLETED", ended.error
    assert ended.outputs["ask"]["llm_response"] == "OK"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("fault", [500, 503, "cut", "reset"])
def test_a_step_is_retried_after_a_temporary_fault(models, provider, fault):
    models.configure(fake=Behaviour(outcomes=(fault, fault, 200)))
    ended = ask(models, model_step(provider))
    assert ended.status == "COMPLETED", ended.error
    assert models.stats["calls"] == 3


LASTING = [
    (Behaviour(outcomes=(401,), echo_key=True), "ModelAuthenticationError"),
    (Behaviour(outcomes=(404,)), "ModelNotFoundError"),
    (Behaviour(outcomes=(400,), error_message=f"The key {KEY} is of another project"), "PermanentStepError"),
    (Behaviour(outcomes=("html",)), "PermanentStepError"),
    (Behaviour(outcomes=("garbage",)), "PermanentStepError"),
    (Behaviour(refusal="I will not"), "ModelRefusalError"),
    (Behaviour(blocked="answer"), "ModelRefusalError"),
]


@pytest.mark.parametrize("provider", PROVIDERS[:3])
@pytest.mark.parametrize(("behaviour", "name"), LASTING)
def test_an_error_that_lasts_fails_the_step_at_once_without_the_key(models, provider, behaviour, name):
    models.configure(fake=behaviour)
    ended = ask(models, model_step(provider))
    assert (ended.status, ended.error["errorName"]) == ("FAILED", name)
    assert models.stats["calls"] == 1
    assert no_key_in(ended)


def test_the_next_provider_is_asked_when_one_keeps_failing(models):
    models.configure_all(
        {"main": UNAVAILABLE, "second": Behaviour(answer="I cannot"), "third": Behaviour(answer="[1]")}
    )
    step = model_step(
        modelId="main",
        customConfig={"jsonOutputMode": True},
        fallbacks=[
            {"llmProvider": "ANTHROPIC", "modelId": "second"},
            {"llmProvider": "GEMINI", "modelId": "third"},
        ],
        outputMappings={"$.answer": "$.llm_response", "$.by": "$._meta.llmInvocationParameters.modelId"},
    )
    ended = ask(models, step)
    assert (ended.context["answer"], ended.context["by"]) == ([1], "third")
    assert models.stats["models"] == {"main": 3, "second": 1, "third": 1}


def test_a_model_that_keeps_failing_is_skipped_for_the_items_after(models):
    models.configure_all({"main": UNAVAILABLE, "second": Behaviour()})
    step = model_step(modelId="main", fallbacks=[{"llmProvider": "OPENAI", "modelId": "second"}])
    items = fork("ask", config={"maxConcurrency": 1}, outputMappings={"$.all": "$.aggregatedData"})
    ended = ask(models, None, {"items": list(range(20))}, steps={"all": items, "ask": step})
    assert ended.context["all"] == [{"llm_response": "OK"}] * 20
    assert models.stats["models"] == {"main": 5, "second": 20}


# Bedrock rejects credentials with 403.
WRONG_SETUP = [(vendor, status) for vendor in PROVIDERS for status in (401, 403, 404)]
WRONG_SETUP.remove(("AWS_BEDROCK", 401))


@pytest.mark.parametrize(("provider", "status"), WRONG_SETUP)
def test_a_model_whose_key_or_name_is_wrong_is_skipped_for_the_items_after(models, provider, status):
    models.configure_all({"main": Behaviour(outcomes=(status,)), "second": Behaviour()})
    step = model_step(provider, modelId="main", fallbacks=[{"llmProvider": provider, "modelId": "second"}])
    items = fork("ask", config={"maxConcurrency": 1}, outputMappings={"$.all": "$.aggregatedData"})
    ended = ask(models, None, {"items": list(range(8))}, steps={"all": items, "ask": step})
    assert ended.context["all"] == [{"llm_response": "OK"}] * 8
    assert models.stats["models"] == {"main": 5, "second": 8}


def test_an_account_without_quota_is_skipped_for_the_items_after(models):
    broke = Behaviour(outcomes=(429,), error_code="insufficient_quota")
    models.configure_all({"main": broke, "second": Behaviour()})
    step = model_step(modelId="main", fallbacks=[{"llmProvider": "OPENAI", "modelId": "second"}])
    items = fork("ask", config={"maxConcurrency": 1})
    ended = ask(models, None, {"items": list(range(8))}, steps={"all": items, "ask": step})
    assert ended.status == "COMPLETED", ended.error
    assert models.stats["models"] == {"main": 5, "second": 8}


def test_a_function_that_does_not_exist_is_skipped_for_the_items_after(fake_lambda):
    step = model_step(
        "CUSTOM_LAMBDA", modelId="missing", fallbacks=[{"llmProvider": "CUSTOM_LAMBDA", "modelId": "second"}]
    )
    fake_lambda.answer("second", (200, {}, b'{"outputData": {"text": "OK"}}'))
    items = fork("ask", config={"maxConcurrency": 1})
    clients = EndpointClients(fake_lambda.url)
    ended = run({"all": items, "ask": step}, {"items": list(range(8))}, aws=clients, models=ModelServices())
    assert ended.status == "COMPLETED", ended.error
    asked = Counter(function for function, *_ in fake_lambda.requests)
    assert asked == {"missing": 5, "second": 8}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("headers", [True, False])
def test_no_item_fails_when_the_rate_limit_is_exceeded(models, provider, headers):
    models.configure(fake=Behaviour(limit=Limit(requests=20, seconds=0.5, headers=headers)))
    items = fork("ask", outputMappings={"$.all": "$.aggregatedData"})
    steps = {"all": items, "ask": model_step(provider)}
    ended = ask(models, None, {"items": list(range(60))}, steps=steps)
    assert ended.status == "COMPLETED", ended.error
    assert ended.context["all"] == [{"llm_response": "OK"}] * 60
    assert models.stats["statuses"]["200"] == 60


MODELS = [
    ("OPENAI", "o3-mini", Behaviour(reasoning=True)),
    ("OPENAI", "gpt-5", Behaviour(reasoning=True)),
    ("OPENAI", "gpt-4-turbo", Behaviour(max_output_tokens=4096)),
    ("ANTHROPIC", "claude-3-haiku-20240307", Behaviour(max_output_tokens=4096, one_sampling_parameter=True)),
    ("ANTHROPIC", "claude-opus-4-1", Behaviour(one_sampling_parameter=True)),
    ("AWS_BEDROCK", "eu.anthropic.claude-3-5-sonnet-20240620-v1:0", Behaviour(max_output_tokens=8192)),
    ("AWS_BEDROCK", "anthropic.claude-opus-4-1-20250805-v1:0", Behaviour(one_sampling_parameter=True)),
]


@pytest.mark.parametrize(("provider", "model", "behaviour"), MODELS)
def test_defaults_that_a_model_rejects_are_not_sent(models, provider, model, behaviour):
    models.configure_all({model: behaviour})
    step = model_step(provider, modelId=model, customConfig={"maxTokensField": "max_completion_tokens"})
    ended = ask(models, step)
    assert ended.status == "COMPLETED", ended.error


def test_a_cached_answer_costs_no_call_and_is_stored_without_the_key(models, tmp_path):
    services = {
        "store": LocalStore(tmp_path),
        "settings": EngineSettings(offload_location=OffloadLocation("bucket")),
    }
    for prompt in ("Say OK", "Say OK", "Say OK twice"):
        ended = ask(models, model_step(directPrompt=prompt), cache=True, **services)
        assert ended.outputs["ask"] == {"llm_response": "OK"}
    assert models.stats["calls"] == 2
    kept = [file.read_bytes() for file in tmp_path.rglob("*.json")]
    assert len(kept) == 2
    assert not any(KEY.encode() in content for content in kept)
