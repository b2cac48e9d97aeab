"""From the results of branch runs to ``{"aggregatedData": ...}``, one result at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final

import msgspec

from airflow_allma.engine.custom_aggregators import load_custom_aggregator
from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.exceptions import ParallelBranchExecutionError, PermanentStepError, StepError
from airflow_allma.flow import AggregationConfig, AggregationStrategy

__all__ = ["Aggregator"]

_ERRORS_SHOWN: Final = 10


class Aggregator:
    """Takes branch results in item order (then branch order) and gives the fork's output.

    Results are taken one by one and not kept: memory holds what the strategy makes of them.

    Args:
        config: strategy and tolerance.
        custom_module_prefixes: see ``EngineSettings``.
        log: gets a warning where a result does not fit its strategy.
        collect: where ``COLLECT_ARRAY`` members go, a list unless the caller streams them elsewhere.

    Attributes:
        count: branch runs so far, without skipped ones.
        failed: how many of them failed.
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
        self._errors: list[dict[str, Any]] = []
        self.count = 0
        self.failed = 0

    def aggregate(self, results: Iterable[BranchResult]) -> dict[str, Any]:
        """The fork's output.

        Args:
            results: of all branch runs; skipped ones leave no trace.

        Raises:
            ParallelBranchExecutionError: more branch runs failed than the fork tolerates.
            StepError: what a custom module raised.
        """
        return _JOIN[self._config.strategy](self, results)

    def _counted(self, results: Iterable[BranchResult]) -> Iterator[BranchResult]:
        """Those that ran.

        Raises:
            ParallelBranchExecutionError: at the end, when too many failed.
        """
        all_errors = self._config.strategy is AggregationStrategy.MERGE_OBJECTS
        skipped, failed = BranchStatus.SKIPPED, BranchStatus.FAILED
        for result in results:
            if result.status is skipped:
                continue
            self.count += 1
            if result.status is failed:
                self.failed += 1
                if all_errors or self.failed <= _ERRORS_SHOWN:
                    self._errors.append({"branchId": result.branch_id, "error": result.error})
            yield result
        if self.failed and not self._tolerated():
            raise self._failure()

    def _succeeded(self, results: Iterable[BranchResult]) -> Iterator[BranchResult]:
        return (one for one in self._counted(results) if one.status is not BranchStatus.FAILED)

    def _shown(self, results: Iterable[BranchResult]) -> Iterator[BranchResult]:
        """Those that a flow's function sees: no failure, where none is tolerated."""
        tolerates = not self._config.fail_on_branch_error or bool(self._config.tolerated_failure_percentage)
        return (one for one in self._counted(results) if tolerates or not self.failed)

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

    def _members_of(self, results: Iterable[BranchResult]) -> dict[str, Any]:
        collect = self._collect
        for result in self._counted(results):
            if result.status is BranchStatus.FAILED:
                collect({"branchId": result.branch_id, "error": result.error})
            else:
                collect(result.output)
        return {"aggregatedData": self._members}

    def _object_of(self, results: Iterable[BranchResult]) -> dict[str, Any]:
        for result in self._succeeded(results):
            if isinstance(result.output, dict):
                self._merged.update(result.output)
            else:
                self._skip(result, "an object")
        if self._errors:
            return {"aggregatedData": {**self._merged, "_branchErrors": self._errors}}
        return {"aggregatedData": self._merged}

    def _sum_of(self, results: Iterable[BranchResult]) -> dict[str, Any]:
        for result in self._succeeded(results):
            if isinstance(result.output, int | float) and not isinstance(result.output, bool):
                self._sum += result.output
            else:
                self._skip(result, "a number")
        return {"aggregatedData": self._sum}

    def _nothing_of(self, results: Iterable[BranchResult]) -> dict[str, Any]:
        """NONE is a barrier: that the branches ended is all that matters."""
        for _ in self._counted(results):
            pass
        return {
            "aggregatedData": None,
            "aggregationSkipped": True,
            "branchCount": self.count,
            "failedBranchCount": self.failed,
        }

    def _skip(self, result: BranchResult, wanted: str) -> None:
        self._log.warning(
            "Item %d, branch %s: the result is not %s; %s leaves it out",
            result.item_index,
            result.branch_id,
            wanted,
            self._config.strategy,
        )

    def _custom_of(self, results: Iterable[BranchResult]) -> dict[str, Any]:
        """What the flow's function makes of an iterator, which ends in an error where the fork fails."""
        source = _Passing(self._shown(results))
        first = next(source, None)
        if first is None:
            return {"aggregatedData": []}
        identifier = self._config.custom_module_identifier or ""
        function = load_custom_aggregator(identifier, self._prefixes)
        told = (result.to_dict() for result in chain([first], source))
        try:
            made = function(told)
        except Exception as error:
            source.exhaust()
            # A function of this kind may say itself whether trying again helps.
            if isinstance(error, StepError):
                raise
            raise PermanentStepError(
                f"customModuleIdentifier {identifier!r} raised {type(error).__name__}: {error}. "
                "Mend the function, or what the branches give it."
            ) from error
        try:
            output = {"aggregatedData": msgspec.to_builtins(made, str_keys=True)}
        except (TypeError, ValueError, RecursionError) as error:
            source.exhaust()
            raise PermanentStepError(
                f"customModuleIdentifier {identifier!r} gave what is no JSON value: {error}. "
                "Let the function return objects, lists, texts, numbers, booleans or None."
            ) from error
        source.exhaust()
        return output


class _Passing:
    """An iterator that goes through a function of the flow's, which may stop early or swallow errors."""

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
        """Read what is left.

        Raises:
            Exception: what the results ever raised, whatever the function made of it.
        """
        if self._error is not None:
            raise self._error
        for _ in self._results:
            pass


_JOIN: Final[dict[AggregationStrategy, Callable[[Aggregator, Iterable[BranchResult]], dict[str, Any]]]] = {
    AggregationStrategy.COLLECT_ARRAY: Aggregator._members_of,  # noqa: SLF001 - the class's own table
    AggregationStrategy.MERGE_OBJECTS: Aggregator._object_of,  # noqa: SLF001
    AggregationStrategy.SUM: Aggregator._sum_of,  # noqa: SLF001
    AggregationStrategy.NONE: Aggregator._nothing_of,  # noqa: SLF001
    AggregationStrategy.CUSTOM_MODULE: Aggregator._custom_of,  # noqa: SLF001
}
