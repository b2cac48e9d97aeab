"""A folder of artifacts, one file each, as the original's build tool writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.flow_files import write

STAMP = "1970-01-01T00:00:00.000Z"
TIMES = {"createdAt": STAMP, "updatedAt": STAMP}
COMPOSE = "system/compose-object-from-input"

Json = dict[str, Any]


def envelope(**lists: list[Any]) -> Json:
    """Return an envelope with lists of artifacts."""
    return {"exportedAt": STAMP, "formatVersion": "1.0", **lists}


def put(folder: Path, name: str, **lists: list[Any]) -> Path:
    """Write an envelope as the build tool does: sorted keys, two spaces."""
    return write(folder, name, json.dumps(envelope(**lists), indent=2, sort_keys=True) + "\n")


def definition(definition_id: str, **fields: Any) -> Json:
    """Return a step definition that composes an object, unless its fields say otherwise."""
    own = {"stepType": "DATA_TRANSFORMATION", "moduleIdentifier": COMPOSE} | fields
    return {"id": definition_id, "name": definition_id, "version": 1, **own, **TIMES}


def using(definition_id: str, to: str | None = None, **fields: Any) -> Json:
    """Return a step that inherits."""
    following = {"defaultNextStepInstanceId": to} if to else {}
    return {"stepDefinitionId": definition_id, **following, **fields}


def flow_of(flow_id: str, steps: Json, **fields: Any) -> Json:
    """Return a flow that starts at its first step."""
    return {
        "authoringSource": "code", "id": flow_id, "startStepInstanceId": next(iter(steps)), "steps": steps,
        "version": 1, **fields,
    }  # fmt: skip


def agent(agent_id: str, *flow_ids: str, enabled: bool = True, **variables: Any) -> Json:
    """Return an agent."""
    return {
        "id": agent_id, "name": agent_id, "enabled": enabled, "flowIds": list(flow_ids),
        "flowVariables": variables, **TIMES,
    }  # fmt: skip


def prompt(prompt_id: str, content: str = "Tell about {{text}}", **fields: Any) -> Json:
    """Return a prompt."""
    return {
        "id": prompt_id,
        "name": prompt_id,
        "content": content,
        "tags": [],
        "version": 1,
        **fields,
        **TIMES,
    }


def connection(connection_id: str, **fields: Any) -> Json:
    """Return an MCP connection."""
    own = {"serverUrl": "https://mcp.test", "authentication": {"type": "NONE"}} | fields
    return {"id": connection_id, "name": connection_id, **own, **TIMES}


ORDERS = flow_of(
    "orders",
    {
        "read": using("pick", "price", inputMappings={"order": "$.order"}),
        "price": using("price-it", "note"),
        "note": using("note-it", inputMappings={"total": "$.steps_output.price.total"}),
    },
    flowVariables={"bucket": "orders-{{stage}}", "limit": 5},
)
REPORT = flow_of(
    "report", {"note": using("note-it", "end", literals={"text": "report"}), "end": {"stepType": "END_FLOW"}}
)
ARTIFACTS = {
    "orders.flow.json": ("flows", ORDERS),
    "report.flow.json": ("flows", REPORT),
    "pick.step.json": ("stepDefinitions", definition("pick", outputMappings={"$.picked": "$.order"})),
    "price-it.step.json": (
        "stepDefinitions",
        definition("price-it", inputMappings={"total": "$.picked.total"}),
    ),
    "base-note.step.json": ("stepDefinitions", definition("base-note", literals={"text": "none"})),
    "note-it.step.json": (
        "stepDefinitions",
        {
            "id": "note-it", "name": "Note it", "version": 1, "stepDefinitionId": "base-note",
            "literals": {"by": "{{flow_variables.team}}", "to": "{{flow_variables.bucket}}"}, **TIMES,
        },
    ),
    "three-lines.prompt.json": ("promptTemplates", prompt("three-lines")),
    "one-line.prompt.json": ("promptTemplates", prompt("one-line")),
    "title.prompt.json": ("promptTemplates", prompt("title", "{{#if text}}{{text}}{{/if}}")),
    "wiki.mcp.json": ("mcpConnections", connection("wiki")),
    "tickets.mcp.json": ("mcpConnections", connection("tickets")),
    "shop.agent.json": ("agents", agent("shop", "orders", "report", team="shop", bucket="shared-{{stage}}")),
}  # fmt: skip
"""Twelve artifacts: two flows, four step definitions, three prompts, two connections, one agent."""


def write_artifacts(folder: Path, **replaced: Any) -> None:
    """Write the twelve files.

    Args:
        folder: where to.
        replaced: artifacts to write in place of those in the file ``<name>.*.json``, dashes as underscores.
    """
    for name, (kind, artifact) in ARTIFACTS.items():
        key = name.partition(".")[0].replace("-", "_")
        put(folder, name, **{kind: [replaced.get(key, artifact)]})
