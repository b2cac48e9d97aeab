"""Keys of models and tools to plant, servers that repeat them in every error, and a flow that uses them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from demo.model_servers import Behaviour, ModelServer, running_models
from tests.airflow.flows import Json, branch, fork
from tests.support.mcp_servers import Answer, McpFake, error_of, result_of, running_mcp_fake

# They begin as the needles of `planted_secrets.hits` do.
MODEL_KEY = "planted-model-key/+1"
GATEWAY = "planted-gateway <x>"
MCP_TOKEN = "planted-mcp.token-1"

_DENIED_ONCE = Behaviour(outcomes=(401, 200), echo_key=True)
MODELS = {
    "ok": Behaviour(answer="fine"),
    "invalid": Behaviour(outcomes=(400,), error_message=f"Not with {MODEL_KEY}", error_code=MODEL_KEY),
    "denied-once-main": _DENIED_ONCE,
    "denied-once-many": _DENIED_ONCE,
    "flaky": Behaviour(outcomes=(503, 200), echo_key=True),
}


@dataclass(frozen=True)
class ModelServers:
    """The running servers."""

    models: ModelServer
    tools: McpFake

    def connections(self) -> dict[str, dict[str, Any]]:
        """Return the connections, in Airflow's JSON form, by id."""
        extra = {"headers": {"X-Gateway": GATEWAY}}
        return {
            "secret_models": {
                "conn_type": "http",
                "host": f"{self.models.url}/v1",
                "password": MODEL_KEY,
                "extra": extra,
            },
            "secret_tools": {
                "conn_type": "mcp",
                "host": self.tools.url,
                "password": MCP_TOKEN,
                "extra": extra,
            },
        }

    def sent(self) -> str:
        """Return all requests as text."""
        return f"{self.models.requests} {self.tools.requests}"

    def asked(self) -> Counter[str]:
        """Return how often each model was asked."""
        return Counter(self.models.stats["models"])

    def called(self) -> Counter[str]:
        """Return how often a tool was called in each way."""
        calls = [body for body in self.tools.bodies if body.get("method") == "tools/call"]
        return Counter(body["params"]["arguments"]["way"] for body in calls)


@contextmanager
def running_model_servers() -> Iterator[ModelServers]:
    """Run the servers until the end of the block."""
    with running_models(MODELS) as models, running_mcp_fake() as tools:
        seen: Counter[str] = Counter()

        def call(message: Json) -> Answer:
            way = message["params"]["arguments"]["way"]
            seen[way] += 1
            if "flaky" in way and seen[way] == 1:
                return 503, {}, f"Bearer {MCP_TOKEN} and {GATEWAY} are busy".encode()
            if "refused" in way:
                return error_of(message, -32000, f"Not with {MCP_TOKEN}")
            text = f"Bearer {MCP_TOKEN} may not" if way == "fails" else "found"
            content = [{"type": "text", "text": text}]
            return result_of(message, {"content": content, "isError": way == "fails"})

        tools.answers["tools/call"] = call
        yield ModelServers(models, tools)


def _ask(model: str, to: str | None = None, **more: Any) -> Json:
    return {
        "stepType": "LLM_INVOCATION",
        "llmProvider": "OPENAI",
        "connection": "secret_models",
        "modelId": model,
        "directPrompt": "Say OK",
        **({"defaultNextStepInstanceId": to} if to else {}),
        **more,
    }


def _call(way: str, to: str | None = None, **more: Any) -> Json:
    value = {"inputMappings": {"way": way}} if way.startswith("$") else {"literals": {"way": way}}
    return {
        "stepType": "MCP_CALL",
        "connection": "secret_tools",
        "toolName": "find",
        **value,
        **({"defaultNextStepInstanceId": to} if to else {}),
        **more,
    }


def model_flow(flow_id: str) -> Json:
    """Return a flow whose steps succeed, fail and are retried, on its main path and in a chunk."""
    tolerated = {"onError": {"continueOnFailure": True}}
    retries = {"count": 1, "intervalSeconds": 1, "errorEquals": ["ModelAuthenticationError"]}
    again = {"onError": {"retries": retries}}
    return {
        "id": flow_id,
        "startStepInstanceId": "asked",
        "enableExecutionLogs": True,
        "airflow": {"maxInMemoryItems": 2},
        "steps": {
            "asked": _ask("denied-once-main", to="invalid", **again),
            "invalid": _ask("invalid", to="refused", **tolerated),
            "refused": _call("flaky-refused", to="many", **tolerated),
            "many": fork(branch("ask"), items="$.initialContextData.many", failOnBranchError=False),
            "ask": _ask("{{currentItem.model}}", to="call", **again),
            "call": _call("$.currentItem.way"),
        },
    }


PAYLOAD = {
    "many": [
        {"id": "m1", "model": "ok", "way": "ok"},
        {"id": "m2", "model": "flaky", "way": "flaky"},
        {"id": "m3", "model": "invalid", "way": "ok"},
        {"id": "m4", "model": "ok", "way": "fails"},
        {"id": "m5", "model": "ok", "way": "refused"},
        {"id": "m6", "model": "denied-once-many", "way": "ok"},
    ]
}
FAILED_ITEMS = 3
ASKED = {"denied-once-main": 2, "denied-once-many": 2, "flaky": 2, "invalid": 2, "ok": 3}
CALLED = {"flaky": 2, "flaky-refused": 2, "ok": 2, "fails": 1, "refused": 1}
"""How often a run asks each model, and calls the tool in each way."""


def environment(servers: ModelServers) -> dict[str, str]:
    """Return the variables that give the connections to a process."""
    return {
        f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in servers.connections().items()
    }
