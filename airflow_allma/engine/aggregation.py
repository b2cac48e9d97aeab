"""From the results of branch runs to ``{"aggregatedData": ...}``, one result at a time."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Final

import msgspec

from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.exceptions import ParallelBranchExecutionError, PermanentStepError, StepError
from airflow_allma.flow import AggregationConfig, AggregationStrategy

__all__ = ["Aggregator", "empty_output", "load_custom_aggregator"]

_ERRORS_SHOWN: Final = 10


class Aggregator:
    """Takes branch results in item order (then branch order) and gives the fork's output.

    Args:
        config: strategy and tolerance.
        custom_module_prefixes: see ``EngineSettings``.
        log: gets a warning where a result does not fit its strategy.
        collect: where ``COLLECT_ARRAY`` members go, a list unless the caller streams them elsewhere.
    """

    def __init__(
        self,
        config: AggregationConfig,
        *,
        custom_module_prefixes: tuple[str, ...] = (),
        log: logging.Logger | None = None,
        collect: Callable[[Any], None] | None = None,
    ) -> None:
        self._config = config
        self._log = log or logging.getLogger("airflow_allma.engine")
        self._prefixes = custom_module_prefixes
        self._members: list[Any] = []
        self._collect = collect or self._members.append
        self._merged: dict[str, Any] = {}
        self._sum: int | float = 0
        self._results: list[BranchResult] = []
        self._errors: list[dict[str, Any]] = []
        self.count = 0
        self.failed = 0

    def add(self, result: BranchResult) -> None:
        """Take the next result; skipped ones leave no trace."""
        if result.status is BranchStatus.SKIPPED:
            return
        self.count += 1
        if result.status is BranchStatus.FAILED:
            self.failed += 1
            if self._config.strategy is AggregationStrategy.MERGE_OBJECTS or self.failed <= _ERRORS_SHOWN:
                self._errors.append({"branchId": result.branch_id, "error": result.error})
        _ADD[self._config.strategy](self, result)

    def finish(self) -> dict[str, Any]:
        """The fork's output.

        Raises:
            ParallelBranchExecutionError: more branch runs failed than the fork tolerates.
            StepError: what a custom module raised.
        """
        if self.failed and not self._tolerated():
            raise self._failure()
        return _FINISH[self._config.strategy](self)

    def _tolerated(self) -> bool:
        if not self._config.fail_on_branch_error:
            return True
        tolerated = self._config.tolerated_failure_percentage or 0
        return self.failed * 100 <= tolerated * self.count

    def _failure(self) -> ParallelBranchExecutionError:
        first = self._errors[0]
        error = first["error"] or {}
        return ParallelBranchExecutionError(
            f"{self.failed} of {self.count} branch runs failed. The first, of branch {first['branchId']}: "
            f"{error.get('errorName', 'Error')}: {error.get('errorMessage', '')}",
            details={
                "branchErrors": self._errors[:_ERRORS_SHOWN],
                "failedBranchCount": self.failed,
                "branchCount": self.count,
            },
        )

    def _add_member(self, result: BranchResult) -> None:
        if result.status is BranchStatus.FAILED:
            self._collect({"branchId": result.branch_id, "error": result.error})
        else:
            self._collect(result.output)

    def _add_object(self, result: BranchResult) -> None:
        if result.status is BranchStatus.FAILED:
            return
        if isinstance(result.output, dict):
            self._merged.update(result.output)
        else:
            self._skip(result, "an object")

    def _add_number(self, result: BranchResult) -> None:
        if result.status is BranchStatus.FAILED:
            return
        if isinstance(result.output, int | float) and not isinstance(result.output, bool):
            self._sum += result.output
        else:
            self._skip(result, "a number")

    def _add_nothing(self, result: BranchResult) -> None:
        """NONE is a barrier: that the branch ended is all that matters."""

    def _add_result(self, result: BranchResult) -> None:
        self._results.append(result)

    def _skip(self, result: BranchResult, wanted: str) -> None:
        self._log.warning(
            "Item %d, branch %s: the result is not %s; %s leaves it out",
            result.item_index,
            result.branch_id,
            wanted,
            self._config.strategy,
        )

    def _finish_members(self) -> dict[str, Any]:
        return {"aggregatedData": self._members}

    def _finish_object(self) -> dict[str, Any]:
        if self._errors:
            return {"aggregatedData": {**self._merged, "_branchErrors": self._errors}}
        return {"aggregatedData": self._merged}

    def _finish_number(self) -> dict[str, Any]:
        return {"aggregatedData": self._sum}

    def _finish_nothing(self) -> dict[str, Any]:
        return {
            "aggregatedData": None,
            "aggregationSkipped": True,
            "branchCount": self.count,
            "failedBranchCount": self.failed,
        }

    def _finish_results(self) -> dict[str, Any]:
        if not self._results:
            return {"aggregatedData": []}
        identifier = self._config.custom_module_identifier or ""
        function = load_custom_aggregator(identifier, self._prefixes)
        try:
            made = function(result.to_dict() for result in self._results)
        except StepError:
            # A function of this kind may say itself whether trying again helps.
            raise
        except Exception as error:
            raise PermanentStepError(
                f"customModuleIdentifier {identifier!r} raised {type(error).__name__}: {error}. "
                "Mend the function, or what the branches give it."
            ) from error
        try:
            return {"aggregatedData": msgspec.to_builtins(made, str_keys=True)}
        except (TypeError, ValueError, RecursionError) as error:
            raise PermanentStepError(
                f"customModuleIdentifier {identifier!r} gave what is no JSON value: {error}. "
                "Let the function return objects, lists, texts, numbers, booleans or None."
            ) from error


_ADD: Final[dict[AggregationStrategy, Callable[[Aggregator, BranchResult], None]]] = {
    AggregationStrategy.COLLECT_ARRAY: Aggregator._add_member,  # noqa: SLF001 - the class's own table
    AggregationStrategy.MERGE_OBJECTS: Aggregator._add_object,  # noqa: SLF001
    AggregationStrategy.SUM: Aggregator._add_number,  # noqa: SLF001
    AggregationStrategy.NONE: Aggregator._add_nothing,  # noqa: SLF001
    AggregationStrategy.CUSTOM_MODULE: Aggregator._add_result,  # noqa: SLF001
}
_FINISH: Final[dict[AggregationStrategy, Callable[[Aggregator], dict[str, Any]]]] = {
    AggregationStrategy.COLLECT_ARRAY: Aggregator._finish_members,  # noqa: SLF001
    AggregationStrategy.MERGE_OBJECTS: Aggregator._finish_object,  # noqa: SLF001
    AggregationStrategy.SUM: Aggregator._finish_number,  # noqa: SLF001
    AggregationStrategy.NONE: Aggregator._finish_nothing,  # noqa: SLF001
    AggregationStrategy.CUSTOM_MODULE: Aggregator._finish_results,  # noqa: SLF001
}


def empty_output(config: AggregationConfig) -> dict[str, Any]:
    """The output of a fork without items."""
    return Aggregator(config).finish()


def load_custom_aggregator(
    identifier: str, prefixes: tuple[str, ...] = ()
) -> Callable[[Iterator[dict[str, Any]]], Any]:
    """The Python function that a flow names, ``package.module:function`` or ``package.module.function``.

    The name comes from a flow, so it reaches only functions that the module itself defines, never what it has
    imported, and nothing of Python's own library.

    Args:
        identifier: the import path.
        prefixes: modules allowed, with all below them; empty allows all but Python's own.

    Raises:
        PermanentStepError: no such function, or one that is not allowed.
    """
    module_name, mark, name = identifier.partition(":")
    if not mark:
        module_name, _, name = identifier.rpartition(".")
    parts = module_name.split(".")
    if not name.isidentifier() or not all(part.isidentifier() for part in parts):
        raise PermanentStepError(
            f"customModuleIdentifier {identifier!r} is no import path; write package.module:function."
        )
    allowed = (
        any(module_name == prefix or module_name.startswith(f"{prefix}.") for prefix in prefixes)
        if prefixes
        else parts[0] not in sys.stdlib_module_names and parts[0] != "builtins"
    )
    if not allowed:
        raise PermanentStepError(
            f"customModuleIdentifier {identifier!r} is not allowed. Name a function of your own, "
            f"below one of the allowed prefixes ({', '.join(prefixes) or 'any but the standard ones'})."
        )
    try:
        function = getattr(import_module(module_name), name, None)
    except Exception as error:
        # A module that is being imported can raise anything.
        raise PermanentStepError(
            f"customModuleIdentifier {identifier!r} cannot be imported: {type(error).__name__}: {error}. "
            "Install it where tasks run."
        ) from error
    if not inspect.isfunction(function) or function.__module__ != module_name:
        raise PermanentStepError(
            f"customModuleIdentifier {identifier!r} names no function that {module_name} defines."
        )
    loaded: Callable[[Iterator[dict[str, Any]]], Any] = function
    return loaded
