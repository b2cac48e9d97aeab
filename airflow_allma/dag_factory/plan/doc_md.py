"""The documentation of a Dag and its tasks in Airflow's UI, as Markdown."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from airflow_allma.dag_factory.plan.flow_text import MAX_SHOWN, json_block
from airflow_allma.flow import Flow, Step, safe_dag_id
from airflow_allma.flow.airflow_limits import DESCRIPTION

__all__ = ["dag_doc_md", "flow_json", "step_doc_md"]

_MAX_STEP_LENGTH: Final = 8 << 10
"""Characters of JSON."""


def dag_doc_md(flow: Flow, source: str) -> str:
    """Return a flow's description, the address of its picture, and its JSON, which is ``flow_json(flow)``."""
    parts = [f"Flow `{flow.id}`, version {flow.version}."]
    if flow.description:
        parts.insert(0, DESCRIPTION.fit(flow.description))
    # Relative: Airflow can be below a path of its host. Browsers send the user's cookie.
    # Airflow shows it at most 300 pixels wide, so it is also a link to itself.
    picture = f"allma/api/dags/{quote(safe_dag_id(flow.id), safe='')}/picture.svg"
    parts.append(f"[![Picture of the flow]({picture})]({picture})")
    parts.append(json_block(source, MAX_SHOWN))
    return "\n\n".join(parts)


def flow_json(flow: Flow) -> str:
    """Return a flow as indented JSON."""
    return _json_of(flow)


def step_doc_md(step: Step, note: str = "") -> str:
    """Return a step's JSON, after a note on what the task does where that is not obvious."""
    parts = [note] if note else []
    parts.append(json_block(_json_of(step), _MAX_STEP_LENGTH))
    return "\n\n".join(parts)


def _json_of(model: Flow | Step) -> str:
    # This runs for every step at every parse; json.dumps, which indents in Python, takes five times as long.
    return model.model_dump_json(indent=2, by_alias=True, exclude_unset=True)
