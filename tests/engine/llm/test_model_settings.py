from __future__ import annotations

import pytest

from airflow_allma.engine.llm.model_request import ModelName, TokenUsage
from airflow_allma.engine.llm.model_services import ModelServices
from airflow_allma.engine.llm.token_account import TokenAccount
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow.steps.llm import LlmProvider

MODEL = ModelName(LlmProvider.OPENAI, "gpt")
PRICE = '{"inputPerMillion": 1, "outputPerMillion": 2}'


def use(setting, text):
    """Call what needs a setting."""
    services = ModelServices(**{setting: text})
    {
        "llm_connections": lambda: services.connection_of(MODEL.provider),
        "llm_limits": lambda: services.limiters.get(MODEL, None),
        "llm_prices": lambda: services.price(MODEL),
    }[setting]()


@pytest.mark.parametrize(
    ("setting", "text", "reason"),
    [
        ("llm_connections", "OPENAI=x", "it must be a JSON object"),
        ("llm_connections", '["OPENAI"]', "it must be a JSON object"),
        ("llm_connections", '{"OPENAPI": "x"}', "'OPENAPI' is not a provider (did you mean OPENAI?). "),
        ("llm_connections", '{"x": "y"}', "'x' is not a provider (providers: GEMINI, ANTHROPIC, "),
        ("llm_limits", "{", '{"OPENAI/gpt-4o-mini": {"requestsPerMinute": 500}}'),
        (
            "llm_limits",
            '{"openai": {}}',
            "key 'openai' is not PROVIDER/model, PROVIDER or * (did you mean OPENAI?). ",
        ),
        ("llm_prices", '{"gpt": {}}', "key 'gpt' is not PROVIDER/model, PROVIDER or * (providers: GEMINI, "),
        (
            "llm_prices",
            '{"OPENAPI/gpt": {}}',
            "key 'OPENAPI/gpt' is not PROVIDER/model, PROVIDER or * (did you mean OPENAI?)",
        ),
        ("llm_prices", '{"OPENAI/": {}}', "key 'OPENAI/' is not PROVIDER/model, PROVIDER or *. "),
        ("llm_prices", "[]", "Airflow's configuration, or in AIRFLOW__ALLMA__LLM_PRICES."),
        ("llm_connections", '{"GEMINI": 1}', "'GEMINI' needs the id of a connection"),
        ("llm_limits", '{"OPENAI": 5}', "'OPENAI' must be an object with requestsPerMinute, tokensPerMinute"),
        ("llm_limits", '{"OPENAI": {"rpm": 5}}', "'rpm' of 'OPENAI' is not one of requestsPerMinute"),
        ("llm_limits", '{"OPENAI": {"requestsPerMinute": 0}}', "must be a number above 0"),
        ("llm_limits", '{"OPENAI": {"requestsPerMinute": true}}', "must be a number above 0"),
        ("llm_limits", '{"OPENAI": {"tokensPerMinute": "9"}}', "must be a number above 0"),
        ("llm_limits", f'{{"OPENAI": {{"tokensPerMinute": 1{"0" * 400}}}}}', "must be a number above 0"),
        ("llm_prices", '{"OPENAI": {"inputPerMillion": -1}}', "must be a number of at least 0"),
        ("llm_prices", '{"OPENAI": {"currency": ""}}', "currency of 'OPENAI' must be a string"),
    ],
)
def test_a_setting_that_is_not_valid_fails_what_needs_it_and_says_why(setting, text, reason):
    with pytest.raises(PermanentStepError, match=setting) as raised:
        use(setting, text)
    assert reason in raised.value.message


@pytest.mark.parametrize(
    ("keys", "expected"),
    [(("*",), 0), (("*", "OPENAI"), 1), (("*", "OPENAI", "OPENAI/gpt"), 2), (("GEMINI",), None)],
)
def test_the_most_specific_entry_is_used(keys, expected):
    entries = ", ".join(f'"{key}": {{"inputPerMillion": {number}}}' for number, key in enumerate(keys))
    price = ModelServices(llm_prices=f"{{{entries}}}").price(MODEL)
    assert (None if price is None else price.input_per_million) == expected


def test_a_model_has_one_rate_limiter_for_each_connection():
    services = ModelServices()
    assert services.limiters.get(MODEL, "a") is services.limiters.get(MODEL, "a")
    assert services.limiters.get(MODEL, "a") is not services.limiters.get(MODEL, "b")


def test_saved_token_totals_can_be_added_up():
    services = ModelServices(llm_prices=f'{{"*": {PRICE}}}')
    one, two = TokenAccount(), TokenAccount()
    one.count("a", TokenUsage(1_000_000, 500_000), services.price(MODEL))
    two.count("a", TokenUsage(1, 2), None)
    two.count("b", TokenUsage(3, 4), None)
    two.count_cached("b")
    total = TokenAccount.sum_of(one.to_dict(), two.to_dict(), {})
    assert total.to_dict() == {
        "a": {"calls": 2, "inputTokens": 1_000_001, "outputTokens": 500_002, "costs": {"USD": 2.0}},
        "b": {"calls": 1, "inputTokens": 3, "outputTokens": 4, "cachedAnswers": 1},
    }
    assert not TokenAccount()
    assert total


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        (0.0000054, "0.0000054 USD"),
        (0.0066, "0.0066 USD"),
        (0.5, "0.5 USD"),
        (4.910178, "4.91 USD"),
        (0.0, "0.00 USD"),
    ],
)
def test_small_costs_are_shown_with_their_first_digits(cost, shown):
    account = TokenAccount()
    account.merge({"OPENAI/m": {"calls": 1, "inputTokens": 1_200, "costs": {"USD": cost}}})
    assert account.lines() == [f"OPENAI/m: 1 answer, 1,200 tokens in, 0 out, {shown}"]
