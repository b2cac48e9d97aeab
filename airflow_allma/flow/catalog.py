"""What all files of one load define for each other: definitions, prompts, connections, agents, flow ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgspec

from airflow_allma.common.nearest import nearest
from airflow_allma.flow.artifacts import Artifact, ArtifactKind, Need
from airflow_allma.flow.bundle import Agent
from airflow_allma.flow.deploy_variables import NO_DEPLOY_VARIABLES, DeployVariables
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.file_contents import FileContents, FileKind
from airflow_allma.flow.positions import Positions

__all__ = ["EMPTY_CATALOG", "ArtifactProblem", "Catalog"]

_TIMES: Final = frozenset({"createdAt", "updatedAt", "publishedAt"})
_MAX_LISTED: Final = 8


@dataclass(frozen=True, slots=True)
class ArtifactProblem:
    """Something wrong in an artifact.

    Attributes:
        artifact: the artifact.
        diagnostic: what is wrong; its path begins at the artifact.
    """

    artifact: Artifact
    diagnostic: Diagnostic


class _Version(NamedTuple):
    """A version of a flow, valid or not: its file, and whether it is published."""

    file: str
    is_published: bool


class Catalog:
    """What the files of one load define for each other.

    Of several versions of an artifact, the published one with the highest number counts. One with errors
    counts too: what refers to it does not run.

    Args:
        contents: the files.
        around: further files, which can define what those do not.
        deploy: the values of placeholders in flow variables.
        is_complete: see below.

    Attributes:
        deploy: the values of placeholders in flow variables.
        positions: locates what is wrong in any of the files.
        is_complete: whether these are all files, so that an id that none of them defines does not exist. A
            missing step definition is an error anyway, as its steps cannot run.
        problems: what is wrong between artifacts.
    """

    def __init__(
        self,
        contents: Iterable[FileContents] = (),
        around: Iterable[FileContents] = (),
        *,
        deploy: DeployVariables = NO_DEPLOY_VARIABLES,
        is_complete: bool = False,
    ) -> None:
        own = tuple(contents)
        listed = (*own, *around)
        self.deploy = deploy
        self.positions = Positions(one.document for one in listed if one.document is not None)
        self.is_complete = is_complete
        self.problems: list[ArtifactProblem] = []
        self._flows: dict[str, dict[int, _Version]] = {}
        for one in listed:
            for flow_id, version, is_published in one.flow_versions:
                self._flows.setdefault(flow_id, {}).setdefault(version, _Version(one.file, is_published))
        self.flow_ids = frozenset(self._flows)
        self._selected: dict[Need, Artifact] = {}
        self._drafts: dict[Need, Artifact] = {}
        self._unreadable = tuple(one.file for one in listed if one.kind is FileKind.UNREADABLE)
        artifacts = [artifact for one in own for artifact in one.artifacts]
        defined = {(artifact.kind, artifact.id, artifact.version) for artifact in artifacts}
        artifacts += (
            artifact
            for one in listed[len(own) :]
            for artifact in one.artifacts
            if (artifact.kind, artifact.id, artifact.version) not in defined
        )
        artifacts.sort(key=lambda one: (one.kind, one.id, one.file, one.path[1:]))
        for need, group in groupby(artifacts, key=lambda one: (one.kind, one.id)):
            self._select(need, list(group))
        self._variables: dict[Artifact, Mapping[str, Any]] = {}
        self._sizes: dict[Artifact, int] = {}
        self._agents: dict[str, list[Artifact]] = {}
        for (kind, _), agent in self._selected.items():
            if kind is ArtifactKind.AGENT:
                self._add_agent(agent)

    def _select(self, need: Need, artifacts: list[Artifact]) -> None:
        versions: dict[int | None, Artifact] = {}
        for artifact in artifacts:
            first = versions.setdefault(artifact.version, artifact)
            if first is not artifact and not _is_same(first.value, artifact.value):
                which = f"version {artifact.version} of " if artifact.version is not None else ""
                self._add(
                    artifact,
                    (),
                    f"{which}{artifact.kind.label} {quoted(artifact.id)} is already defined in "
                    f"{self.location_of(first)}, which is used; "
                    + ("raise this `version`, " if which else "")
                    + "change this `id`, or remove one of the two",
                )
        # One whose version cannot be read has errors, and could be the newest.
        published = [one for one in versions.values() if one.is_published]
        chosen = max(published or versions.values(), key=lambda one: (one.version is None, one.version or 0))
        (self._selected if published else self._drafts)[need] = chosen

    def _add(self, artifact: Artifact, path: Path, message: str, severity: Severity = Severity.ERROR) -> None:
        self.problems.append(ArtifactProblem(artifact, Diagnostic(path, message, severity)))

    def _add_agent(self, agent: Artifact) -> None:
        listed = agent.value.get("flowIds")
        flow_ids = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
        for flow_id in dict.fromkeys(flow_ids):
            self._agents.setdefault(flow_id, []).append(agent)
        if not isinstance(agent.model, Agent):
            return
        unfilled: list[Diagnostic] = []
        variables = self.deploy.fill(agent.model.flow_variables, ("flowVariables",), unfilled)
        if not self.deploy.problem or not unfilled:
            self._variables[agent] = variables
        self.problems += (ArtifactProblem(agent, diagnostic) for diagnostic in unfilled)
        if not flow_ids:
            message = f"this has no effect: agent {quoted(agent.id)} names no flow; add ids to `flowIds`"
            self._add(agent, (), message, Severity.WARNING)
        if not self.is_complete:
            return
        for index, flow_id in enumerate(flow_ids):
            if flow_id not in self.flow_ids:
                self._add(agent, ("flowIds", index), self.unknown((ArtifactKind.FLOW, flow_id)))

    def find(self, need: Need) -> Artifact | None:
        """Return the version that counts, also one with errors; None if none is published or defined."""
        return self._selected.get(need)

    def draft(self, need: Need) -> Artifact | None:
        """Return the newest version of an artifact of which no version is published; None otherwise."""
        return self._drafts.get(need)

    @property
    def inheriting(self) -> Iterator[Artifact]:
        """The step definitions that refer to others, ordered by id."""
        for (kind, _), artifact in self._selected.items():
            if kind is ArtifactKind.STEP_DEFINITION and artifact.model is not None and artifact.needs:
                yield artifact

    def agents_of(self, flow_id: str) -> tuple[Artifact, ...]:
        """Return the agents that name a flow, ordered by id; also disabled ones, and those with errors."""
        return tuple(self._agents.get(flow_id, ()))

    def variables_of(self, agent: Artifact) -> Mapping[str, Any] | None:
        """Return the variables of an agent; None if it has errors."""
        return self._variables.get(agent)

    def agents_bytes(self, flow_id: str) -> int:
        """Return the bytes of JSON of the variables of a flow's agents."""
        total = 0
        for agent in self._agents.get(flow_id, ()):
            if agent not in self._sizes:
                self._sizes[agent] = len(msgspec.json.encode(self._variables.get(agent, {})))
            total += self._sizes[agent]
        return total

    def location_of(self, artifact: Artifact, path: Path = ()) -> str:
        """Return where an artifact is, or a part of it: ``file:line:column``."""
        line, column = self.positions.find(artifact.file, (*artifact.path, *path))
        return f"{artifact.file}:{line}:{column}" if line else artifact.file

    def missing(self, need: Need) -> str | None:
        """Return why nothing can refer to an artifact, a sentence; None if it can."""
        kind, own_id = need
        if kind is ArtifactKind.FLOW:
            return None if own_id in self.flow_ids else self.unknown(need)
        artifact = self.find(need)
        if artifact is not None:
            if artifact.model is not None:
                return None
            return f"{kind.label} {quoted(own_id)} has errors, in {self.location_of(artifact)}; fix it there"
        if draft := self.draft(need):
            return (
                f"no version of {kind.label} {quoted(own_id)} is published; set `isPublished` to true in "
                f"{self.location_of(draft)}"
            )
        return self.unknown(need)

    def missing_version(self, flow_id: str, version: str) -> str | None:
        """Return why a version of a known flow cannot run, a sentence; None if it can.

        Args:
            flow_id: the flow.
            version: the number of a version, or another string for the published one with the highest number.
        """
        versions = self._flows.get(flow_id, {})
        if version.isdecimal():
            if not versions or int(version) in versions:
                return None
            known = ", ".join(map(str, sorted(versions)))
            return f"flow {quoted(flow_id)} has no version {version}; it has {known}"
        if not versions or any(one.is_published for one in versions.values()):
            return None
        return (
            f"no version of flow {quoted(flow_id)} is published; set `isPublished` to true in "
            f"{versions[max(versions)].file}, or name a version"
        )

    def unknown(self, need: Need) -> str:
        """Return a sentence about an id that nothing defines, with the nearest known one."""
        kind, own_id = need
        known = self._known_ids.get(kind, ())
        if kind is ArtifactKind.STEP_DEFINITION and own_id.startswith("system/"):
            fix = f"did you mean {quoted(own_id.replace('/', '-', 1))}?"
        elif guess := nearest(own_id, known):
            fix = f"did you mean {quoted(guess)}?"
        elif unreadable := next(
            (file for file in self._unreadable if file.rpartition("/")[2].startswith(f"{own_id}.")), None
        ):
            fix = f"it may be in {unreadable}, which cannot be read"
        elif known:
            fix = f"known are {', '.join(quoted(one) for one in known[:_MAX_LISTED])}"
        elif kind is ArtifactKind.STEP_DEFINITION:
            fix = "add it to the `stepDefinitions` of an export, or write the fields in the step itself"
        else:
            fix = "no file of this folder defines one"
        return f"{quoted(own_id)} is not a known {kind.label}; {fix}"

    @cached_property
    def _known_ids(self) -> Mapping[ArtifactKind, Sequence[str]]:
        """The ids of each kind, sorted."""
        found: dict[ArtifactKind, Sequence[str]] = {ArtifactKind.FLOW: sorted(self.flow_ids)}
        for kind, group in groupby(sorted({*self._selected, *self._drafts}), key=lambda one: one[0]):
            found[kind] = [own_id for _, own_id in group]
        return found

    def closure(self, needs: Iterable[Need]) -> tuple[Artifact | None, ...]:
        """Return all artifacts that are needed, directly or by others, in a stable order.

        None stands for one that is missing.
        """
        found: dict[Need, Artifact | None] = {}
        waiting = sorted(needs, reverse=True)
        while waiting:
            need = waiting.pop()
            if need in found or need[0] is ArtifactKind.FLOW:
                continue
            artifact = found[need] = self.find(need) or self.draft(need)
            if artifact is not None:
                waiting += sorted(artifact.needs, reverse=True)
        return tuple(found.values())

    def dependencies(self, contents: FileContents) -> tuple[object, ...]:
        """Return what decides, besides a file itself, what is said about it.

        As long as the tuple is equal, so is the result of the file's check.
        """
        # Nothing is equal to a new object: suggestions depend on all ids, so they are always made anew.
        missing = object()
        agents = (agent for flow_id in sorted(contents.flow_ids) for agent in self.agents_of(flow_id))
        found = self.closure(contents.needs) if contents.needs else ()
        needs = contents.needs.union(*(artifact.needs for artifact in found if artifact is not None))
        flows = [own_id for kind, own_id in sorted(needs) if kind is ArtifactKind.FLOW and "{{" not in own_id]
        return (
            self.deploy,
            self.is_complete,
            *(artifact or missing for artifact in found),
            *agents,
            *(self._flows.get(own_id, missing) for own_id in flows),
            *(agent for own_id in flows for agent in self.agents_of(own_id)),
        )


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two definitions are equal, apart from when they were made."""
    return one == other or _untimed(one) == _untimed(other)


def _untimed(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: member for name, member in value.items() if name not in _TIMES}


EMPTY_CATALOG: Final = Catalog()
