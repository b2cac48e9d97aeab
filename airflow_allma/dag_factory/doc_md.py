"""What people read in Airflow's UI about a Dag and its tasks."""

from __future__ import annotations

from typing import Final

from airflow_allma.flow import Flow, Step

__all__ = ["dag_doc_md", "step_doc_md"]

_LONGEST_FLOW: Final = 64 << 10
_LONGEST_STEP: Final = 8 << 10
"""Characters of JSON; the documentation travels with every version of the Dag."""


def dag_doc_md(flow: Flow) -> str:
    """A flow's description and its JSON."""
    parts = [f"Flow `{flow.id}`, version {flow.version}."]
    if flow.description:
        parts.insert(0, flow.description)
    parts.append(_json_block(_written(flow), _LONGEST_FLOW))
    return "\n\n".join(parts)


def step_doc_md(step: Step, note: str = "") -> str:
    """A step's JSON, with a sentence of what the task does where that is not plain."""
    parts = [note] if note else []
    parts.append(_json_block(_written(step), _LONGEST_STEP))
    return "\n\n".join(parts)


def _written(model: Flow | Step) -> str:
    # Done for every step at every parse: json.dumps, which indents in Python, takes a fifth of it.
    return model.model_dump_json(indent=2, by_alias=True, exclude_unset=True)


def _json_block(text: str, most: int) -> str:
    cut = ""
    if len(text) > most:
        cut = f"\n\n(the first {most} of {len(text)} characters)"
        text = text[:most]
    # A fence longer than any in the text: the text cannot end the block.
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}json\n{text}\n{fence}{cut}"
