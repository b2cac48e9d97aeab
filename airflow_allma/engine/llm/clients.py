"""The table of clients: one for each model provider."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from airflow_allma.engine.llm.anthropic import AnthropicClient
from airflow_allma.engine.llm.bedrock import BedrockClient
from airflow_allma.engine.llm.gemini import GeminiClient
from airflow_allma.engine.llm.lambda_model import LambdaModelClient
from airflow_allma.engine.llm.model_client import ModelClient
from airflow_allma.engine.llm.openai import OpenAiClient
from airflow_allma.flow.steps.llm import LlmProvider

__all__ = ["CLIENTS"]

CLIENTS: Final[Mapping[LlmProvider, ModelClient]] = MappingProxyType(
    {
        LlmProvider.ANTHROPIC: AnthropicClient(),
        LlmProvider.AWS_BEDROCK: BedrockClient(),
        LlmProvider.CUSTOM_LAMBDA: LambdaModelClient(),
        LlmProvider.GEMINI: GeminiClient(),
        LlmProvider.OPENAI: OpenAiClient(),
    }
)
"""Provider -> its client. The clients cache what they parse from connections."""
