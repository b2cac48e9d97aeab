"""The accounts of model calls: of a step, of an item, of a fork and of a run."""

from __future__ import annotations

import json

import pytest

from airflow_allma.operators.xcoms import Key
from demo.model_servers import Behaviour, running_models
from tests.airflow.flows import fork

pytestmark = pytest.mark.airflow

ITEMS = [{"id": number, "text": "one two three"} for number in range(4)]
PRICES = {"OPENAI/small": {"inputPerMillion": 1000, "outputPerMillion": 2000}}


@pytest.fixture
def models(monkeypatch):
    with running_models() as server:
        server.configure(small=Behaviour(answer="OK then"), large=Behaviour(answer="OK"))
        connection = {"conn_type": "http", "host": f"{server.url}/v1", "password": "sk-a-key-of-tests"}
        monkeypatch.setenv("AIRFLOW_CONN_MODELS", json.dumps(connection))
        monkeypatch.setenv("AIRFLOW__ALLMA__LLM_CONNECTIONS", '{"OPENAI": "models"}')
        monkeypatch.setenv("AIRFLOW__ALLMA__LLM_PRICES", json.dumps(PRICES))
        yield server


def ask(model, prompt, **more):
    return {
        "stepType": "LLM_INVOCATION",
        "llmProvider": "OPENAI",
        "modelId": model,
        "directPrompt": prompt,
        **more,
    }


def flow(name, **airflow):
    return {
        "id": name,
        "startStepInstanceId": "first",
        "steps": {
            "first": ask("large", "Say OK", defaultNextStepInstanceId="fork"),
            "fork": fork({"branchId": "b", "stepInstanceId": "each"}),
            "each": ask("small", "Read: {{currentItem.text}}"),
        },
        "airflow": airflow,
    }


@pytest.mark.parametrize("place", ["mapped tasks", "a chunk"])
def test_tokens_are_added_up_by_fork_and_run(pages, models, place):
    name = f"tokens-{place.replace(' ', '-')}"
    ran = pages.run(flow(name, maxInMemoryItems=100 if place == "mapped tasks" else 1), {"items": ITEMS})
    assert ran.state == "success"
    asked = [request for request in models.requests if request.body.get("model") == "small"]
    assert len(asked) == len(ITEMS)
    found = {one["model"]: one for one in pages.get(f"/dags/{name}/runs/{ran.run_id}")["tokens"]}
    assert set(found) == {"OPENAI/large", "OPENAI/small"}
    small = found["OPENAI/small"]
    assert small["calls"] == 4
    # The fake counts words.
    assert (small["inputTokens"], small["outputTokens"]) == (4 * 4, 4 * 2)
    assert small["costs"] == {"USD": pytest.approx((16 * 1000 + 8 * 2000) / 1_000_000)}
    assert "costs" not in found["OPENAI/large"]
    of_fork = ran.xcom("fork.aggregate", -1, Key.FORK_TOKENS.value)
    assert of_fork == {"OPENAI/small": {name: value for name, value in small.items() if name != "model"}}


def test_the_trace_of_a_step_has_the_tokens_of_its_answers(pages, models):
    ran = pages.run(flow("tokens-of-a-step"), {"items": ITEMS[:1]})
    step = pages.get(f"/dags/tokens-of-a-step/runs/{ran.run_id}/steps/first")
    [request, answer] = step["trace"][0]["calls"]
    assert (request["service"], request["status"]) == ("http", 200)
    assert (answer["service"], answer["target"]) == ("model", "OPENAI/large")
    assert (answer["inputTokens"], answer["outputTokens"]) == (2, 1)


def test_a_run_without_models_has_no_account(pages):
    steps = {"id": "no-tokens", "startStepInstanceId": "a", "steps": {"a": {"stepType": "NO_OP"}}}
    ran = pages.run(steps, {})
    assert pages.get(f"/dags/no-tokens/runs/{ran.run_id}")["tokens"] == []
    assert not [key for _, _, key in ran.xcoms if "tokens" in key]
