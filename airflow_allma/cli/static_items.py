"""The items that a fork will have, where the payload and the flow alone determine them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from airflow_allma.engine import CompiledFork, FlowProgram, ForkItems, classify_items
from airflow_allma.exceptions import (
    AllmaError,
    ExpressionEvaluationError,
    PermanentStepError,
    StorageConfigurationError,
)
from airflow_allma.expressions import compile_path

__all__ = ["NotPredictableError", "predict_items"]


class NotPredictableError(AllmaError):
    """Only a run can determine a fork's items; the message has the reason."""


class _RecordingContext(Mapping[str, Any]):
    """A context that records which of its keys are read."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._context = context
        self.keys_read: set[str] = set()
        self.all_read = False

    def __getitem__(self, key: str) -> Any:
        self.keys_read.add(key)
        return self._context[key]

    def __iter__(self) -> Iterator[str]:
        self.all_read = True
        return iter(self._context)

    def __len__(self) -> int:
        self.all_read = True
        return len(self._context)


def predict_items(program: FlowProgram, fork: CompiledFork, context: Mapping[str, Any]) -> ForkItems:
    """Return the items that the fork will have if the run reaches it.

    ``itemsPath`` finds the same in the run if no step before the fork can write to a key of the context
    that it reads.

    Args:
        program: the flow.
        fork: one of its forks.
        context: the context in which the run begins.

    Raises:
        NotPredictableError: an earlier step, or the content of an object, determines them.
    """
    if fork.items_path is None:
        return ForkItems(values=[], limits=fork.limits.fixed)
    recorded = _RecordingContext(context)
    failed: Exception | None = None
    items, limits = None, fork.limits.fixed
    try:
        items = fork.items_path.find(recorded, _refuse)
        limits = fork.limits.evaluate(recorded, _refuse)
    except (ExpressionEvaluationError, PermanentStepError) as error:
        failed = error
    if fork.items_path.is_root:
        recorded.all_read = True
    for step_id in _before(program, fork.step_id):
        written = _written(program, step_id)
        if written is None or recorded.all_read or written & recorded.keys_read:
            raise NotPredictableError(f"step {step_id} runs before it, and can write what its paths read")
    if failed is not None:
        raise NotPredictableError(f"with this payload the fork would fail: {failed}")
    try:
        return classify_items(items, fork.model.item_reader).limited(limits)
    except StorageConfigurationError as error:
        raise NotPredictableError(f"with this payload the fork would fail: {error}") from error


def _refuse(inner: Mapping[str, Any]) -> NoReturn:
    raise NotPredictableError(
        f"a path of the fork leads through the object {inner.get('bucket')}/{inner.get('key')}, "
        "which a plan does not read"
    )


def _before(program: FlowProgram, fork: str) -> list[str]:
    reached = program.reachable_from(program.start) - {fork}
    return [
        step_id for step_id in program.steps if step_id in reached and fork in program.reachable_from(step_id)
    ]


def _written(program: FlowProgram, step_id: str) -> set[str] | None:
    """Return the keys of the context that a step can write; None for any."""
    keys = {"steps_output"}
    for target in program.steps[step_id].model.output_mappings or {}:
        scratch: dict[str, Any] = {}
        try:
            compile_path(target).assign(scratch, None)
        except ExpressionEvaluationError:
            return None
        keys |= set(scratch)
    return keys
