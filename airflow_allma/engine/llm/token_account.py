"""Tokens and their price, added up by model."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Self

import msgspec

from airflow_allma.common.counted import counted
from airflow_allma.common.json_form import JsonForm
from airflow_allma.common.printable import printable, shortened
from airflow_allma.engine.llm.model_request import TokenUsage

__all__ = ["MAX_MODELS", "OTHER_MODELS", "ModelPrice", "TokenAccount", "TokenTotals"]

MAX_MODELS: Final = 1_000
"""Maximum number of models with totals of their own: data can name models."""

OTHER_MODELS: Final = "other models"
"""The name under which the models above ``MAX_MODELS`` are added up."""

_MILLION: Final = 1_000_000
_MAX_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The price of a model.

    Attributes:
        input_per_million: of a million input tokens.
        output_per_million: of a million output tokens.
        currency: such as ``USD``.
    """

    input_per_million: float
    output_per_million: float
    currency: str = "USD"

    def of(self, usage: TokenUsage) -> float:
        """Return the price of a call."""
        total = usage.input_tokens * self.input_per_million + usage.output_tokens * self.output_per_million
        return total / _MILLION


class TokenTotals(JsonForm, msgspec.Struct, rename="camel", omit_defaults=True):
    """What the calls of one model took.

    Attributes:
        calls: answers of the model, also those that a step could not use.
        input_tokens: their input tokens.
        output_tokens: their output tokens.
        cached_answers: answers from the cache of ``[allma] llm_cache``, which took no tokens.
        costs: currency -> price, if ``[allma] llm_prices`` has the model's.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_answers: int = 0
    costs: dict[str, float] = {}

    def add(self, other: TokenTotals) -> None:
        """Add the totals of other calls of the model."""
        self.calls += other.calls
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_answers += other.cached_answers
        # A new one: the default is shared.
        self.costs = {
            currency: self.costs.get(currency, 0.0) + other.costs.get(currency, 0.0)
            for currency in {**self.costs, **other.costs}
        }


class TokenAccount:
    """The totals of all calls, by model. Safe to share between threads."""

    def __init__(self) -> None:
        self._totals: dict[str, TokenTotals] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """Return whether a model was called."""
        return bool(self._totals)

    def count(self, model: str, usage: TokenUsage, price: ModelPrice | None) -> None:
        """Add one answer of a model."""
        costs = {} if price is None else {price.currency: price.of(usage)}
        self._add(model, TokenTotals(1, usage.input_tokens, usage.output_tokens, 0, costs))

    def count_cached(self, model: str) -> None:
        """Add one answer that was kept from an earlier call."""
        self._add(model, TokenTotals(cached_answers=1))

    def merge(self, saved: Mapping[str, Any]) -> None:
        """Add what ``to_dict`` of another account returned."""
        for model, totals in saved.items():
            self._add(model, TokenTotals.from_dict(totals))

    def lines(self) -> list[str]:
        """Return one line for each model, for logs."""
        with self._lock:
            return [_line(model, totals) for model, totals in sorted(self._totals.items())]

    def to_dict(self) -> dict[str, Any]:
        """Return the totals as JSON: model -> totals."""
        with self._lock:
            return {model: totals.to_dict() for model, totals in sorted(self._totals.items())}

    @classmethod
    def sum_of(cls, *saved: Mapping[str, Any]) -> Self:
        """Return the account of several that were saved with ``to_dict``."""
        account = cls()
        for one in saved:
            account.merge(one)
        return account

    def _add(self, model: str, totals: TokenTotals) -> None:
        with self._lock:
            if model not in self._totals and len(self._totals) >= MAX_MODELS:
                model = OTHER_MODELS
            self._totals.setdefault(model, TokenTotals()).add(totals)


def _line(model: str, totals: TokenTotals) -> str:
    parts = [counted(totals.calls, "answer")]
    parts.append(f"{totals.input_tokens:,} tokens in, {totals.output_tokens:,} out")
    if totals.cached_answers:
        parts.append(f"{totals.cached_answers:,} from the cache")
    parts += [f"{_money(amount)} {currency}" for currency, amount in sorted(totals.costs.items())]
    return f"{shortened(printable(model), _MAX_NAME)}: {', '.join(parts)}"


def _money(amount: float) -> str:
    """Return a sum with two decimals; one below 1 with two significant digits."""
    return f"{Decimal(f'{amount:.2g}'):f}" if 0 < amount < 1 else f"{amount:,.2f}"
