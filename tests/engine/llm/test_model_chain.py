"""Which models are asked, in which order, and when: fallbacks, the circuit breaker, rate limits."""

from __future__ import annotations

import pytest

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.llm.model_request import FinishReason, RateLimitedError, TokenUsage
from airflow_allma.engine.secrets import Secrets
from airflow_allma.exceptions import PermanentStepError, TransientStepError
from tests.support.engine import fork, run
from tests.support.mail_steps import Connections
from tests.support.model_steps import FakeModels, answer, ask, model_step

DOWN = TransientStepError("503 from the model")
WRONG_KEY = PermanentStepError("401", error_name="ModelAuthenticationError")
WRONG_ITEM = PermanentStepError("400", details={"status": 400})
FALLBACK = [{"llmProvider": "ANTHROPIC", "modelId": "second"}]


def test_the_first_model_answers_and_no_other_is_asked():
    models = FakeModels()
    ran = ask(models, step=model_step(fallbacks=FALLBACK))
    assert ran.outputs["ask"] == {"llm_response": "fine"}
    assert models.asked == ["main"]


def test_a_failing_model_is_tried_three_times_before_the_next():
    models = FakeModels({"main": [DOWN]})
    ran = ask(models, step=model_step(fallbacks=FALLBACK))
    assert ran.status == "COMPLETED"
    assert models.asked == ["main"] * 3 + ["second"]
    assert ran.fakes.sleeps == [0.5, 1.0]


@pytest.mark.parametrize(
    "error", [WRONG_KEY, WRONG_ITEM, answer(None, finish=FinishReason.REFUSED, refusal="no")]
)
def test_an_error_that_repeats_leads_to_the_next_model_at_once(error):
    models = FakeModels({"main": [error]})
    assert ask(models, step=model_step(fallbacks=FALLBACK)).status == "COMPLETED"
    assert models.asked == ["main", "second"]


def test_an_answer_without_json_leads_to_the_next_model():
    models = FakeModels({"main": [answer("prose")], "second": [answer('{"ok": true}')]})
    ran = ask(models, step=model_step(fallbacks=FALLBACK, customConfig={"jsonOutputMode": True}))
    assert ran.outputs["ask"] == {"ok": True}
    assert models.asked == ["main", "second"]


def test_a_model_that_lacks_a_tool_leads_to_the_next_one():
    models = FakeModels(refused={"main": "no such tool"})
    assert ask(models, step=model_step(fallbacks=FALLBACK)).status == "COMPLETED"
    assert models.asked == ["second"]


def test_a_step_fails_with_the_error_of_its_last_model():
    models = FakeModels({"main": [WRONG_KEY], "second": [PermanentStepError("unknown model")]})
    ran = ask(models, step=model_step(fallbacks=FALLBACK))
    assert ran.error["errorMessage"] == "unknown model"


def test_a_forbidden_string_fails_the_step_and_asks_no_other_model():
    models = FakeModels({"main": [answer("The SECRET word")]})
    step = model_step(fallbacks=FALLBACK, securityValidatorConfig={"forbiddenStrings": ["secret"]})
    ran = ask(models, step=step)
    assert ran.error["errorName"] == "SecurityViolationError"
    assert models.asked == ["main"]


def test_a_fallback_has_its_own_parameters_and_tools_or_those_of_the_step():
    tool = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}
    models = FakeModels({"main": [WRONG_ITEM], "second": [WRONG_ITEM]})
    step = model_step(
        inferenceParameters={"temperature": 0.1, "seed": 7},
        tools=[tool],
        toolChoice="required",
        fallbacks=[
            {"llmProvider": "OPENAI", "modelId": "second", "inferenceParameters": {"topK": 5}},
            {"llmProvider": "GEMINI", "modelId": "third", "tools": [{"type": "google_search"}]},
        ],
    )
    ask(models, step=step)
    main, second, third = models.requests
    assert (main.parameters.temperature, main.parameters.seed) == (0.1, 7)
    assert (second.parameters.temperature, second.parameters.seed, second.parameters.top_k) == (0.7, None, 5)
    assert [tool.name for tool in second.tools] == ["f"]
    assert [tool.type for tool in third.tools] == ["google_search"]


def test_fallbacks_use_the_connection_of_the_step_only_if_they_have_its_provider():
    models = FakeModels({name: [WRONG_ITEM] for name in ("main", "b", "c")})
    step = model_step(
        connection="own",
        fallbacks=[
            {"llmProvider": "OPENAI", "modelId": "b"},
            {"llmProvider": "GEMINI", "modelId": "c"},
            {"llmProvider": "ANTHROPIC", "modelId": "d", "connection": "theirs"},
        ],
    )
    ask(models, step=step, settings={"llm_connections": '{"GEMINI": "google", "OPENAI": "other"}'})
    assert models.connections == ["own", "own", "google", "theirs"]


@pytest.mark.parametrize(
    ("secret", "is_sent"),
    [
        (ConnectionSecret("own", "http", password="key"), False),
        (ConnectionSecret("own", "openai", password="key"), False),
        (ConnectionSecret("own", "http", "https://gateway.test", password="key"), True),
        (ConnectionSecret("own", "google_cloud_platform"), True),
    ],
)
def test_data_that_names_the_provider_does_not_decide_who_gets_the_key(secret, is_sent):
    models = FakeModels()
    step = model_step(llmProvider="{{provider}}", connection="own")
    ran = ask(models, {"provider": "GEMINI"}, step=step, secrets=Secrets(Connections(secret)))
    assert bool(models.requests) is is_sent
    if not is_sent:
        assert "Connection 'own' has no host, and `llmProvider` is computed" in ran.error["errorMessage"]


# A chunk


def chunk(models, items, **fields):
    steps = {
        "all": fork("ask", config={"maxConcurrency": fields.pop("concurrency", 1)}),
        "ask": model_step(**fields),
    }
    return run(steps, {"items": list(range(items))}, models=models.services())


def test_a_failing_primary_costs_no_item_and_is_asked_five_times_in_all():
    models = FakeModels({"main": [DOWN]})
    ran = chunk(models, 50, fallbacks=FALLBACK)
    assert ran.status == "COMPLETED"
    assert len(ran.outputs["all"]["aggregatedData"]) == 50
    # Item 0: three tries; item 1: two, which open the circuit; from then on the second model alone.
    assert models.asked == ["main"] * 3 + ["second"] + ["main"] * 2 + ["second"] * 49


def test_requests_that_are_not_valid_do_not_open_the_circuit():
    models = FakeModels({"main": [WRONG_ITEM] * 20 + [answer()]})
    chunk(models, 40, fallbacks=FALLBACK)
    assert models.asked.count("main") == 40
    assert models.asked.count("second") == 20


@pytest.mark.parametrize("name", ["ModelAuthenticationError", "ModelNotFoundError", "InsufficientQuotaError"])
def test_an_error_of_key_model_or_account_opens_the_circuit(name):
    models = FakeModels({"main": [PermanentStepError("no", error_name=name)]})
    chunk(models, 40, fallbacks=FALLBACK)
    assert models.asked.count("main") == 5


def test_a_model_without_a_fallback_is_asked_although_it_keeps_failing():
    models = FakeModels({"main": [WRONG_KEY] * 10 + [answer()]})
    chunk(models, 20)
    assert models.asked.count("main") == 20


# Rate limits


def test_a_rate_limited_call_is_sent_again_and_costs_no_try():
    models = FakeModels({"main": [RateLimitedError("429", retry_after=0.01)] * 8 + [answer()]})
    ran = ask(models)
    assert ran.status == "COMPLETED"
    assert len(models.asked) == 9
    assert ran.fakes.record("ask").tries == 1


def test_a_step_fails_if_its_provider_asks_to_wait_for_an_hour():
    models = FakeModels({"main": [RateLimitedError("429: daily limit", retry_after=3600)]})
    ran = ask(models)
    assert ran.error["errorName"] == "RateLimitExceededError"
    assert "429: daily limit (rate limited, it asks to wait 3600 s)" in ran.error["errorMessage"]
    assert len(models.asked) == 1


def test_a_call_that_stays_rate_limited_fails_with_the_number_of_attempts_and_warns_once(caplog):
    models = FakeModels({"main": [RateLimitedError("429", retry_after=0.001)]})
    ran = ask(models)
    assert "429 (rate limited, 100 times, it asks to wait 0.001 s)" in ran.error["errorMessage"]
    assert len(models.asked) == 100
    warnings = [message for message in caplog.messages if message.startswith("Rate limited")]
    times = "a call got 429 5 times; it is sent again, up to 100 times"
    assert warnings == [f"Rate limited: {times} (model OPENAI/main, step ask)"]


def test_a_few_429_responses_cause_no_warning(caplog):
    ask(FakeModels({"main": [RateLimitedError("429", retry_after=0.001)] * 4 + [answer()]}))
    assert not caplog.messages


def test_all_items_of_a_chunk_wait_after_one_of_them_is_rate_limited():
    models = FakeModels({"main": [RateLimitedError("429", retry_after=0.2), answer()]})
    ran = chunk(models, 30, concurrency=30)
    assert ran.status == "COMPLETED"
    # Eight calls are in flight at first; the one that was rate limited is sent again.
    assert len(models.asked) == 31
    assert models.most_in_flight <= 8


# Tokens


def test_tokens_and_costs_include_answers_that_the_step_could_not_use():
    models = FakeModels(
        {
            "main": [answer("prose", usage=TokenUsage(100, 20))],
            "second": [answer("{}", usage=TokenUsage(7, 3))],
        }
    )
    prices = '{"OPENAI/main": {"inputPerMillion": 2, "outputPerMillion": 10}}'
    used = models.services(llm_prices=prices)
    run({"ask": model_step(fallbacks=FALLBACK, customConfig={"jsonOutputMode": True})}, models=used)
    assert used.account.to_dict() == {
        "ANTHROPIC/second": {"calls": 1, "inputTokens": 7, "outputTokens": 3},
        "OPENAI/main": {
            "calls": 1,
            "inputTokens": 100,
            "outputTokens": 20,
            "costs": {"USD": pytest.approx(0.0004)},
        },
    }


@pytest.mark.parametrize("model", ["..", "a\nb", "\x1b[31m", "\ud800", "x" * 2_049])
def test_what_is_no_name_of_a_model_is_not_sent(model):
    models = FakeModels()
    ran = ask(models, {"model": model}, step=model_step(modelId="{{model}}"))
    assert ran.error["errorMessage"].startswith("`modelId` is ")
    assert len(ran.error["errorMessage"]) < 400
    assert models.asked == []
