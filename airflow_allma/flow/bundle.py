"""What flows use besides their own definition: prompts, step definitions, connections, agents. Exports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from airflow_allma.flow.model_base import URL_PATTERN, Bool, Int, JsonObject, Model, NonEmptyStr

__all__ = [
    "Agent",
    "Bundle",
    "Export",
    "McpAuthentication",
    "McpAuthenticationType",
    "McpConnection",
    "PromptTemplate",
    "StepDefinition",
]


class PromptTemplate(Model):
    """One version of a stored prompt."""

    id: Annotated[NonEmptyStr, Field(description="Identifies the prompt.")]
    name: Annotated[str | None, Field(description="Display name.")] = None
    description: Annotated[str | None, Field(description="Its purpose.")] = None
    version: Annotated[Int, Field(gt=0, description="The highest published version is used.")] = 1
    is_published: Annotated[Bool, Field(description="Only published versions are used.")] = True
    content: Annotated[NonEmptyStr, Field(description="The prompt; a template.")]
    tags: Annotated[tuple[str, ...], Field(description="Keywords for searching.")] = ()
    created_at: Annotated[str | None, Field(description="ISO 8601.")] = None
    updated_at: Annotated[str | None, Field(description="ISO 8601.")] = None
    published_at: Annotated[str | None, Field(description="ISO 8601.")] = None


class StepDefinition(Model):
    """Fields that steps can inherit; it can have any field of a step."""

    id: Annotated[NonEmptyStr, Field(description="The id that a step's stepDefinitionId refers to.")]
    name: Annotated[str | None, Field(description="Display name.")] = None
    version: Annotated[Int, Field(gt=0, description="The highest published version is used.")] = 1
    is_published: Annotated[Bool, Field(description="Only published versions are used.")] = True
    step_type: Annotated[str | None, Field(description="What the step does.")] = None


class McpAuthenticationType(StrEnum):
    """How an MCP server authenticates its clients."""

    NONE = "NONE"
    BEARER_TOKEN = "BEARER_TOKEN"  # noqa: S105 - the name of a method
    API_KEY = "API_KEY"


class McpAuthentication(Model):
    """Where the secret of a connection is; never the secret itself."""

    type: Annotated[McpAuthenticationType, Field(description="How the secret is sent.")] = (
        McpAuthenticationType.NONE
    )
    secret_arn: Annotated[str | None, Field(description="ARN of the secret.")] = None
    secret_json_key: Annotated[str | None, Field(description="Key in the secret's JSON.")] = None


class McpConnection(Model):
    """An MCP server."""

    id: Annotated[NonEmptyStr, Field(description="The id that a step's mcpConnectionId refers to.")]
    name: Annotated[str | None, Field(description="Display name.")] = None
    server_url: Annotated[NonEmptyStr, Field(pattern=URL_PATTERN, description="URL of the server.")]
    authentication: Annotated[
        McpAuthentication,
        Field(default_factory=McpAuthentication, description="How clients authenticate."),
    ]


class Agent(Model):
    """A group of flows that share variables."""

    id: Annotated[NonEmptyStr, Field(description="Identifies the agent.")]
    name: Annotated[str | None, Field(description="Display name.")] = None
    description: Annotated[str | None, Field(description="Its purpose.")] = None
    enabled: Annotated[
        Bool, Field(description="Whether it applies; flows whose agents are all disabled do not run.")
    ] = True
    flow_ids: Annotated[tuple[str, ...], Field(description="Ids of its flows.")] = ()
    flow_variables: Annotated[
        JsonObject, Field(default_factory=dict, description="Default variables of its flows.")
    ]


class Export(Model):
    """An export of the admin panel: flows and what they use. What it contains is checked on its own."""

    format_version: Annotated[Literal["1.0"], Field(description="Always 1.0.")]
    exported_at: Annotated[str | None, Field(description="ISO 8601.")] = None
    flows: Annotated[tuple[Any, ...], Field(description="Flow definitions.")] = ()
    step_definitions: Annotated[
        tuple[Any, ...], Field(description="Definitions that steps inherit from.")
    ] = ()
    prompt_templates: Annotated[tuple[Any, ...], Field(description="Prompts.")] = ()
    mcp_connections: Annotated[tuple[Any, ...], Field(description="MCP servers.")] = ()
    agents: Annotated[tuple[Any, ...], Field(description="Groups of flows.")] = ()


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a file defines for flows, or what a flow uses.

    Attributes:
        prompts: prompt templates; of a file all versions, of a flow the ones that it uses.
        connections: MCP servers.
        agents: groups of flows that share variables, by id.
    """

    prompts: tuple[PromptTemplate, ...] = ()
    connections: tuple[McpConnection, ...] = ()
    agents: tuple[Agent, ...] = ()
