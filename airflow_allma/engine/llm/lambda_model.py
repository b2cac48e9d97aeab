"""Models behind a Lambda function: the provider CUSTOM_LAMBDA."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from airflow_allma.common.printable import printable, shortened
from airflow_allma.engine.llm.aws_model import aws_module_errors, run_bounded, wrong_connection
from airflow_allma.engine.llm.model_http import count_of
from airflow_allma.engine.llm.model_request import (
    FinishReason,
    FunctionTool,
    ModelRequest,
    ModelResponse,
    ProviderTool,
    TokenUsage,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
)
from airflow_allma.engine.llm.provider_features import check_features
from airflow_allma.engine.modules import ModuleContext
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.engine.steps.lambda_invoke import LambdaCall, invoke_function
from airflow_allma.exceptions import PermanentStepError

__all__ = ["LambdaModelClient"]

_TEXT_FIELDS: Final = ("text", "llm_response")
_MAX_SHOWN: Final = 200


class LambdaModelClient:
    """The client of CUSTOM_LAMBDA; see ``ModelClient``. ``modelId`` is the name or the ARN of the function.

    The function gets an event like that of a Lambda function of an external module::

        {
            "stepInput": {
                "modelId": "acme-model",
                "prompt": "...",
                "inferenceParameters": {
                    "temperature": 0.7, "maxOutputTokens": 16000, "topP": 0.95, "topK": 40
                },
                "jsonOutputMode": false,
                "media": [{"mimeType": "image/png", "data": "<Base64>"}],
                "tools": [{"type": "function", "name": "...", "description": "...", "parameters": {}}],
                "toolChoice": "auto",
            },
            "correlationId": "<id of the run>",
        }

    ``inferenceParameters`` has ``seed`` if the flow sets it. ``media`` and ``tools`` are ``[]`` and
    ``toolChoice`` is null if the step has none. The function returns::

        {
            "outputData": {
                "text": "...",
                "tool_calls": [{"id": "1", "name": "...", "args": {}}],
                "usage": {"inputTokens": 7, "outputTokens": 11},
            }
        }

    All members are optional. ``llm_response`` is an alias of ``text``; a text that is not a string is encoded
    as JSON. An error of the function fails the call, with the error's type as its name. Calls use the AWS
    connection of the flow; payloads are limited to 6 MiB.
    """

    def check(self, request: ModelRequest) -> None:
        """Check that the provider can serve a request; see ``ModelClient``."""
        check_features(request)

    async def send(self, request: ModelRequest, call: StepCall, connection: str | None) -> ModelResponse:
        """Call the function, in a thread; see ``ModelClient``."""
        if connection is not None:
            raise wrong_connection(connection, request.model.provider)
        payload = {"stepInput": _step_input(request), "correlationId": call.info.flow_execution_id}
        invocation = LambdaCall(request.model.model_id, payload, "modelId")
        answer = await run_bounded(call, request, call.services.aws, _invoke, request, invocation)
        return _answer_of(answer, request.model.model_id)


def _invoke(request: ModelRequest, invocation: LambdaCall, context: ModuleContext) -> Any:
    with aws_module_errors(request):
        return invoke_function(invocation, context)


def _step_input(request: ModelRequest) -> dict[str, Any]:
    return {
        "modelId": request.model.model_id,
        "prompt": request.prompt,
        "inferenceParameters": request.parameters.to_dict(),
        "jsonOutputMode": request.json_output,
        "media": [
            {"mimeType": media.mime_type, "data": base64.b64encode(media.data).decode()}
            for media in request.media
        ],
        "tools": [_tool(tool) for tool in request.tools],
        "toolChoice": None if request.tool_choice is None else _tool_choice(request.tool_choice),
    }


def _tool(tool: FunctionTool | ProviderTool) -> dict[str, Any]:
    if isinstance(tool, ProviderTool):
        return {"type": tool.type.value, "config": tool.config}
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }


def _tool_choice(choice: ToolChoice) -> Any:
    if choice.mode is ToolChoiceMode.FUNCTION:
        return {"type": "function", "name": choice.name}
    return choice.mode.value


def _answer_of(answer: Any, function: str) -> ModelResponse:
    output = answer.get("outputData") if isinstance(answer, dict) else None
    if not isinstance(output, dict):
        raise _wrong(function, "must be an object with outputData, an object")
    text = next((output[name] for name in _TEXT_FIELDS if output.get(name) is not None), None)
    if text is not None and not isinstance(text, str):
        text = msgspec.json.encode(text).decode()
    calls = _calls(output.get("tool_calls"), function)
    usage = output.get("usage")
    return ModelResponse(
        text,
        FinishReason.TOOL_CALLS if calls else FinishReason.STOP,
        TokenUsage(count_of(usage, "inputTokens"), count_of(usage, "outputTokens")),
        calls,
    )


def _calls(value: Any, function: str) -> tuple[ToolCall, ...]:
    if value is None:
        return ()
    calls = []
    for one in value if isinstance(value, list) else [None]:
        call: Mapping[str, Any] = one if isinstance(one, dict) else {}
        name = call.get("name")
        if not isinstance(name, str):
            raise _wrong(function, "must have outputData.tool_calls as a list of {name, args}")
        identifier = call.get("id")
        calls.append(ToolCall(name, call.get("args") or {}, None if identifier is None else str(identifier)))
    return tuple(calls)


def _wrong(function: str, problem: str) -> PermanentStepError:
    shown = shortened(printable(function), _MAX_SHOWN)
    return PermanentStepError(
        f"The answer of Lambda function {shown!r} {problem}. Correct the function.", details={"model": shown}
    )
