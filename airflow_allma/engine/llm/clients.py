"""The clients of the providers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from airflow_allma.engine.llm.model_client import ModelClient
from airflow_allma.flow.steps.llm import LlmProvider

__all__ = ["CLIENTS"]

CLIENTS: Final[Mapping[LlmProvider, ModelClient]] = MappingProxyType({})
"""Provider -> its client."""
