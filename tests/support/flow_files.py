"""Flow files that tests write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NO_OP = {"a": {"stepType": "NO_OP"}}


def flow(flow_id: str = "shop", **fields: Any) -> dict[str, Any]:
    """Return a flow with one step."""
    return {"id": flow_id, "startStepInstanceId": "a", "steps": NO_OP, **fields}


def write(folder: Path, name: str, value: Any) -> Path:
    """Write a string, or another value as JSON, into a new file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path
