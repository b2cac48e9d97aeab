"""The documentation of a Dag and its tasks in Airflow's UI, as Markdown."""

from __future__ import annotations

from typing import Final

from airflow_allma.flow import Flow, Step
from airflow_allma.flow.airflow_limits import DESCRIPTION

__all__ = ["dag_doc_md", "step_doc_md"]

_MAX_FLOW_LENGTH: Final = 64 << 10
_MAX_STEP_LENGTH: Final = 8 << 10
"""Characters of JSON; the documentation is part of every version of the Dag."""


def dag_doc_md(flow: Flow) -> str:
    """Return a flow's description and its JSON."""
    parts = [f"Flow `{flow.id}`, version {flow.version}."]
    if flow.description:
        parts.insert(0, DESCRIPTION.fit(flow.description))
    parts.append(_json_block(_json_of(flow), _MAX_FLOW_LENGTH))
    return "\n\n".join(parts)


def step_doc_md(step: Step, note: str = "") -> str:
    """Return a step's JSON, after a note on what the task does where that is not obvious."""
    parts = [note] if note else []
    parts.append(_json_block(_json_of(step), _MAX_STEP_LENGTH))
    return "\n\n".join(parts)


def _json_of(model: Flow | Step) -> str:
    # This runs for every step at every parse; json.dumps, which indents in Python, takes five times as long.
    return model.model_dump_json(indent=2, by_alias=True, exclude_unset=True)


def _json_block(source: str, max_length: int) -> str:
    note = ""
    if len(source) > max_length:
        note = f"\n\n(the first {max_length} of {len(source)} characters)"
        source = source[:max_length]
    # A fence longer than any in the JSON, which then cannot end the block.
    fence = "```"
    while fence in source:
        fence += "`"
    return f"{fence}json\n{source}\n{fence}{note}"
