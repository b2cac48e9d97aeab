"""Amazon Bedrock's Converse API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_allma.common.aws_names import region_of_arn
from airflow_allma.common.printable import printable, shortened
from airflow_allma.engine.llm.anthropic import claude_sampling
from airflow_allma.engine.llm.aws_model import aws_module_errors, run_bounded
from airflow_allma.engine.llm.bedrock_connection import read_aws
from airflow_allma.engine.llm.model_connections import ParsedConnections, require_connection
from airflow_allma.engine.llm.model_families import (
    bedrock_family,
    claude_max_tokens,
    is_claude,
    takes_sampling,
)
from airflow_allma.engine.llm.model_http import count_of
from airflow_allma.engine.llm.model_request import (
    FinishReason,
    FunctionTool,
    Media,
    ModelRequest,
    ModelResponse,
    ProviderTool,
    TokenUsage,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
)
from airflow_allma.engine.llm.provider_features import (
    PDF,
    IgnoredParameters,
    arguments_schema,
    check_features,
    missing_tool,
)
from airflow_allma.engine.modules import ModuleContext
from airflow_allma.engine.modules.aws_call import AwsResource
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import PermanentStepError, StepError, TransientStepError
from airflow_allma.flow.steps.llm import LlmProvider, LlmToolType

__all__ = ["BedrockClient"]

_SYSTEM_TOOLS: Final[Mapping[LlmToolType, str]] = {
    LlmToolType.WEB_SEARCH: "nova_grounding",
    LlmToolType.CODE_EXECUTION: "nova_code_interpreter",
}
"""Tools that Bedrock runs for Amazon's own models."""

_MAX_SHOWN: Final = 100
_AMAZON: Final = "amazon"
_ANTHROPIC: Final = "anthropic"
_FINISH: Final[Mapping[str, FinishReason]] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "content_filtered": FinishReason.REFUSED,
    "guardrail_intervened": FinishReason.REFUSED,
    "refusal": FinishReason.REFUSED,
}


class BedrockClient:
    """The client of AWS_BEDROCK; see ``ModelClient``.

    ``modelId`` is a model, an inference profile (``us.anthropic...``) or an ARN, whose region is then used.
    Without a connection, calls use the AWS connection of the flow; one of type ``pydanticai_bedrock`` brings
    credentials and region of its own. ``customConfig.guardrailConfig`` names a guardrail, as Converse does.
    """

    def __init__(self) -> None:
        self._connections = ParsedConnections(read_aws)
        self._ignored = IgnoredParameters()

    def check(self, request: ModelRequest) -> None:
        """Check that the provider can serve a request; see ``ModelClient``."""
        check_features(request)
        family = bedrock_family(request.model.model_id)
        for tool in request.tools:
            # An ARN that does not name the model can be one of Amazon's.
            if isinstance(tool, ProviderTool) and family not in {_AMAZON, ""}:
                raise missing_tool(
                    tool.type, request.model, "On Bedrock only models of Amazon (Nova) have it. "
                )

    async def send(self, request: ModelRequest, call: StepCall, connection: str | None) -> ModelResponse:
        """Send one request, in a thread; see ``ModelClient``."""
        aws = call.services.aws
        if connection is not None:
            secret = await require_connection(call, connection, LlmProvider.AWS_BEDROCK)
            aws = self._connections.get(secret)
        parameters = _parameters_of(request)
        self._ignored.warn(request, _ignored(request, parameters), call.log)
        response = await run_bounded(call, request, aws, _converse, request, parameters)
        return _answer_of(response)


def _converse(
    request: ModelRequest, parameters: Mapping[str, Any], context: ModuleContext
) -> Mapping[str, Any]:
    model_id = request.model.model_id
    resource = AwsResource("bedrock-runtime", "Bedrock model", "modelId", model_id, region_of_arn(model_id))
    with aws_module_errors(request):
        response = resource.call(context, "converse", **parameters)
    if "output" not in response or "stopReason" not in response:
        raise _foreign_response(response, model_id)
    return response


def _foreign_response(response: Mapping[str, Any], model_id: str) -> StepError:
    """Return the error for a response that boto3 could not parse; boto3 returns it without content."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    content_type = shortened(printable(str(headers.get("content-type") or "no content type")), _MAX_SHOWN)
    details = {"provider": LlmProvider.AWS_BEDROCK.value, "model": model_id}
    if "json" in content_type and headers.get("content-length") != "0":
        return TransientStepError(
            f"The answer of Bedrock model {model_id!r} is cut short or is not an answer of Converse.",
            details=details,
        )
    return PermanentStepError(
        f"Bedrock answered with {content_type} for model {model_id!r}, which is not an answer of Converse. "
        "Check the endpoint of the AWS connection; a proxy may have answered.",
        details=details,
    )


def _parameters_of(request: ModelRequest) -> dict[str, Any]:
    content = [_block(media, number) for number, media in enumerate(request.media, 1)]
    parameters: dict[str, Any] = {
        "modelId": request.model.model_id,
        "messages": [{"role": "user", "content": [*content, {"text": request.prompt}]}],
        "inferenceConfig": _inference_config(request),
    }
    fields = _model_fields(request)
    if fields:
        parameters["additionalModelRequestFields"] = fields
    choice = request.tool_choice
    # Converse has no tool choice "none".
    if request.tools and not (choice is not None and choice.mode is ToolChoiceMode.NONE):
        parameters["toolConfig"] = {"tools": [_tool(tool) for tool in request.tools]}
        if choice is not None:
            parameters["toolConfig"]["toolChoice"] = _tool_choice(choice)
    guardrail = request.config.get("guardrailConfig")
    if guardrail is not None:
        if not isinstance(guardrail, dict):
            raise PermanentStepError(
                "customConfig.guardrailConfig must be an object with guardrailIdentifier and "
                "guardrailVersion."
            )
        parameters["guardrailConfig"] = guardrail
    return parameters


def _block(media: Media, number: int) -> dict[str, Any]:
    source = {"bytes": media.data}
    if media.mime_type == PDF:
        # Converse rejects document names with dots.
        return {"document": {"format": "pdf", "name": f"document-{number}", "source": source}}
    return {"image": {"format": media.mime_type.removeprefix("image/"), "source": source}}


def _inference_config(request: ModelRequest) -> dict[str, Any]:
    """Return the parameters that all models have; defaults only if the model is known to accept them."""
    model_id, parameters = request.model.model_id, request.parameters
    explicit, family = parameters.explicit, bedrock_family(request.model.model_id)
    if family == _ANTHROPIC or is_claude(model_id):
        sampling = claude_sampling(model_id, parameters)
        config: dict[str, Any] = {"maxTokens": claude_max_tokens(model_id, parameters)}
    else:
        # The maximum differs between the models; without the field it is the model's own.
        config = {"maxTokens": parameters.max_output_tokens} if "max_output_tokens" in explicit else {}
        takes_default = bool(family) and takes_sampling(model_id) and "top_p" not in explicit
        sampling = {"temperature": parameters.temperature} if takes_default else {}
        sampling |= {name: getattr(parameters, name) for name in ("temperature", "top_p") if name in explicit}
    if "temperature" in sampling:
        return {**config, "temperature": sampling["temperature"]}
    return {**config, "topP": sampling["top_p"]} if sampling else config


def _model_fields(request: ModelRequest) -> dict[str, Any]:
    if "top_k" not in request.parameters.explicit:
        return {}
    top_k, family = request.parameters.top_k, bedrock_family(request.model.model_id)
    fields: dict[str, dict[str, Any]] = {
        _ANTHROPIC: {"top_k": top_k},
        _AMAZON: {"inferenceConfig": {"topK": top_k}},
    }
    return fields.get(family, {})


def _ignored(request: ModelRequest, parameters: Mapping[str, Any]) -> list[str]:
    names = ["seed"]
    if "additionalModelRequestFields" not in parameters:
        names.append("top_k")
    if "topP" not in parameters["inferenceConfig"] and "temperature" in request.parameters.explicit:
        names.append("top_p")
    return names


def _tool(tool: FunctionTool | ProviderTool) -> dict[str, Any]:
    if isinstance(tool, ProviderTool):
        return {"systemTool": {"name": _SYSTEM_TOOLS[tool.type]}}
    return {
        "toolSpec": {
            "name": tool.name,
            "description": tool.description,
            "inputSchema": {"json": arguments_schema(tool)},
        }
    }


def _tool_choice(choice: ToolChoice) -> dict[str, Any]:
    if choice.mode is ToolChoiceMode.FUNCTION:
        return {"tool": {"name": choice.name}}
    return {"any": {}} if choice.mode is ToolChoiceMode.REQUIRED else {"auto": {}}


def _answer_of(response: Mapping[str, Any]) -> ModelResponse:
    blocks = (response.get("output", {}).get("message") or {}).get("content") or []
    reason, usage = str(response.get("stopReason")), response.get("usage")
    texts, sources, calls = [], [], []
    for block in blocks:
        if "text" in block:
            texts.append(block["text"])
        elif cited := block.get("citationsContent"):
            texts += [part["text"] for part in cited.get("content", ()) if "text" in part]
            sources += cited.get("citations", ())
        elif (use := block.get("toolUse")) and use.get("type") != "server_tool_use":
            calls.append(ToolCall(use["name"], use.get("input") or {}, use.get("toolUseId")))
    text = "".join(texts) if texts else None
    finish = _FINISH.get(reason, FinishReason.OTHER)
    return ModelResponse(
        text,
        finish,
        TokenUsage(
            # Bedrock does not count cached tokens as input tokens.
            count_of(usage, "inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
            count_of(usage, "outputTokens"),
            count_of(usage, "cacheReadInputTokens"),
        ),
        tuple(calls),
        sources or None,
        (text or reason) if finish is FinishReason.REFUSED else "",
    )
