"""Steps that call or wait for something outside: HTTP, MCP, polling, events."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from airflow_allma.flow.model_base import HttpMethod, Int, JsonObject, Model, NonEmptyStr, shape
from airflow_allma.flow.steps.step_base import ContextMapping, HasConnection, Step, StepType

__all__ = [
    "ApiCallDefinition",
    "ApiCallStep",
    "ApiUrlTemplate",
    "ExitConditions",
    "McpCallStep",
    "PollExternalApiStep",
    "PollingConfig",
    "WaitForExternalEventStep",
]


class ApiUrlTemplate(Model):
    """The URL of a call and the variables that only it sees."""

    template: Annotated[NonEmptyStr, Field(description="The URL; a template over the whole context.")]
    context_mappings: Annotated[
        dict[str, ContextMapping],
        Field(default_factory=dict, description="Further variables of the template."),
    ]


class ApiCallDefinition(HasConnection):
    """One HTTP call."""

    api_url_template: Annotated[ApiUrlTemplate, Field(description="The URL.")]
    api_http_method: Annotated[HttpMethod, Field(description="HTTP method.")]
    api_static_headers: Annotated[
        dict[str, str], Field(default_factory=dict, description="Headers that are sent unchanged.")
    ]
    api_headers_template: Annotated[
        dict[str, str],
        Field(
            default_factory=dict, description="Header <- JSONPath if it starts with $, otherwise a template."
        ),
    ]
    request_body_template: Annotated[
        dict[str, ContextMapping] | None,
        Field(
            description="Name in the JSON body <- value in the data; absent: customConfig.requestBodyPath."
        ),
    ] = None


class ApiCallStep(ApiCallDefinition, Step):
    """Calls an HTTP API; the output is ``{status, headers, data}``."""

    step_type: Literal[StepType.API_CALL]


class McpCallStep(HasConnection, Step):
    """Calls a tool of an MCP server; the step's input is the tool's arguments.

    It has ``connection``, ``mcpConnectionId`` or both.
    """

    step_type: Literal[StepType.MCP_CALL]
    mcp_connection_id: Annotated[
        NonEmptyStr | None,
        Field(description="The id of the MCP connection; absent: `connection` says where the server is."),
    ] = None
    tool_name: Annotated[NonEmptyStr, Field(description="The tool to call.")]


class PollingConfig(Model):
    """How often an API is called."""

    interval_seconds: Annotated[Int, Field(ge=5, le=3600, description="Seconds between two calls.")]
    max_attempts: Annotated[Int, Field(ge=1, le=100, description="Maximum number of calls.")]


class ExitConditions(Model):
    """When polling ends; conditions over the body of the last response."""

    success_condition: Annotated[
        NonEmptyStr, Field(description="Checked first; if it is true, the step succeeds.")
    ]
    failure_condition: Annotated[
        NonEmptyStr, Field(description="Checked second; if it is true, the step fails.")
    ]


class PollExternalApiStep(Step):
    """Calls an HTTP API repeatedly until one of two conditions is true."""

    step_type: Literal[StepType.POLL_EXTERNAL_API]
    api_call_definition: Annotated[ApiCallDefinition, Field(description="The call.")]
    polling_config: Annotated[PollingConfig, Field(description="Interval and maximum number of calls.")]
    exit_conditions: Annotated[ExitConditions, Field(description="When polling ends.")]


class WaitForExternalEventStep(Step):
    """Waits for a message from outside; its payload is the output."""

    step_type: Literal[StepType.WAIT_FOR_EXTERNAL_EVENT]
    correlation_key_template: Annotated[
        NonEmptyStr, Field(description="The key that the message must name; a template.")
    ]
    max_wait_time_seconds: Annotated[
        Int, Field(gt=0, le=315_360_000, description="Seconds until the step fails; ten years at most.")
    ] = 604_800
    prompt_user_message_template: Annotated[
        str | JsonObject | None,
        shape("a string or an object", lambda value: value is None or isinstance(value, str | dict)),
        Field(description="The message to the person whose answer is awaited."),
    ] = None
    message_sender_module_identifier: Annotated[
        str | None, Field(description="The module that sends that message.")
    ] = None
