"""The numbers of a fork that can be JSONPaths: how many items, branch runs in flight, and tolerated failures.

A path is evaluated once, on the context in which the fork's items are found. What it found travels with the
fork: in XComs, and in what is kept of a fork that waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_allma.common.printable import printable, shortened
from airflow_allma.exceptions import ExpressionEvaluationError, PermanentStepError
from airflow_allma.expressions import NOTHING, LoadPointer, Path, compile_path
from airflow_allma.expressions.js_values import to_string
from airflow_allma.flow import ParallelForkManagerStep
from airflow_allma.flow.steps.item_reader import ItemReader

__all__ = ["MAX_CONCURRENCY", "ForkLimits", "LimitFields"]

MAX_CONCURRENCY: Final = "aggregationConfig.maxConcurrency"
"""The name of this number in ``ForkLimits.computed``."""

_MAX_SHOWN: Final = 80
_MAX_READ: Final = 1000
_INT32: Final = 2**31 - 1
_INT64: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ForkLimits:
    """The numbers of a fork in one run.

    Attributes:
        max_concurrency: maximum of branch runs in flight over the whole step; None for no limit of its own.
        max_items: maximum of items; None for all.
        tolerated_percentage: how many branch runs can fail, of 100; None if only the count matters.
        tolerated_count: how many branch runs can fail; None if only the percentage matters.
        batch_items: maximum of items of a batch; None for no limit of its own.
        batch_bytes: maximum bytes of a batch; None for no limit of its own. Without both, no batches.
        computed: field -> number, of the fields that are JSONPaths; for ``LimitFields.restore``.
    """

    max_concurrency: int | None = None
    max_items: int | None = None
    tolerated_percentage: float | None = None
    tolerated_count: int | None = None
    batch_items: int | None = None
    batch_bytes: int | None = None
    computed: Mapping[str, float] = field(default_factory=dict)

    @property
    def has_batches(self) -> bool:
        """Whether the fork's items are put into batches."""
        return self.batch_items is not None or self.batch_bytes is not None

    def reader(self, options: ItemReader) -> ItemReader:
        """Return a fork's ``itemReader`` with the number that its ``maxItems`` is in this run."""
        if not isinstance(options.max_items, str):
            return options
        return options.model_copy(update={"max_items": self.max_items})


@dataclass(frozen=True, slots=True)
class _Field:
    """A number of a fork.

    Attributes:
        name: where it is in the step.
        attribute: its name in ``ForkLimits``.
        read: returns what the flow says: a number, a JSONPath or None.
        maximum: the highest number that is allowed.
        minimum: the lowest one.
        is_whole: whether it must be a whole number.
    """

    name: str
    attribute: str
    read: Callable[[ParallelForkManagerStep], Any]
    maximum: int = _INT64
    minimum: int = 0
    is_whole: bool = True


_FIELDS: Final = (
    _Field(
        MAX_CONCURRENCY,
        "max_concurrency",
        lambda step: step.aggregation_config.max_concurrency or None,
        _INT32,
    ),
    _Field("itemReader.maxItems", "max_items", lambda step: step.item_reader.max_items),
    _Field(
        "aggregationConfig.toleratedFailurePercentage",
        "tolerated_percentage",
        lambda step: step.aggregation_config.tolerated_failure_percentage,
        100,
        is_whole=False,
    ),
    _Field(
        "aggregationConfig.toleratedFailureCount",
        "tolerated_count",
        lambda step: step.aggregation_config.tolerated_failure_count,
    ),
    _Field(
        "itemBatcher.maxItemsPerBatch",
        "batch_items",
        lambda step: step.item_batcher and step.item_batcher.max_items_per_batch,
        minimum=1,
    ),
    _Field(
        "itemBatcher.maxBytesPerBatch",
        "batch_bytes",
        lambda step: step.item_batcher and step.item_batcher.max_bytes_per_batch,
        minimum=1,
    ),
)


class LimitFields:
    """The numbers of a fork as its flow says them: ready to be evaluated.

    Args:
        step: the fork.

    Attributes:
        fixed: the numbers of the flow itself; None for those that are JSONPaths.
    """

    def __init__(self, step: ParallelForkManagerStep) -> None:
        self._step_id = step.step_instance_id
        self._paths: list[tuple[_Field, Path]] = []
        fixed: dict[str, Any] = {}
        for one in _FIELDS:
            value = one.read(step)
            if isinstance(value, str):
                self._paths.append((one, compile_path(value)))
            else:
                fixed[one.attribute] = value
        self.fixed = ForkLimits(**fixed)

    def evaluate(self, context: Mapping[str, Any], load: LoadPointer) -> ForkLimits:
        """Return the numbers for a run.

        Args:
            context: the data in which the fork's items are found.
            load: loads the pointers on the way of a path.

        Raises:
            PermanentStepError: a path cannot be evaluated, or finds no number, or one that is not allowed.
        """
        found = {one.name: self._find(one, path, context, load) for one, path in self._paths}
        return self.restore(found)

    def restore(self, computed: Mapping[str, Any]) -> ForkLimits:
        """Return the numbers again from ``ForkLimits.computed``.

        Raises:
            PermanentStepError: one is missing: the flow has changed since the fork's items were found.
        """
        if not self._paths:
            return self.fixed
        values = {one.attribute: getattr(self.fixed, one.attribute) for one in _FIELDS}
        for one, path in self._paths:
            value = computed.get(one.name)
            if not _is_allowed(one, value):
                raise PermanentStepError(
                    f"Step {self._step_id}: {one.name} is {path.source}, which was not evaluated when the "
                    "fork's items were found, because the flow was another one then. Clear the fork's items "
                    "task, with its downstream tasks."
                )
            values[one.attribute] = value
        # As in the flow, 0 means unlimited.
        values["max_concurrency"] = values["max_concurrency"] or None
        return ForkLimits(**values, computed={one.name: computed[one.name] for one, _ in self._paths})

    def _find(self, one: _Field, path: Path, context: Mapping[str, Any], load: LoadPointer) -> float:
        try:
            value = path.find(context, load)
        except ExpressionEvaluationError as error:
            raise PermanentStepError(f"Step {self._step_id}: {one.name}: {error}") from error
        if isinstance(value, float) and value.is_integer() and one.is_whole:
            value = int(value)
        if _is_allowed(one, value):
            return value  # type: ignore[no-any-return]
        kind = "whole number" if one.is_whole else "number"
        raise PermanentStepError(
            f"Step {self._step_id}: {one.name}: {path.source} finds {_shown(value)}, but must find a {kind} "
            f"from {one.minimum} to {one.maximum}"
        )


def _shown(value: Any) -> str:
    if value is NOTHING:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return f'the string "{shortened(printable(value[:_MAX_READ]), _MAX_SHOWN)}"'
    return shortened(to_string(value), _MAX_SHOWN)


def _is_allowed(one: _Field, value: Any) -> bool:
    kinds = int if one.is_whole else int | float
    return isinstance(value, kinds) and not isinstance(value, bool) and one.minimum <= value <= one.maximum
