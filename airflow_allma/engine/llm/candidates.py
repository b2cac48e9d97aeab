"""The models that a step tries in order, its own and its fallbacks, each with its request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.common.nearest import nearest
from airflow_allma.common.printable import printable, shortened
from airflow_allma.engine.llm.media import MediaSource, parse_media
from airflow_allma.engine.llm.model_request import (
    PARAMETER_NAMES,
    FunctionTool,
    Media,
    ModelName,
    ModelRequest,
    Parameters,
    ProviderTool,
    ToolChoice,
)
from airflow_allma.engine.llm.tools import parse_tool_choice, parse_tools
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions import NOTHING, Path, compile_config, compile_path
from airflow_allma.expressions.configs import resolve_final_pointer
from airflow_allma.flow import InferenceParameters, LlmFallback, LlmInvocationStep
from airflow_allma.flow.expression_fields import is_computed
from airflow_allma.flow.steps.llm import LlmProvider

__all__ = ["Candidate", "CandidateModel", "StepMedia"]

_MAX_MODEL_ID: Final = 2_048
"""As long as the longest ARN of AWS."""


_PROVIDERS: Final = {provider.value: provider for provider in LlmProvider}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model to try, with the whole request except prompt and attachments.

    Attributes:
        model: the model.
        connection: the id of its connection; None for that of ``[allma] llm_connections``.
        config: the rendered ``customConfig``.
        parameters: the inference parameters.
        tools: the tools that the model can use.
        tool_choice: None for the provider's default.
        is_computed: whether the provider is computed from the run's data.
    """

    model: ModelName
    connection: str | None
    config: Mapping[str, Any]
    parameters: Parameters
    tools: tuple[FunctionTool | ProviderTool, ...]
    tool_choice: ToolChoice | None
    is_computed: bool = False

    @property
    def json_output(self) -> bool:
        """Whether the answer must be JSON; only ``true`` counts."""
        return self.config.get("jsonOutputMode") is True

    def request(self, prompt: str, media: tuple[Media, ...]) -> ModelRequest:
        """Return the request to the model."""
        return ModelRequest(
            self.model,
            prompt,
            media,
            self.tools,
            self.tool_choice,
            self.parameters,
            self.json_output,
            self.config,
        )


class CandidateModel:
    """A model of a step, compiled once per step.

    Args:
        step: the step.
        fallback: the fallback; None for the step's own model. Fields that it does not set are the step's.
        field: the prefix of its fields in messages, such as ``fallbacks[0].``.
    """

    def __init__(self, step: LlmInvocationStep, fallback: LlmFallback | None = None, field: str = "") -> None:
        own = fallback or step
        config = step.custom_config if own.custom_config is None else own.custom_config
        self._field = field
        self._connection = own.connection
        self._is_computed = is_computed(own.llm_provider)
        self._rendered = compile_config(
            {"llmProvider": own.llm_provider, "modelId": own.model_id, "customConfig": config}
        )
        parameters = own.inference_parameters or step.inference_parameters
        self._parameters = _parameters(parameters)
        has_tools = own.tools is not None or own.tools_path is not None
        source: LlmInvocationStep | LlmFallback = own if has_tools else step
        self._tools = (
            [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in source.tools]
            if source.tools
            else None
        )
        self._tools_path = compile_path(source.tools_path) if source.tools_path and not self._tools else None
        self._tool_choice = own.tool_choice if own.tool_choice is not None else step.tool_choice

    def resolve(self, call: StepCall, root: Mapping[str, Any]) -> Candidate:
        """Render the model's fields with the data of one call.

        Args:
            call: the step's call.
            root: the data for templates and paths.

        Raises:
            PermanentStepError: provider, model, tools or tool choice are not valid.
        """
        rendered = self._rendered.render(root, call.load)
        config = rendered["customConfig"]
        model = ModelName(self._provider(rendered["llmProvider"]), self._model_id(rendered["modelId"]))
        listed, field = self._tools, "tools"
        if listed is None and self._tools_path is not None:
            listed, field = _found(self._tools_path, root, call), "toolsPath"
        elif listed is None:
            listed, field = config.get("tools"), "customConfig.tools"
        tools = parse_tools(listed, self._field + field)
        choice = self._tool_choice if self._tool_choice is not None else config.get("toolChoice")
        return Candidate(
            model,
            self._connection,
            config,
            self._parameters,
            tools,
            parse_tool_choice(choice, tools, f"{self._field}toolChoice"),
            self._is_computed,
        )

    def _provider(self, value: Any) -> LlmProvider:
        provider = _PROVIDERS.get(value) if isinstance(value, str) else None
        if provider is not None:
            return provider
        shown = repr(value[:80]) if isinstance(value, str) else "not a string"
        guess = nearest(value, LlmProvider) if isinstance(value, str) else None
        hint = f"Did you mean {guess}?" if guess else f"The providers are {', '.join(LlmProvider)}."
        raise PermanentStepError(f"`{self._field}llmProvider` is {shown}, which is not a provider. {hint}")

    def _model_id(self, value: Any) -> str:
        name = value.strip() if isinstance(value, str) else ""
        if not name:
            raise PermanentStepError(
                f"`{self._field}modelId` is empty: its template finds nothing. Correct it."
            )
        # It is shown in logs, and some providers have it in their URLs.
        if len(name) > _MAX_MODEL_ID or not name.isprintable() or not name.strip("."):
            raise PermanentStepError(
                f"`{self._field}modelId` is {shortened(printable(name), 100)!r}, which is not the name of a "
                f"model: it must have at most {_MAX_MODEL_ID} printable characters, and not only dots."
            )
        return name


class StepMedia:
    """The attachments of a step, compiled once per step."""

    def __init__(self, step: LlmInvocationStep) -> None:
        self._fixed = (
            [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in step.media_attachments]
            if step.media_attachments
            else None
        )
        path = step.media_attachments_path
        self._path = compile_path(path) if path and not self._fixed else None

    def resolve(self, call: StepCall, root: Mapping[str, Any]) -> tuple[MediaSource, ...]:
        """Return where the attachments come from.

        Raises:
            PermanentStepError: the flow or its data describes an attachment that is not valid.
        """
        if self._path is not None:
            return parse_media(_found(self._path, root, call), "mediaAttachmentsPath")
        return parse_media(self._fixed, "mediaAttachments")


def _found(path: Path, root: Mapping[str, Any], call: StepCall) -> Any:
    """Return what a path finds; None if it finds nothing."""
    found = resolve_final_pointer(path.find(root, call.load), path.source, call.load)
    return None if found is NOTHING else found


def _parameters(given: InferenceParameters | None) -> Parameters:
    values = {name: value for name in PARAMETER_NAMES if (value := getattr(given, name, None)) is not None}
    return Parameters(**values, explicit=frozenset(values))
