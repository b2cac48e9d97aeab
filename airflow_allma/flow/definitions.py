"""Steps that inherit fields from a step definition, wherever in the folder it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from airflow_allma.common.merging import merge_deep
from airflow_allma.flow.artifacts import Artifact, ArtifactKind, Need
from airflow_allma.flow.catalog import ArtifactProblem, Catalog
from airflow_allma.flow.diagnostics import Diagnostic, Path, quoted
from airflow_allma.flow.normalize import builtin_definition

__all__ = ["Origin", "StepDefinitions"]

# Fields that describe the definition and not the steps that inherit from it.
_ABOUT_ITSELF: Final = frozenset(
    {"id", "version", "isPublished", "description", "tags", "createdAt", "updatedAt", "publishedAt"}
)
_MAX_CHAIN: Final = 20
"""How many definitions can inherit from each other; what they contain nests as deeply."""
_TOO_LONG: Final = f"more than {_MAX_CHAIN} step definitions inherit from each other; use fewer"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a step has an inherited field from.

    Attributes:
        artifact: the definition.
        path: where in the definition the field is.
        step: the path of the step in the flow that inherits.
    """

    artifact: Artifact
    path: Path
    step: Path


class StepDefinitions:
    """What steps can inherit.

    Args:
        catalog: knows the definitions.

    Attributes:
        problems: definitions that inherit what they cannot.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.problems: list[ArtifactProblem] = []
        self._catalog = catalog
        self._expanded: dict[str, dict[str, Any] | str] = {}
        self._depths: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._chain: list[str] = []
        for definition_id in self._inheriting():
            self._expand(definition_id)

    def inherit(self, flow: Mapping[str, Any], diagnostics: list[Diagnostic]) -> dict[str, Any]:
        """Return the flow with the inherited fields of its steps; report definitions that cannot be used."""
        return (
            {**flow, "steps": self._steps(flow.get("steps"), ("steps",), diagnostics)}
            if "steps" in flow
            else {**flow}
        )

    def inherited_bytes(self, flow: Any) -> int:
        """Return the bytes of JSON that the steps of a flow inherit, each time that they do.

        Definitions that use each other can multiply to more than can be checked.
        """
        return sum(self._size(definition_id) for definition_id in _definition_ids(flow))

    def _size(self, definition_id: str) -> int:
        need = (ArtifactKind.STEP_DEFINITION, definition_id)
        if isinstance(self._expand(definition_id), str) or (artifact := self._catalog.find(need)) is None:
            return 0
        if definition_id not in self._sizes:
            own = len(msgspec.json.encode(artifact.value))
            self._sizes[definition_id] = own + self.inherited_bytes(artifact.value)
        return self._sizes[definition_id]

    def origin(self, flow: Any, path: Path) -> Origin | None:
        """Return which definition a value is from; None if the flow itself has it.

        Args:
            flow: the flow as its file has it.
            path: into the flow with its inherited fields.
        """
        at = flow
        for index, segment in enumerate(path):
            base, rest = self._base(at), path[index:]
            if base is not None and self._is_deeper(base, at, rest):
                while (inner := self.origin(base.value, rest)) is not None:
                    base, rest = inner.artifact, inner.path
                return Origin(base, rest, path[:index])
            at = _member(at, segment)
        return None

    def _base(self, step: Any) -> Artifact | None:
        definition_id = _string(step, "stepDefinitionId")
        return self._catalog.find((ArtifactKind.STEP_DEFINITION, definition_id)) if definition_id else None

    def _is_deeper(self, base: Artifact, own: Any, path: Path) -> bool:
        expanded = self._expand(base.id)
        return isinstance(expanded, dict) and _depth_of(expanded, path) > _depth_of(own, path)

    def _steps(self, steps: Any, path: Path, diagnostics: list[Diagnostic]) -> Any:
        if isinstance(steps, dict):
            return {key: self._step(step, (*path, key), diagnostics) for key, step in steps.items()}
        if isinstance(steps, list):
            return [self._step(step, (*path, index), diagnostics) for index, step in enumerate(steps)]
        return steps

    def _step(self, step: Any, path: Path, diagnostics: list[Diagnostic]) -> Any:
        if not isinstance(step, dict):
            return step
        own = self._with_branches(step, path, diagnostics)
        definition_id = step.get("stepDefinitionId")
        if not isinstance(definition_id, str):
            return own
        base = self._expand(definition_id)
        if isinstance(base, str):
            diagnostics.append(Diagnostic((*path, "stepDefinitionId"), base))
            return own
        return merge_deep({key: value for key, value in base.items() if key not in _ABOUT_ITSELF}, own)

    def _inheriting(self) -> list[str]:
        """Return the definitions that inherit, each after those that it inherits from, circles aside."""
        ordered: list[str] = []
        seen: set[str] = set()
        for root in self._catalog.inheriting:
            waiting = [(root, iter(sorted(root.needs)))] if root.id not in seen else []
            seen.add(root.id)
            while waiting:
                artifact, needs = waiting[-1]
                found = next((one for need in needs if (one := self._unseen(need, seen))), None)
                if found is None:
                    ordered.append(artifact.id)
                    waiting.pop()
                else:
                    seen.add(found.id)
                    waiting.append((found, iter(sorted(found.needs))))
        return ordered

    def _unseen(self, need: Need, seen: set[str]) -> Artifact | None:
        is_new = need[0] is ArtifactKind.STEP_DEFINITION and need[1] not in seen
        return self._catalog.find(need) if is_new else None

    def _expand(self, definition_id: str) -> dict[str, Any] | str:
        """Return a definition with what it inherits itself, or why it cannot be used."""
        known = self._expanded.get(definition_id)
        if known is not None:
            return known
        need = (ArtifactKind.STEP_DEFINITION, definition_id)
        artifact = self._catalog.find(need)
        if artifact is None and (builtin := builtin_definition(definition_id)) is not None:
            return builtin
        if reason := self._catalog.missing(need):
            return reason
        assert artifact is not None  # noqa: S101 - else it is missing
        if definition_id in self._chain:
            circle = " -> ".join(
                map(quoted, (*self._chain[self._chain.index(definition_id) :], definition_id))
            )
            return f"step definitions cannot inherit from themselves: {circle}; remove one `stepDefinitionId`"
        if len(self._chain) > _MAX_CHAIN:
            # Only in circles: elsewhere a definition is expanded after those that it inherits from.
            return _TOO_LONG
        self._chain.append(definition_id)
        problems: list[Diagnostic] = []
        expanded = self._step(artifact.value, (), problems)
        self._chain.pop()
        inherited = [self._depths.get(own_id, 1) for kind, own_id in artifact.needs if kind is need[0]]
        self._depths[definition_id] = 1 + max(inherited, default=0)
        if not problems and self._depths[definition_id] > _MAX_CHAIN:
            problems.append(Diagnostic((), _TOO_LONG))
        if not problems:
            self._expanded[definition_id] = expanded
            return dict(expanded)
        self.problems += (ArtifactProblem(artifact, problem) for problem in problems)
        location = self._catalog.location_of(artifact, problems[0].path)
        self._expanded[definition_id] = reason = (
            f"step definition {quoted(definition_id)} has errors, in {location}; fix it there"
        )
        return reason

    def _with_branches(
        self, step: dict[str, Any], path: Path, diagnostics: list[Diagnostic]
    ) -> dict[str, Any]:
        branches = step.get("parallelBranches")
        if not isinstance(branches, list):
            return step
        inherited = list(self._branches(branches, (*path, "parallelBranches"), diagnostics))
        return {**step, "parallelBranches": inherited}

    def _branches(self, branches: list[Any], path: Path, diagnostics: list[Diagnostic]) -> Iterator[Any]:
        for index, branch in enumerate(branches):
            if isinstance(branch, dict) and "steps" in branch:
                own = self._steps(branch["steps"], (*path, index, "steps"), diagnostics)
                yield {**branch, "steps": own}
            else:
                yield branch


def _definition_ids(value: Any) -> Iterator[str]:
    """Yield each ``stepDefinitionId`` in a JSON value."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if definition_id := _string(value, "stepDefinitionId"):
                yield definition_id
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _member(value: Any, segment: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(segment)
    if isinstance(value, list) and isinstance(segment, int) and segment < len(value):
        return value[segment]
    return None


def _string(value: Any, field: str) -> str:
    member = value.get(field) if isinstance(value, dict) else None
    return member if isinstance(member, str) else ""


def _depth_of(value: Any, path: Path) -> int:
    """Return how far a path leads into a value."""
    for depth, segment in enumerate(path):
        value = _member(value, segment)
        if value is None:
            return depth
    return len(path)
