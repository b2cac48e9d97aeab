"""What a run that a step has started knows about that step: a part of the run's payload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self
from uuid import NAMESPACE_URL, uuid5

import msgspec

from airflow_allma.common.json_form import JsonForm
from airflow_allma.compat import NOT_MAPPED, is_operator_triggered
from airflow_allma.operators.transport import xcom_safe

__all__ = [
    "CONTEXT_POINTER_KEY",
    "RESERVED_KEYS",
    "RESUME_KEY",
    "RunLink",
    "conf_of",
    "flow_execution_id",
    "payload_of",
]

_KEY: Final = "_allma_start"
"""The key of the payload under which the link is; no flow sees it."""

CONTEXT_POINTER_KEY: Final = "_s3_context_pointer"
"""The key of the payload whose value names an object with the other keys of the payload."""


RESERVED_KEYS: Final = frozenset({_KEY, CONTEXT_POINTER_KEY})
"""The keys of a ``conf`` that mean something to this package."""

RESUME_KEY: Final = "_flow_resume_key"
"""The key of the data with the correlation key of the event that a run's end delivers."""


def flow_execution_id(dag_id: str, run_id: str) -> str:
    """Return the id of a flow's run: the same for all tasks and tries of a Dag run."""
    return str(uuid5(NAMESPACE_URL, f"airflow-allma:{dag_id}/{run_id}"))


class RunLink(JsonForm, msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The step that has started a run, and how.

    Attributes:
        root_id: id of the run in which all of this began.
        parent_id: id of the run whose step started this one.
        parent_step: that step.
        depth: how many flows are around this one.
        kind: how the run was started, an ``ExecutionKind``.
        dag_id: the Dag of the task that started it.
        run_id: that task's run.
        task_id: that task.
        map_index: its map index.
        flow_version: the version that is to run, or ``LATEST_PUBLISHED``.
        flow_execution_id: the run's id; None for one that is made from its Dag and run id.
        enable_execution_logs: whether it keeps records of its steps; None for the flow's own value.
        trigger_source: what the flow said about where the run comes from.
        resume_key: the event that the run's end delivers, with its final context.
        payload: the payload as JSON, if Airflow cannot store it as it is.
    """

    root_id: str
    parent_id: str
    parent_step: str
    depth: int
    kind: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = NOT_MAPPED
    flow_version: str = "LATEST_PUBLISHED"
    flow_execution_id: str | None = None
    enable_execution_logs: bool | None = None
    trigger_source: str | None = None
    resume_key: str | None = None
    payload: str | None = None

    @property
    def parent(self) -> tuple[str, str, str, int, str]:
        """The fields of a ``RunParent``."""
        return self.root_id, self.parent_id, self.parent_step, self.depth, self.kind

    def in_conf(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``conf`` of the run: its payload with this link."""
        return {**payload, _KEY: self.to_dict()}

    @classmethod
    def of(cls, dag_run: Any) -> Self | None:
        """Return what started a run; None for a run that no task has started.

        Whoever can trigger a Dag can write what they like into a payload, so only the link of a run that a
        task has started counts.
        """
        conf = dag_run.conf
        if not isinstance(conf, Mapping) or _KEY not in conf or not is_operator_triggered(dag_run):
            return None
        try:
            return cls.from_dict(conf[_KEY])
        except msgspec.ValidationError:
            return None


def conf_of(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the ``conf`` of a run that nothing links to a step, which ``payload_of`` reads.

    Args:
        payload: its payload; as JSON in a string if Airflow cannot store it as it is.
    """
    safe = xcom_safe(payload)
    return payload if safe is payload else {_KEY: {"payload": safe}}


def payload_of(conf: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return the payload of a run without the link, and the payload that the link holds as JSON, if any."""
    payload = {key: value for key, value in conf.items() if key != _KEY}
    link = conf.get(_KEY)
    text = link.get("payload") if isinstance(link, Mapping) else None
    return payload, text if isinstance(text, str) else None
