"""Steps that inherit fields from a step definition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_allma.common.merging import merge_deep
from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import Diagnostic, Path, quoted
from airflow_allma.flow.normalize import builtin_definition

__all__ = ["StepDefinitions"]

# Fields that describe the definition and not the steps that inherit from it.
_ABOUT_ITSELF = frozenset(
    {"id", "version", "isPublished", "description", "tags", "createdAt", "updatedAt", "publishedAt"}
)


@dataclass(frozen=True, slots=True)
class StepDefinitions:
    """The step definitions that the flows of one file can inherit from.

    Attributes:
        by_id: definition id -> the definition, a JSON object.
        indexes: definition id -> its index in the export.
    """

    by_id: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    indexes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, definitions: Any) -> StepDefinitions:
        """Return the ``stepDefinitions`` of an export; those with the wrong shape are omitted."""
        by_id, indexes = {}, {}
        for index, definition in enumerate(definitions if isinstance(definitions, list) else ()):
            if definition_id := _string(definition, "id"):
                by_id[definition_id] = definition
                indexes[definition_id] = index
        return cls(by_id, indexes)

    def origin(self, flow: Any, path: Path) -> Path | None:
        """Return where an export defines what a flow's step inherits; None if the flow itself defines it.

        Args:
            flow: the flow as its file has it.
            path: into the flow with its inherited fields.
        """
        at = flow
        for index, segment in enumerate(path):
            base = self.by_id.get(_string(at, "stepDefinitionId"))
            rest = path[index:]
            if base is not None and _depth_of(base, rest) > _depth_of(at, rest):
                return ("stepDefinitions", self.indexes[at["stepDefinitionId"]], *rest)
            at = _member(at, segment)
        return None

    def inherit(self, flow: Mapping[str, Any], diagnostics: list[Diagnostic]) -> dict[str, Any]:
        """Return the flow with the inherited fields of its steps; report unknown definitions."""
        return (
            {**flow, "steps": self._steps(flow.get("steps"), ("steps",), diagnostics)}
            if "steps" in flow
            else {**flow}
        )

    def _steps(self, steps: Any, path: Path, diagnostics: list[Diagnostic]) -> Any:
        if isinstance(steps, dict):
            return {key: self._step(step, (*path, key), diagnostics) for key, step in steps.items()}
        if isinstance(steps, list):
            return [self._step(step, (*path, index), diagnostics) for index, step in enumerate(steps)]
        return steps

    def _step(self, step: Any, path: Path, diagnostics: list[Diagnostic]) -> Any:
        if not isinstance(step, dict):
            return step
        merged = step
        definition_id = step.get("stepDefinitionId")
        if isinstance(definition_id, str):
            base = self.by_id.get(definition_id) or builtin_definition(definition_id)
            if base is None:
                diagnostics.append(self._unknown(definition_id, (*path, "stepDefinitionId")))
            else:
                inherited = {key: value for key, value in base.items() if key not in _ABOUT_ITSELF}
                merged = merge_deep(inherited, step)
        branches = merged.get("parallelBranches")
        if not isinstance(branches, list):
            return merged
        return {
            **merged,
            "parallelBranches": list(self._branches(branches, (*path, "parallelBranches"), diagnostics)),
        }

    def _branches(self, branches: list[Any], path: Path, diagnostics: list[Diagnostic]) -> Iterator[Any]:
        for index, branch in enumerate(branches):
            if isinstance(branch, dict) and "steps" in branch:
                own = self._steps(branch["steps"], (*path, index, "steps"), diagnostics)
                yield {**branch, "steps": own}
            else:
                yield branch

    def _unknown(self, definition_id: str, path: Path) -> Diagnostic:
        if guess := nearest(definition_id, self.by_id):
            fix = f"did you mean {quoted(guess)}?"
        elif self.by_id:
            fix = f"this export has {', '.join(quoted(known_id) for known_id in sorted(self.by_id)[:8])}"
        else:
            fix = "an export has its own in `stepDefinitions`; elsewhere write the fields in the step itself"
        return Diagnostic(path, f"{quoted(definition_id)} is not a known step definition; {fix}")


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
