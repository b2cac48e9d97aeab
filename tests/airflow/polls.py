"""The step that polls in tests of Airflow."""

from __future__ import annotations

from typing import Any

from tests.airflow.flows import Json


def poll(
    url: str, to: str | None = None, *, attempts: int = 10, call: Json | None = None, **more: Any
) -> Json:
    """Return a step that calls a URL every five seconds, the shortest interval, until ``done`` is true."""
    return {
        "stepType": "POLL_EXTERNAL_API",
        "apiCallDefinition": {"apiHttpMethod": "GET", "apiUrlTemplate": {"template": url}, **(call or {})},
        "pollingConfig": {"intervalSeconds": 5, "maxAttempts": attempts},
        "exitConditions": {"successCondition": "$.done", "failureCondition": "$.error"},
        **({"defaultNextStepInstanceId": to} if to else {}),
        **more,
    }
