"""Fields that nothing reads, but whose names nearly are those of fields that are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.models import Flow
from airflow_allma.flow.steps import STEP_MODELS, AggregationConfig, OnError, ParallelBranch, Transition
from airflow_allma.flow.tree_walk import ANY, Scope, branches_of, select

__all__ = ["check_unknown_fields"]


def _fields(model: Any) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in model.model_fields.items())


_FLOW_FIELDS = _fields(Flow)
_STEP_FIELDS = {str(kind): _fields(model) for kind, model in STEP_MODELS.items()}
_BRANCH_FIELDS = _fields(ParallelBranch) | {"icon"}
_PARTS = (
    (("onError",), _fields(OnError)),
    (("transitions", ANY), _fields(Transition)),
    (("aggregationConfig",), _fields(AggregationConfig)),
)


def check_unknown_fields(flow: Mapping[str, Any], all_scopes: list[Scope]) -> Iterator[Diagnostic]:
    """Fields that no one reads but whose name is nearly that of one that is read (warnings)."""
    yield from _misspelt(flow, (), _FLOW_FIELDS)
    for scope in all_scopes:
        for place in scope.steps.values():
            known = _STEP_FIELDS.get(place.kind)
            if known is None:
                continue
            yield from _misspelt(place.step, place.path, known)
            for pattern, fields in _PARTS:
                for path, part in select(place.step, pattern, place.path):
                    yield from _misspelt(part, path, fields)
            for path, branch in branches_of(place):
                yield from _misspelt(branch, path, _BRANCH_FIELDS)


def _misspelt(value: Any, path: Path, known: frozenset[str]) -> Iterator[Diagnostic]:
    if not isinstance(value, dict) or value.keys() <= known:
        return
    for field in value.keys() - known:
        guess = nearest(field, known - value.keys())
        if guess is not None:
            yield Diagnostic(
                (*path, field),
                f"nothing reads {quoted(field)}; did you mean {quoted(guess)}?",
                Severity.WARNING,
                at_key=True,
            )
