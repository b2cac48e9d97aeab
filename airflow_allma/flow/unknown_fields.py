"""Unknown fields whose names are similar to known ones."""

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
    """Yield a warning for each unknown field whose name is similar to a known one."""
    yield from _misspelled(flow, (), _FLOW_FIELDS)
    for scope in all_scopes:
        for located in scope.steps.values():
            known = _STEP_FIELDS.get(located.kind)
            if known is None:
                continue
            yield from _misspelled(located.step, located.path, known)
            for pattern, fields in _PARTS:
                for path, part in select(located.step, pattern, located.path):
                    yield from _misspelled(part, path, fields)
            for path, branch in branches_of(located):
                yield from _misspelled(branch, path, _BRANCH_FIELDS)


def _misspelled(value: Any, path: Path, known: frozenset[str]) -> Iterator[Diagnostic]:
    if not isinstance(value, dict) or value.keys() <= known:
        return
    for field in value.keys() - known:
        guess = nearest(field, known - value.keys())
        if guess is not None:
            yield Diagnostic(
                (*path, field),
                f"{quoted(field)} is not a known field; did you mean {quoted(guess)}?",
                Severity.WARNING,
                at_key=True,
            )
