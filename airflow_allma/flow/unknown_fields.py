"""Unknown fields that are misspelled, or that belong somewhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from airflow_allma.common.nearest import nearest
from airflow_allma.flow.completion_actions import CompletionAction
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.field_homes import Place, fields_of, home_of
from airflow_allma.flow.models import DefaultStepConfig, Flow
from airflow_allma.flow.steps import (
    STEP_MODELS,
    AggregationConfig,
    ApiUrlTemplate,
    ContentRetry,
    Delay,
    OnError,
    OutputValidation,
    ParallelBranch,
    Retries,
    Transition,
)
from airflow_allma.flow.steps.item_batcher import ItemBatcher
from airflow_allma.flow.steps.item_reader import CsvOptions, ItemReader
from airflow_allma.flow.tree_walk import ANY, LocatedStep, Pattern, Scope, select

__all__ = ["check_unknown_fields"]

_FLOW_FIELDS: Final = fields_of(Flow) | {"$schema"}
_STEP_FIELDS: Final = {str(kind): fields_of(model) for kind, model in STEP_MODELS.items()}
_PARTS: Final[tuple[tuple[Pattern, frozenset[str]], ...]] = (
    (("onError",), fields_of(OnError)),
    (("onError", "retries"), fields_of(Retries)),
    (("onError", "retryOnContentError"), fields_of(ContentRetry)),
    (("transitions", ANY), fields_of(Transition)),
    (("delay",), fields_of(Delay)),
    (("outputValidation",), fields_of(OutputValidation)),
    (("aggregationConfig",), fields_of(AggregationConfig)),
    (("itemReader",), fields_of(ItemReader)),
    (("itemReader", "csv"), fields_of(CsvOptions)),
    (("itemBatcher",), fields_of(ItemBatcher)),
    (("apiUrlTemplate",), fields_of(ApiUrlTemplate)),
    (("parallelBranches", ANY), fields_of(ParallelBranch) | {"icon"}),
)
_PARTS_OF_FLOW: Final[tuple[tuple[Pattern, frozenset[str]], ...]] = (
    (("defaultStepConfig",), fields_of(DefaultStepConfig)),
    (("defaultStepConfig", "defaultErrorHandler"), fields_of(OnError)),
    (("defaultStepConfig", "defaultErrorHandler", "retries"), fields_of(Retries)),
    (("onCompletionActions", ANY), fields_of(CompletionAction)),
)
_MEANT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("attempts", "limit", "maxAttempts", "maxRetries", "MaxAttempts"), "count"),
    **dict.fromkeys(("interval", "IntervalSeconds", "delaySeconds"), "intervalSeconds"),
    **dict.fromkeys(("backoff", "BackoffRate", "multiplier"), "backoffRate"),
    **dict.fromkeys(("ErrorEquals", "errors"), "errorEquals"),
}
"""What retries have in other systems -> what it is called here."""
_MIN_BEGINNING: Final = 4
_COMPOSE: Final = "system/compose-object-from-input"
# Fields of steps whose names no module's input has.
_NEVER_IN_CONFIG: Final = frozenset(
    {
        "checkpoint",
        "continueOnFailure",
        "customConfig",
        "defaultNextStepInstanceId",
        "fallbackStepInstanceId",
        "inputMappings",
        "literals",
        "maxConcurrency",
        "moduleIdentifier",
        "onError",
        "outputMappings",
        "outputValidation",
        "retries",
        "retryOnContentError",
        "stepType",
        "transitions",
    }
)


def check_unknown_fields(flow: Mapping[str, Any], all_scopes: list[Scope]) -> Iterator[Diagnostic]:
    """Yield a warning for each unknown field that is misspelled or belongs somewhere else."""
    yield from _unknown(flow, (), _FLOW_FIELDS, Place.FLOW)
    for pattern, fields in _PARTS_OF_FLOW:
        if pattern[0] in flow:
            for path, part in select(flow, pattern):
                yield from _unknown(part, path, fields, Place.DEFAULTS)
    for scope in all_scopes:
        for located in scope.steps.values():
            known = _STEP_FIELDS.get(located.kind)
            if known is not None:
                yield from _in_step(located, known)


def _in_step(located: LocatedStep, known: frozenset[str]) -> Iterator[Diagnostic]:
    yield from _unknown(located.step, located.path, known, Place.STEP, located.kind)
    for pattern, fields in _PARTS:
        # A field that this type of step does not have is reported itself.
        if pattern[0] in located.step and pattern[0] in known:
            for path, part in select(located.step, pattern, located.path):
                yield from _unknown(part, path, fields, Place.IN_STEP, located.kind)
    config = located.step.get("customConfig")
    # API_CALL has a list of its own of what it reads there; a composed object can have any name.
    if isinstance(config, dict) and located.step.get("moduleIdentifier") not in {None, _COMPOSE}:
        for field in config.keys() & _NEVER_IN_CONFIG:
            home = home_of(field, Place.IN_STEP, located.kind)
            if home is not None:
                yield _misplaced((*located.path, "customConfig", field), field, home)


def _unknown(
    value: Any, path: Path, known: frozenset[str], place: Place, kind: str = ""
) -> Iterator[Diagnostic]:
    if not isinstance(value, dict) or value.keys() <= known:
        return
    for field in value.keys() - known:
        home = home_of(field, place, kind)
        free = known - value.keys()
        meant = _MEANT.get(field)
        guess = meant if meant in free else nearest(field, free) or _beginning_with(field, free)
        if guess is not None and (home is None or guess == meant or guess.casefold() == field.casefold()):
            yield Diagnostic(
                (*path, field),
                f"{quoted(field)} is not a known field; did you mean {quoted(guess)}?",
                Severity.WARNING,
                at_key=True,
            )
        elif home is not None:
            yield _misplaced((*path, field), field, home)


def _beginning_with(field: str, known: frozenset[str]) -> str | None:
    """Return the only known field whose first words a name is: ``nextStepInstanceId`` for ``next``."""
    longer = [
        name
        for name in known
        if name.casefold().startswith(field.casefold()) and not name[len(field) :][:1].islower()
    ]
    return longer[0] if len(longer) == 1 and len(field) >= _MIN_BEGINNING else None


def _misplaced(path: Path, field: str, home: str) -> Diagnostic:
    return Diagnostic(
        path, f"{quoted(field)} has no effect here; write it {home}", Severity.WARNING, at_key=True
    )
