"""The payload that a flow expects, as the fields of Airflow's trigger form."""

from __future__ import annotations

import re
from typing import Any, Final

from airflow.sdk import Param

from airflow_allma.flow import Flow

__all__ = ["inferred_inputs", "payload_params"]

_READS: Final = re.compile(r"initialContextData(?:\.|\[\\?['\"])([A-Za-z_][A-Za-z0-9_-]*)")

# "object" stands first: the form then shows a field for JSON, whatever the value is.
_ANY_JSON: Final = ["object", "array", "string", "number", "boolean", "null"]


def inferred_inputs(flow: Flow) -> tuple[str, ...]:
    """The keys of the payload that the flow's expressions name (``initialContextData.<key>``), sorted."""
    return tuple(sorted(set(_READS.findall(flow.model_dump_json(by_alias=True, exclude_unset=True)))))


def payload_params(flow: Flow) -> dict[str, Any]:
    """One optional JSON field for each key that the payload is seen to need."""
    return {
        name: Param(
            None,
            type=_ANY_JSON,
            title=name,
            description=f"`{name}` of the payload: any JSON value. Empty means null.",
        )
        for name in inferred_inputs(flow)
    }
