"""What a flow's forks read and write, as Airflow's assets and for lineage such as OpenLineage."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow.sdk import Asset, AssetAlias

from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.flow.airflow_limits import MAX_ALIAS_LENGTH, MAX_ASSET_LENGTH
from airflow_allma.operators.task_context import LOG, TaskContext

if TYPE_CHECKING:
    from airflow_allma.flow import Flow, ParallelForkManagerStep
    from airflow_allma.storage import ObjectPrefix, Pointer

__all__ = ["aggregate_alias", "aggregate_asset", "known_manifests", "report_manifest"]

_FLOW_VARIABLE: Final = re.compile(r"\$\.flow_?variables\.([A-Za-z_]\w*)")
_DIGEST_LENGTH: Final = 16


def aggregate_alias(dag_id: str, fork: str) -> AssetAlias:
    """Return the alias of the asset for a fork's stored aggregates; other Dags can be scheduled on it."""
    name = f"allma/{dag_id}/{quote(fork)}"
    if len(name) > MAX_ALIAS_LENGTH:
        # The id of a step can have 200 characters, of 12 each in this form.
        digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_LENGTH]
        name = f"{name[: MAX_ALIAS_LENGTH - _DIGEST_LENGTH - 2]}--{digest}"
    return AssetAlias(name)


def known_manifests(flow: Flow, fork: ParallelForkManagerStep) -> list[Asset]:
    """Return the object that always holds a fork's items: a pointer in ``flowVariables``."""
    match = _FLOW_VARIABLE.fullmatch(fork.items_path or "")
    if match is None:
        return []
    value = flow.flow_variables.get(match.group(1))
    pointer = _parsed(value) if isinstance(value, Mapping) else None
    asset = None if pointer is None else _asset(pointer.uri)
    return [] if asset is None else [asset]


def report_manifest(task: Any, pointer: Pointer | ObjectPrefix) -> None:
    """Report the object with a task's items, or their prefix, to lineage, if there is any."""
    from airflow.sdk.lineage import get_hook_lineage_collector

    if _asset(pointer.uri) is not None:
        get_hook_lineage_collector().add_input_asset(task, uri=_encoded(pointer.uri))


def aggregate_asset(
    task: Any, current: TaskContext, output: Any, returned: Any
) -> tuple[Asset, dict[str, Any]] | None:
    """Return the asset of a stored aggregate and its event's ``extra``; None if nothing was stored.

    The asset ``<offload location>/<Dag>/<fork>`` is the same for all runs; ``extra`` has this run's object.

    Args:
        task: the aggregate's operator.
        current: its try.
        output: the fork's output.
        returned: the task's return value, which can be a pointer to it.
    """
    from airflow.sdk.lineage import get_hook_lineage_collector

    location = current.services.settings.results_location
    pointer = _stored(returned) or _stored(output.get("aggregatedData") if isinstance(output, dict) else None)
    if location is None or pointer is None:
        return None
    get_hook_lineage_collector().add_output_asset(task, uri=_encoded(pointer.uri))
    asset = _asset(location.below(current.ti.dag_id, task.step).uri)
    extra = {"object": pointer.uri, "flowExecutionId": current.info.flow_execution_id}
    return None if asset is None else (asset, extra)


def _stored(value: Any) -> Pointer | None:
    # A bare pointer can be a flow's own data.
    return _parsed(value) if isinstance(value, dict) and POINTER_KEY in value else None


def _parsed(value: Mapping[str, Any]) -> Pointer | None:
    from airflow_allma.exceptions import StorageConfigurationError
    from airflow_allma.storage import Pointer

    try:
        return Pointer.parse(value)
    except StorageConfigurationError:
        # The step that uses it fails and says why; here it only has no asset.
        return None


def _asset(uri: str) -> Asset | None:
    encoded = _encoded(uri)
    try:
        return Asset(encoded) if len(encoded) <= MAX_ASSET_LENGTH else None
    except ValueError as error:
        LOG.info("%s (%s cannot be an asset of Airflow)", error, encoded)
        return None


def _encoded(uri: str) -> str:
    # An asset's URI is ASCII, and what follows ? or # would be cut off.
    return quote(uri, safe=":/%~!$&'()*+,;=@-._")
