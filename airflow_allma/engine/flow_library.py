"""The flows that a step can run: where their programs come from, and why there is none."""

from __future__ import annotations

from typing import Any, Final, Protocol

from airflow_allma.common.nearest import nearest
from airflow_allma.engine.flow_runs import LATEST_VERSION
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import Flow, FlowSource, LoadedFolder

__all__ = ["UNKNOWN_FLOW", "FlowLibrary", "find_flow"]

_MAX_LISTED: Final = 8
UNKNOWN_FLOW: Final = "UnknownSubflowError"
"""The ``errorName`` where a step names a flow, or a version, that does not run."""


class FlowLibrary(Protocol):
    """The flows of one configuration, compiled."""

    def program(self, flow_id: str, version: str, /) -> Any:
        """Return the ``FlowProgram`` of a flow, the same one each time.

        The first call reads and compiles files.

        Args:
            flow_id: the flow.
            version: its version, as a string, or ``LATEST_VERSION``.

        Raises:
            PermanentStepError: the flow or this version of it does not exist, or does not run.
        """


def find_flow(loaded: LoadedFolder, flow_id: str, version: str = LATEST_VERSION) -> Flow:
    """Return one version of a flow.

    Args:
        loaded: the files; for a flow that they do not have, all files of the folder.
        flow_id: the flow.
        version: its version, also one that is not published, or ``LATEST_VERSION``.

    Raises:
        PermanentStepError: the flow or this version of it does not exist, or does not run.
    """
    versions: dict[str, FlowSource] = {}
    sources = (source for file in loaded.files for source in file.flows if source.flow.id == flow_id)
    for source in sorted(sources, key=lambda one: (one.file, one.path_key)):
        versions.setdefault(str(source.flow.version), source)
    if not versions:
        raise _error(_unknown(loaded, flow_id), flow_id, version)
    disabled = next((source.disabled_by for source in versions.values() if source.disabled_by), ())
    if disabled:
        raise _error(
            f"Flow {flow_id!r} does not run, as all of its agents are disabled: {', '.join(disabled)}. Set "
            "`enabled` of one to true.",
            flow_id,
            version,
        )
    if version != LATEST_VERSION:
        if version in versions:
            return versions[version].flow
        known = ", ".join(sorted(versions, key=int))
        raise _error(f"Flow {flow_id!r} has no version {version!r}; it has {known}.", flow_id, version)
    for source in loaded.flows:
        if source.flow.id == flow_id:
            return source.flow
    raise _error(
        f"No version of flow {flow_id!r} is published. Set `isPublished` to true, or name a version.",
        flow_id,
        version,
    )


def _unknown(loaded: LoadedFolder, flow_id: str) -> str:
    for file in loaded.files:
        if flow_id in file.broken_flow_ids:
            return (
                f"Flow {flow_id!r} has errors, in {file.file}. Fix them; `airflow-allma validate` lists them."
            )
    known = sorted({source.flow.id for file in loaded.files for source in file.flows})
    if guess := nearest(flow_id, known):
        fix = f"Did you mean {guess!r}?"
    elif known:
        more = ", ..." if len(known) > _MAX_LISTED else ""
        fix = f"Known are {', '.join(map(repr, known[:_MAX_LISTED]))}{more}."
    else:
        fix = "No file defines it."
    return f"{flow_id!r} is not a known flow. {fix}"


def _error(message: str, flow_id: str, version: str) -> PermanentStepError:
    details = {"flowDefinitionId": flow_id, "flowVersion": version}
    return PermanentStepError(message, details=details, error_name=UNKNOWN_FLOW)
