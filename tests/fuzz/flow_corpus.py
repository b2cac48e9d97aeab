"""Good flow files, and a few broken ones, as the material of mutations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
EXAMPLES = TESTS.parent / "airflow_allma" / "example_dags"

RICH: dict[str, Any] = {
    "id": "rich",
    "version": 3,
    "name": "Rich flow",
    "description": "Uses most fields of a flow.",
    "tags": ["a", "b"],
    "isPublished": True,
    "startStepInstanceId": "first",
    "enableExecutionLogs": True,
    "flowVariables": {"region": "eu", "limit": 4, "deep": {"list": [1, 2]}},
    "defaultStepConfig": {"defaultErrorHandler": {"retries": {"count": 1, "intervalSeconds": 2}}},
    "airflow": {
        "schedule": "0 6 * * *",
        "startDate": "2026-01-31",
        "timezone": "Europe/Berlin",
        "catchup": False,
        "tags": ["x"],
        "owner": "team",
        "pool": "default_pool",
        "queue": "default",
        "priorityWeight": 2,
        "maxActiveRuns": 3,
        "executionTimeoutSeconds": 60,
        "runTimeoutSeconds": 600.5,
        "branchGranularity": "branch",
        "inputSchema": {
            "type": "object",
            "required": ["n"],
            "properties": {
                "n": {"type": "integer", "minimum": 1, "description": "A number.", "default": 1},
                "mode": {"enum": ["a", "b"], "default": "a"},
                "day": {"type": "string", "pattern": "^[0-9-]+$"},
            },
        },
        "maxInMemoryItems": 100,
        "maxInMemoryBytes": 1000,
        "maxWaitingTasks": 10,
        "chunkBytes": 1000,
        "maxChunks": 5,
        "chunkConcurrency": 3,
        "lostTaskRetries": 1,
        "offloadLocation": "file:///tmp/allma-fuzz",
        "awsConnId": "aws_default",
    },
    "steps": {
        "first": {
            "stepType": "DATA_TRANSFORMATION",
            "displayName": "First step",
            "moduleIdentifier": "system/compose-object-from-input",
            "inputMappings": {"a.b[0]": "$.n", "rows": "$.rows[?(@.x > 4 && @.name == 'a')]"},
            "literals": {
                "text": "{{#each rows}}{{@index}}: {{name}}{{/each}}",
                "path": "$.flow_variables.region",
            },
            "outputMappings": {"$.result.rows": "$.rows", "$.result.text": "$.text"},
            "outputValidation": {"requiredFields": ["$.rows"]},
            "delay": {"milliseconds": 5, "position": "before"},
            "checkpoint": {"id": "c", "label": "First", "order": 1},
            "transitions": [
                {"condition": "$.n > 3 || $.mode == 'a'", "nextStepInstanceId": "fork", "maxTransitions": 2}
            ],
            "defaultNextStepInstanceId": "last",
            "defaultNextMaxTransitions": 3,
        },
        "fork": {
            "stepType": "PARALLEL_FORK_MANAGER",
            "itemsPath": "$.result.rows",
            "itemLabelPath": "$.name",
            "parallelBranches": [
                {"branchId": "own", "startStep": "one", "steps": {"one": {"stepType": "NO_OP"}}},
                {
                    "branchId": "shared",
                    "stepInstanceId": "call",
                    "condition": "$.currentItem.ok == true",
                    "inputMappings": {"x": "$.n"},
                    "literals": {"y": "{{n}}"},
                },
            ],
            "aggregationConfig": {
                "strategy": "COLLECT_ARRAY",
                "dataPath": "$.output",
                "failOnBranchError": True,
                "maxConcurrency": 5,
                "toleratedFailurePercentage": 10,
            },
            "airflow": {"pool": "default_pool", "queue": "q", "priorityWeight": 5},
            "defaultNextStepInstanceId": "last",
        },
        "call": {
            "stepType": "API_CALL",
            "apiHttpMethod": "POST",
            "apiUrlTemplate": {"template": "https://api.test/{{currentItem.id}}?a={{n}}"},
            "apiHeadersTemplate": {"X-Key": "$.flow_variables.key"},
            "requestBodyTemplate": {"rows": {"sourceJsonPath": "$.rows", "formatAs": "JSON"}},
            "onError": {
                "retries": {"count": 2, "intervalSeconds": 1, "backoffRate": 2, "errorEquals": ["A"]},
                "retryOnContentError": {"count": 2},
                "fallbackStepInstanceId": "last",
            },
        },
        "last": {"stepType": "END_FLOW", "displayName": "The end"},
    },
}

EXPORT: dict[str, Any] = {
    "formatVersion": "1.0",
    "exportedAt": "2026-01-01T00:00:00.000Z",
    "stepDefinitions": [
        {"id": "def", "name": "Def", "version": 1, "stepType": "NO_OP", "definition": {"displayName": "D"}}
    ],
    "promptTemplates": [
        {"id": "p", "version": 1, "name": "P", "isPublished": True, "content": "Say {{name}}"},
    ],
    "mcpConnections": [{"id": "m", "name": "M", "serverUrl": "https://mcp.test/", "isEnabled": True}],
    "agents": [{"id": "g", "name": "G", "enabled": True, "flowIds": ["rich"], "flowVariables": {"a": 1}}],
}


@cache
def corpus() -> tuple[str, ...]:
    """Return the documents as JSON: decoding is the fastest way to a copy."""
    return tuple(json.dumps(document) for document in _documents())


def _documents() -> Iterator[dict[str, Any]]:
    for _ in range(40):
        # It has many more fields than the others.
        yield RICH
    examples = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(EXAMPLES.glob("*.json"))]
    yield from examples * 10
    yield {**EXPORT, "flows": [RICH, *examples]}
    yield {**EXPORT, "flows": [{**RICH, "version": 2, "isPublished": False}, RICH]}
    yield EXPORT
    for line in _lines(TESTS / "conformance" / "vectors" / "flow.jsonl")[::2]:
        yield json.loads(line)["given"]["flow"]
    for number, line in enumerate(_lines(TESTS / "flow" / "step_examples.jsonl")):
        steps = {"a": {**json.loads(line)["step"], "defaultNextStepInstanceId": "next"}}
        steps["next"] = {"stepType": "NO_OP"}
        yield {"id": f"example-{number}", "startStepInstanceId": "a", "steps": steps}
    for file in sorted((TESTS / "flow" / "broken").glob("*.json")):
        try:
            yield json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            continue


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def step_ids(document: Any) -> list[str]:
    """Return the ids of all steps of a document."""
    found: list[str] = []
    waiting = [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if isinstance(part.get("steps"), dict):
                found += part["steps"]
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found
