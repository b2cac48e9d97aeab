"""What a file contains, before its flows are checked: whether they are valid can depend on other files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import ValidationError

from airflow_allma.flow.artifacts import (
    Artifact,
    ArtifactKind,
    Need,
    mentions_needs,
    needs_of,
    read_artifact,
    read_artifacts,
)
from airflow_allma.flow.bundle import Export
from airflow_allma.flow.checks import FlowChecks
from airflow_allma.flow.diagnostics import Diagnostic, Path, Problem, Severity, quoted
from airflow_allma.flow.documents import Document, UnreadableDocumentError, read_document
from airflow_allma.flow.pydantic_errors import diagnostics_of

__all__ = ["PROMPT_SUFFIX", "FileContents", "FileKind", "read_file"]

PROMPT_SUFFIX: Final = ".prompt.json"
_EXPORT_PARTS: Final = tuple(kind.value for kind in ArtifactKind)


class FileKind(StrEnum):
    """What a file contains."""

    FLOW = "flow"
    EXPORT = "export"
    PROMPT = "prompt"
    OTHER = "other"
    """JSON, but neither of these."""
    UNREADABLE = "unreadable"
    """Not JSON, or cannot be read."""


@dataclass(frozen=True, slots=True)
class FileContents:
    """What a file contains.

    Attributes:
        file: its path, as the caller passed it.
        kind: what it is.
        flows: its flows as JSON, valid or not, each with its place: ``()`` in a file of its own,
            ``("flows", 2)`` in an export.
        artifacts: what it defines for flows, also with errors.
        diagnostics: what is wrong apart from its flows.
        problems: why it cannot be read.
        needs: what its flows refer to, apart from what they inherit.
        document: the file itself, to locate what is wrong; None for a file that cannot be read.
    """

    file: str
    kind: FileKind
    flows: tuple[tuple[Path, Any], ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    problems: tuple[Problem, ...] = ()
    needs: frozenset[Need] = frozenset()
    document: Document | None = None

    @property
    def is_readable(self) -> bool:
        """Whether it is JSON that could be read."""
        return self.kind is not FileKind.UNREADABLE

    @property
    def flow_versions(self) -> Iterator[tuple[str, int, bool]]:
        """The id of each flow, valid or not, its version, and whether that is published."""
        for _, flow in self.flows:
            if isinstance(flow, dict) and isinstance(flow.get("id"), str):
                version = flow.get("version", 1)
                is_version = isinstance(version, int) and not isinstance(version, bool)
                yield flow["id"], version if is_version else 1, flow.get("isPublished") is not False

    @property
    def flow_ids(self) -> frozenset[str]:
        """The ids of its flows, valid or not."""
        return frozenset(
            flow["id"] for _, flow in self.flows if isinstance(flow, dict) and isinstance(flow.get("id"), str)
        )


def read_file(path: FilePath | str, checks: FlowChecks, *, file: str | None = None) -> FileContents:
    """Read one file. Never raises for the file's content or for a missing file.

    Args:
        path: the file.
        checks: what is checked beyond the flow language.
        file: the path as problems show it; None: ``path``.
    """
    shown = file if file is not None else str(path)
    try:
        document = read_document(FilePath(path), shown)
    except UnreadableDocumentError as error:
        return FileContents(shown, FileKind.UNREADABLE, problems=error.problems)
    value = document.value
    if _is_export(value):
        return _export(document, value, checks)
    diagnostics: list[Diagnostic] = []
    if shown.endswith(PROMPT_SUFFIX):
        prompt = read_artifact(shown, ArtifactKind.PROMPT, (), value, checks, diagnostics)
        artifacts = (prompt,) if prompt else ()
        return FileContents(
            shown, FileKind.PROMPT, artifacts=artifacts, diagnostics=tuple(diagnostics), document=document
        )
    if _is_flow(value):
        needs = needs_of(value) if mentions_needs(document.source) else frozenset()
        return FileContents(shown, FileKind.FLOW, (((), value),), needs=needs, document=document)
    other = Diagnostic(
        (),
        "neither a flow (an object with `steps` and `startStepInstanceId`) nor an export "
        f'(`"formatVersion": "1.0"` and a list such as `flows`); ignored{_why_no_flow(value)}',
        Severity.WARNING,
    )
    return FileContents(shown, FileKind.OTHER, diagnostics=(other,), document=document)


def _export(document: Document, value: dict[str, Any], checks: FlowChecks) -> FileContents:
    diagnostics: list[Diagnostic] = []
    try:
        Export.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        diagnostics += diagnostics_of(error, value)
    artifacts = read_artifacts(document.file, value, checks, diagnostics)
    listed = value.get("flows")
    flows = listed if isinstance(listed, list) else []
    return FileContents(
        document.file,
        FileKind.EXPORT,
        tuple((("flows", index), flow) for index, flow in enumerate(flows)),
        artifacts,
        tuple(diagnostics),
        needs=needs_of(flows) if mentions_needs(document.source) else frozenset(),
        document=document,
    )


def _is_flow(value: Any) -> bool:
    """Return whether a value is a flow, or was obviously intended to be one."""
    if not isinstance(value, dict) or "formatVersion" in value:
        return False
    steps = value.get("steps")
    if "startStepInstanceId" in value:
        return True
    return isinstance(steps, dict) and any(
        isinstance(step, dict) and "stepType" in step for step in steps.values()
    )


def _why_no_flow(value: Any) -> str:
    """Return what to do about a flow inside of something else; empty if there is none."""
    if isinstance(value, list):
        return "; a file contains one flow, not a list" if any(map(_is_flow, value)) else ""
    if not isinstance(value, dict):
        return ""
    flows = value.get("flows")
    if isinstance(flows, list) and "formatVersion" not in value and any(map(_is_flow, flows)):
        return '; add `"formatVersion": "1.0"` next to `flows`'
    key = next((key for key, member in value.items() if _is_flow(member)), None)
    return (
        ""
        if key is None
        else f"; the flow is inside {quoted(key)}, so move its fields to the top of the file"
    )


def _is_export(value: Any) -> bool:
    return (
        isinstance(value, dict) and "formatVersion" in value and any(part in value for part in _EXPORT_PARTS)
    )
