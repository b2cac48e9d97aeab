"""What a flow's forks read and write, as Airflow's assets and for readers of lineage such as OpenLineage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow.sdk import Asset, AssetAlias

from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.operators.task_context import LOG

if TYPE_CHECKING:
    from airflow_allma.flow import Flow, ParallelForkManagerStep
    from airflow_allma.operators.task_context import TaskContext
    from airflow_allma.storage import Pointer

__all__ = ["aggregate_alias", "aggregate_asset", "known_manifests", "tell_of_manifest"]

_OF_VARIABLES: Final = re.compile(r"\$\.flow_?variables\.([A-Za-z_]\w*)")
_LONGEST_NAME: Final = 1500
"""Airflow's limit for the name and the URI of an asset."""


def aggregate_alias(dag_id: str, fork: str) -> AssetAlias:
    """The alias under which a fork's stored aggregates are an asset; other Dags can be scheduled on it."""
    return AssetAlias(f"allma/{dag_id}/{quote(fork)}")


def known_manifests(flow: Flow, fork: ParallelForkManagerStep) -> list[Asset]:
    """The object that a fork's items always are: a pointer in ``flowVariables`` that ``itemsPath`` names."""
    from airflow_allma.storage.pointers import Pointer

    named = _OF_VARIABLES.fullmatch(fork.items_path or "")
    if named is None:
        return []
    value = flow.flow_variables.get(named.group(1))
    pointer = Pointer.parse(value) if isinstance(value, Mapping) else None
    asset = None if pointer is None else _asset(pointer.uri)
    return [] if asset is None else [asset]


def tell_of_manifest(task: Any, pointer: Pointer) -> None:
    """Tell readers of lineage, if there are any, that a task's items are this object."""
    from airflow.sdk.lineage import get_hook_lineage_collector

    if _asset(pointer.uri) is not None:
        get_hook_lineage_collector().add_input_asset(task, uri=_encoded(pointer.uri))


def aggregate_asset(
    task: Any, run: TaskContext, output: Any, returned: Any
) -> tuple[Asset, dict[str, Any]] | None:
    """The asset ``<offload location>/<Dag>/<fork>``, and its event's ``extra``; None if nothing was stored.

    The asset is the same for all runs; ``extra`` names this run's object.

    Args:
        task: the aggregate's operator.
        run: its run.
        output: the fork's output.
        returned: the task's return value, which may be a pointer to it.
    """
    from airflow.sdk.lineage import get_hook_lineage_collector

    location = run.services.settings.offload_location
    pointer = _stored(returned) or _stored(output.get("aggregatedData") if isinstance(output, dict) else None)
    if location is None or pointer is None:
        return None
    get_hook_lineage_collector().add_output_asset(task, uri=_encoded(pointer.uri))
    asset = _asset(location.below(run.ti.dag_id, task.step).uri)
    extra = {"object": pointer.uri, "flowExecutionId": run.info.flow_execution_id}
    return None if asset is None else (asset, extra)


def _stored(value: Any) -> Pointer | None:
    from airflow_allma.storage.pointers import Pointer

    # A bare pointer may be a flow's own data.
    return Pointer.parse(value) if isinstance(value, dict) and POINTER_KEY in value else None


def _asset(uri: str) -> Asset | None:
    encoded = _encoded(uri)
    try:
        return Asset(encoded) if len(encoded) <= _LONGEST_NAME else None
    except ValueError as error:
        LOG.info("%s cannot be an asset of Airflow: %s", encoded, error)
        return None


def _encoded(uri: str) -> str:
    # An asset's URI is ASCII, and what follows ? or # would be cut off.
    return quote(uri, safe=":/%~!$&'()*+,;=@-._")
