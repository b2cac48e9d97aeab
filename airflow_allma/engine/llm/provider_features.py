"""Tools and media types that providers support, and the check of a request against them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from airflow_allma.engine.llm.model_request import (
    PARAMETER_NAMES,
    FunctionTool,
    ModelName,
    ModelRequest,
    ProviderTool,
)
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow.steps.llm import LlmProvider, LlmToolType

__all__ = [
    "MEDIA_TYPES",
    "PDF",
    "IgnoredParameters",
    "arguments_schema",
    "check_features",
    "functions_of",
    "missing_tool",
]

PDF: Final = "application/pdf"
MEDIA_TYPES: Final = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp", PDF})
"""The media types that all providers support."""

_TOOLS: Final[Mapping[LlmToolType, tuple[LlmProvider, ...]]] = {
    LlmToolType.GOOGLE_SEARCH: (LlmProvider.GEMINI, LlmProvider.CUSTOM_LAMBDA),
    LlmToolType.WEB_SEARCH: (
        LlmProvider.ANTHROPIC,
        LlmProvider.OPENAI,
        LlmProvider.AWS_BEDROCK,
        LlmProvider.CUSTOM_LAMBDA,
    ),
    LlmToolType.CODE_EXECUTION: (
        LlmProvider.GEMINI,
        LlmProvider.ANTHROPIC,
        LlmProvider.AWS_BEDROCK,
        LlmProvider.CUSTOM_LAMBDA,
    ),
}
_MAX_WARNED: Final = 1_000


def check_features(request: ModelRequest) -> None:
    """Check that the provider of a request supports its tools and attachments.

    Args:
        request: the request.

    Raises:
        PermanentStepError: the provider does not support one of them.
    """
    provider = request.model.provider
    for tool in request.tools:
        if isinstance(tool, ProviderTool) and provider not in _TOOLS[tool.type]:
            raise missing_tool(tool.type, request.model)
    for one in request.media:
        if one.mime_type not in MEDIA_TYPES:
            raise PermanentStepError(
                f"{provider.value} takes no media of type {one.mime_type!r}, only "
                f"{', '.join(sorted(MEDIA_TYPES))}.",
                details={"provider": provider.value, "mimeType": one.mime_type},
            )


def missing_tool(tool: LlmToolType, model: ModelName, reason: str = "") -> PermanentStepError:
    """Return the error for a tool that a provider does not have; it names the providers that have it.

    Args:
        tool: the tool.
        model: the model that the request is for.
        reason: another sentence about this provider, with a space at its end.
    """
    others = [one.value for one in _TOOLS[tool] if one is not model.provider]
    return PermanentStepError(
        f"{model.provider.value} has no tool {tool.value!r} for model {model.model_id!r}; "
        f"{', '.join(others)} have it. {reason}Remove it from `tools`, or use a model of one of them.",
        details={"provider": model.provider.value, "model": model.model_id, "tool": tool.value},
    )


def functions_of(request: ModelRequest) -> list[FunctionTool]:
    """Return the functions among the tools."""
    return [tool for tool in request.tools if isinstance(tool, FunctionTool)]


def arguments_schema(tool: FunctionTool) -> Mapping[str, Any]:
    """Return the JSON Schema of a function's arguments, with the type ``object``.

    Anthropic rejects schemas without a type.
    """
    return tool.parameters if "type" in tool.parameters else {"type": "object", **tool.parameters}


class IgnoredParameters:
    """Warns once for each model about parameters that a flow sets and the provider does not have."""

    def __init__(self) -> None:
        self._warned: set[tuple[ModelName, str]] = set()

    def warn(self, request: ModelRequest, names: Iterable[str], log: logging.Logger) -> None:
        """Log a warning for each of the parameters that the flow sets.

        Args:
            request: the request.
            names: attributes of ``Parameters`` that have no effect.
            log: receives the warning.
        """
        explicit = request.parameters.explicit
        if not explicit:
            return
        for name in names:
            key = (request.model, name)
            if name in explicit and key not in self._warned:
                if len(self._warned) >= _MAX_WARNED:
                    self._warned.clear()
                self._warned.add(key)
                log.warning(
                    "inferenceParameters.%s has no effect: %s does not have this parameter for model %s",
                    PARAMETER_NAMES[name],
                    request.model.provider.value,
                    request.model.model_id,
                )
