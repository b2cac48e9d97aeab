"""What the model steps of one process share: connections, rate limits, prices, failures and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from airflow_allma.common.json_reader import decode_object
from airflow_allma.common.nearest import nearest
from airflow_allma.engine.llm.circuit_breaker import CircuitBreaker
from airflow_allma.engine.llm.model_request import ModelName
from airflow_allma.engine.llm.pace import Allowance
from airflow_allma.engine.llm.rate_limiters import RateLimiters
from airflow_allma.engine.llm.token_account import ModelPrice, TokenAccount
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow.steps.llm import LlmProvider

__all__ = ["ModelServices"]

_LIMIT_FIELDS: Final = ("requestsPerMinute", "tokensPerMinute")
_PRICE_FIELDS: Final = ("inputPerMillion", "outputPerMillion", "currency")
_CURRENCY_LENGTH: Final = 16
_ANY: Final = "*"
_EXAMPLES: Final = {
    "llm_connections": '{"OPENAI": "my_connection"}',
    "llm_limits": '{"OPENAI/gpt-4o-mini": {"requestsPerMinute": 500}}',
    "llm_prices": '{"OPENAI/gpt-4o-mini": {"inputPerMillion": 0.15, "outputPerMillion": 0.6}}',
}
_MAX_NUMBER: Final = 1e15


@dataclass
class ModelServices:
    """What the model steps of one process share.

    The strings are JSON objects from ``[allma]``; one that is not valid fails the steps that need it.

    Attributes:
        llm_connections: provider -> id of the connection.
        llm_limits: ``PROVIDER/model``, ``PROVIDER`` or ``*`` -> ``{"requestsPerMinute", "tokensPerMinute"}``.
        llm_prices: likewise -> ``{"inputPerMillion", "outputPerMillion", "currency"}``.
        llm_cache: whether answers are cached.
        clients: provider -> its ``ModelClient``; None for those of this package.
        breaker: the circuits of models.
        account: the tokens of all calls.
        limiters: the rate limiters of models; they raise PermanentStepError if the setting of limits is not
            valid.
        has_warned_of_cache: whether the log says that cached answers need an offload location.
    """

    llm_connections: str = ""
    llm_limits: str = ""
    llm_prices: str = ""
    llm_cache: bool = False
    clients: Mapping[LlmProvider, Any] | None = None
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    account: TokenAccount = field(default_factory=TokenAccount)
    limiters: RateLimiters = field(init=False)
    has_warned_of_cache: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.limiters = RateLimiters(self._allowance)

    def connection_of(self, provider: LlmProvider) -> str | None:
        """Return the id of a provider's connection; None if the setting names none.

        Raises:
            PermanentStepError: the setting is not valid.
        """
        return self._connections.get(provider)

    def price(self, model: ModelName) -> ModelPrice | None:
        """Return the price of a model; None if the setting has none.

        Raises:
            PermanentStepError: the setting is not valid.
        """
        price: ModelPrice | None = _find(self._prices, model)
        return price

    def _allowance(self, model: ModelName) -> Allowance:
        return _find(self._allowances, model) or Allowance()

    @cached_property
    def _connections(self) -> Mapping[str, str]:
        connections = _object_of("llm_connections", self.llm_connections)
        for provider, connection in connections.items():
            if provider not in set(LlmProvider):
                raise _wrong("llm_connections", f"{provider!r} is not a provider{_provider_hint(provider)}")
            if not isinstance(connection, str) or not connection:
                raise _wrong("llm_connections", f"{provider!r} needs the id of a connection")
        return connections

    @cached_property
    def _allowances(self) -> Mapping[str, Allowance]:
        allowances = {}
        for model, entry in _object_of("llm_limits", self.llm_limits).items():
            _check_model("llm_limits", model)
            _check_fields("llm_limits", model, entry, _LIMIT_FIELDS)
            requests, tokens = (
                _number("llm_limits", model, entry, name, above_zero=True) for name in _LIMIT_FIELDS
            )
            allowances[model] = Allowance(requests, tokens)
        return allowances

    @cached_property
    def _prices(self) -> Mapping[str, ModelPrice]:
        prices = {}
        for model, entry in _object_of("llm_prices", self.llm_prices).items():
            _check_model("llm_prices", model)
            _check_fields("llm_prices", model, entry, _PRICE_FIELDS)
            per_input, per_output = (_number("llm_prices", model, entry, name) for name in _PRICE_FIELDS[:2])
            currency = entry.get("currency", "USD")
            if not isinstance(currency, str) or not 0 < len(currency) <= _CURRENCY_LENGTH:
                raise _wrong("llm_prices", f"currency of {model!r} must be a string such as USD")
            prices[model] = ModelPrice(per_input or 0.0, per_output or 0.0, currency)
        return prices


def _find(entries: Mapping[str, Any], model: ModelName) -> Any:
    """Return the entry for a model, for its provider or for all; None if there is none."""
    keys = (str(model), model.provider.value, _ANY)
    return next((entries[key] for key in keys if key in entries), None)


def _object_of(setting: str, text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    value = decode_object(text)
    if value is None:
        raise _wrong(setting, "it must be a JSON object such as " + _EXAMPLES[setting])
    return value


def _check_model(setting: str, key: str) -> None:
    """Check that a key is ``PROVIDER/model``, ``PROVIDER`` or ``*``: any other would never be used."""
    provider, slash, model = key.partition("/")
    if key != _ANY and (provider not in set(LlmProvider) or (slash and not model)):
        raise _wrong(setting, f"key {key!r} is not PROVIDER/model, PROVIDER or *{_provider_hint(provider)}")


def _provider_hint(name: str) -> str:
    if name in set(LlmProvider):
        return ""
    guess = nearest(name, LlmProvider)
    return f" (did you mean {guess}?)" if guess else f" (providers: {', '.join(LlmProvider)})"


def _check_fields(setting: str, model: str, entry: Any, known: tuple[str, ...]) -> None:
    if not isinstance(entry, dict):
        raise _wrong(setting, f"{model!r} must be an object with {', '.join(known)}")
    unknown = next((name for name in entry if name not in known), None)
    if unknown is not None:
        raise _wrong(setting, f"{unknown!r} of {model!r} is not one of {', '.join(known)}")


def _number(
    setting: str, model: str, entry: Mapping[str, Any], name: str, *, above_zero: bool = False
) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= _MAX_NUMBER or (above_zero and value == 0):
        least = "above 0" if above_zero else "of at least 0"
        raise _wrong(setting, f"{name} of {model!r} must be a number {least}")
    return float(value)


def _wrong(setting: str, reason: str) -> PermanentStepError:
    return PermanentStepError(
        f"[allma] {setting} is not valid: {reason}. Correct it in Airflow's configuration, or in "
        f"AIRFLOW__ALLMA__{setting.upper()}."
    )
