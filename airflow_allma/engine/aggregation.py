"""Aggregation of branch results into ``{"aggregatedData": ...}``, one result at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final

import msgspec

from airflow_allma.common.foreign_errors import FOREIGN_ERRORS
from airflow_allma.engine.custom_aggregators import load_custom_aggregator
from airflow_allma.engine.fork_limits import ForkLimits
from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.exceptions import ParallelBranchExecutionError, PermanentStepError, StepError
from airflow_allma.flow import AggregationConfig, AggregationStrategy

__all__ = ["Aggregator"]

_MAX_ERRORS: Final = 10


class Aggregator:
    """Aggregates the branch results of a fork, in item order and then in branch order.

    Results are consumed one by one and not kept: memory holds only what the strategy accumulates.

    Args:
        config: the strategy, and whether failures count.
        limits: how many failures are tolerated.
        custom_module_prefixes: see ``EngineSettings``.
        log: receives a warning for each result that does not match the strategy.
        collect: receives each member of a ``COLLECT_ARRAY``; None: they are collected in a list.

    Attributes:
        count: branch runs so far, without skipped ones; that of a batch counts as many times as it has items.
        failed: number of failed branch runs, counted in the same way.
    """

    def __init__(
        self,
        config: AggregationConfig,
        limits: ForkLimits,
        *,
        custom_module_prefixes: tuple[str, ...] = (),
        log: logging.Logger | None = None,
        collect: Callable[[Any], None] | None = None,
    ) -> None:
        self._config = config
        self._limits = limits
        self._log = log or logging.getLogger("airflow_allma.engine")
        self._prefixes = custom_module_prefixes
        self._members: list[Any] = []
        self._collect = collect or self._members.append
        self._merged: dict[str, Any] = {}
        self._sum: int | float = 0
        self._errors: list[dict[str, Any]] = []
        self.count = 0
        self.failed = 0

    def aggregate(self, results: Iterable[BranchResult]) -> dict[str, Any]:
        """Return the fork's output.

        Args:
            results: of all branch runs; skipped ones are ignored.

        Raises:
            ParallelBranchExecutionError: more branch runs failed than the fork tolerates.
            StepError: raised by a custom module.
        """
        return _STRATEGIES[self._config.strategy](self, results)

    def _count_runs(self, results: Iterable[BranchResult]) -> Iterator[BranchResult]:
        """Yield the results that were not skipped, and count them.

        Raises:
            ParallelBranchExecutionError: at the end, if too many failed.
        """
        keeps_all_errors = self._config.strategy is AggregationStrategy.MERGE_OBJECTS
        skipped, failed = BranchStatus.SKIPPED, BranchStatus.FAILED
        for result in results:
            if result.status is skipped:
                continue
            self.count += result.items
            if result.status is failed:
                self.failed += result.items
                if keeps_all_errors or len(self._errors) < _MAX_ERRORS:
                    self._errors.append({"branchId": result.branch_id, "error": result.error})
            yield result
        if self.failed and not self._is_tolerated():
            raise self._fork_error()

    def _succeeded(self, results: Iterable[BranchResult]) -> Iterator[BranchResult]:
        return (result for result in self._count_runs(results) if result.status is not BranchStatus.FAILED)

    def _visible(self, results: Iterable[BranchResult]) -> Iterator[BranchResult]:
        """Yield what a custom module sees: all results, or those before the first intolerable failure."""
        # How many a percentage tolerates is known at the end.
        percentage, most = self._limits.tolerated_percentage, self._limits.tolerated_count
        if not self._config.fail_on_branch_error:
            most = None
        elif percentage == 0 or (most is None and percentage is None):
            most = 0
        return (result for result in self._count_runs(results) if most is None or self.failed <= most)

    def _is_tolerated(self) -> bool:
        """Return whether no given tolerance is exceeded; without any, one failure is too many."""
        if not self._config.fail_on_branch_error:
            return True
        percentage, most = self._limits.tolerated_percentage, self._limits.tolerated_count
        if percentage is None and most is None:
            return not self.failed
        is_within_percentage = percentage is None or self.failed * 100 <= percentage * self.count
        return is_within_percentage and (most is None or self.failed <= most)

    def _fork_error(self) -> ParallelBranchExecutionError:
        first = self._errors[0]
        error = first["error"] or {}
        return ParallelBranchExecutionError(
            f"{self.failed} of {self.count} branch runs failed. The first, of branch {first['branchId']}: "
            f"{error.get('errorName', 'Error')}: {error.get('errorMessage', '')}",
            details={
                "branchErrors": [_with_one_cause(entry) for entry in self._errors[:_MAX_ERRORS]],
                "failedBranchCount": self.failed,
                "branchCount": self.count,
            },
        )

    def _collect_array(self, results: Iterable[BranchResult]) -> dict[str, Any]:
        collect, failed = self._collect, BranchStatus.FAILED
        for result in self._count_runs(results):
            if result.status is failed:
                collect({"branchId": result.branch_id, "error": result.error})
            else:
                collect(result.output)
        return {"aggregatedData": self._members}

    def _merge_objects(self, results: Iterable[BranchResult]) -> dict[str, Any]:
        for result in self._succeeded(results):
            if isinstance(result.output, dict):
                self._merged.update(result.output)
            else:
                self._warn_mismatch(result, "an object")
        if self._errors:
            return {"aggregatedData": {**self._merged, "_branchErrors": self._errors}}
        return {"aggregatedData": self._merged}

    def _add_numbers(self, results: Iterable[BranchResult]) -> dict[str, Any]:
        for result in self._succeeded(results):
            if isinstance(result.output, int | float) and not isinstance(result.output, bool):
                self._sum += result.output
            else:
                self._warn_mismatch(result, "a number")
        return {"aggregatedData": self._sum}

    def _wait_for_all(self, results: Iterable[BranchResult]) -> dict[str, Any]:
        """Wait until all branches have ended; the strategy NONE is a barrier."""
        for _ in self._count_runs(results):
            pass
        return {
            "aggregatedData": None,
            "aggregationSkipped": True,
            "branchCount": self.count,
            "failedBranchCount": self.failed,
        }

    def _warn_mismatch(self, result: BranchResult, expected: str) -> None:
        self._log.warning(
            "%s ignores a result that is not %s (item %d, branch %s)",
            self._config.strategy,
            expected,
            result.item_index,
            result.branch_id,
        )

    def _call_custom_module(self, results: Iterable[BranchResult]) -> dict[str, Any]:
        """Return the result of the flow's function.

        The function gets an iterator, which raises at its end if the fork fails.
        """
        source = _ErrorRecorder(self._visible(results))
        first = next(source, None)
        if first is None:
            return {"aggregatedData": []}
        identifier = self._config.custom_module_identifier or ""
        function = load_custom_aggregator(identifier, self._prefixes)
        arguments = (result.to_dict() for result in chain([first], source))
        try:
            value = function(arguments)
        except FOREIGN_ERRORS as error:
            source.exhaust()
            # With a StepError, the function itself decides whether a retry helps.
            if isinstance(error, StepError):
                raise
            raise PermanentStepError(
                f"customModuleIdentifier {identifier!r} raised {type(error).__name__}: {error}. "
                "Fix the function, or the results of the branches."
            ) from error
        try:
            output = {"aggregatedData": msgspec.to_builtins(value, str_keys=True)}
        except (TypeError, ValueError, RecursionError) as error:
            source.exhaust()
            raise PermanentStepError(
                f"customModuleIdentifier {identifier!r} returned a value that is not JSON: {error}. "
                "It must return objects, lists, strings, numbers, booleans or None."
            ) from error
        source.exhaust()
        return output


def _with_one_cause(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a branch's error with one error of the fork inside of it; those of nested forks multiply."""
    error = entry["error"] or {}
    details = error.get("errorDetails")
    if not isinstance(details, dict):
        return entry
    causes = details.get("branchErrors")
    if not isinstance(causes, list) or len(causes) < 2:
        return entry
    return {**entry, "error": {**error, "errorDetails": {**details, "branchErrors": causes[:1]}}}


class _ErrorRecorder:
    """An iterator that remembers its error, for consumers that can stop early or swallow errors."""

    def __init__(self, results: Iterator[BranchResult]) -> None:
        self._results = results
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[BranchResult]:
        return self

    def __next__(self) -> BranchResult:
        try:
            return next(self._results)
        except StopIteration:
            raise
        except Exception as error:
            self._error = error
            raise

    def exhaust(self) -> None:
        """Read the remaining results.

        Raises:
            Exception: any error of the results, even if the function has caught it.
        """
        if self._error is not None:
            raise self._error
        for _ in self._results:
            pass


_STRATEGIES: Final[
    dict[AggregationStrategy, Callable[[Aggregator, Iterable[BranchResult]], dict[str, Any]]]
] = {
    AggregationStrategy.COLLECT_ARRAY: Aggregator._collect_array,  # noqa: SLF001 - the class's own table
    AggregationStrategy.MERGE_OBJECTS: Aggregator._merge_objects,  # noqa: SLF001
    AggregationStrategy.SUM: Aggregator._add_numbers,  # noqa: SLF001
    AggregationStrategy.NONE: Aggregator._wait_for_all,  # noqa: SLF001
    AggregationStrategy.CUSTOM_MODULE: Aggregator._call_custom_module,  # noqa: SLF001
}
