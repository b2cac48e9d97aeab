"""Which traces of a chunk's branch runs are stored, and what they say about branch runs without steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from airflow_allma.distributed.result_index import MAX_LISTED_FAILURES, ItemTrace
from airflow_allma.distributed.result_sinks import ResultSink
from airflow_allma.engine import BranchResult, BranchStatus, ForkRun
from airflow_allma.engine.tracing import Trace, Tracer

__all__ = ["ChunkTraces", "traced_run"]

_NO_STEP: Final = "No step has run: the item cannot be read, or the branch's condition or mappings failed."
_UNWRITABLE: Final = "All steps have succeeded, but the result cannot be stored, and their trace is lost."


class ChunkTraces:
    """Stores the traces of a chunk's branch runs that are to be kept.

    Args:
        tracer: says which.
        run: the run of the fork.
        sink: stores them.
        first: index of the chunk's first item.
    """

    def __init__(self, tracer: Tracer, run: ForkRun, sink: ResultSink, first: int) -> None:
        self._tracer, self._run, self._sink, self._first = tracer, run, sink, first
        self._is_limited = not tracer.keeps_good(run.info)
        self._count = 0

    def __call__(self, result: BranchResult, trace: Trace | None) -> None:
        """Store the trace of a branch run that has ended, if it is to be kept."""
        index = result.item_index
        failed = result.status is BranchStatus.FAILED
        if not failed and not self._tracer.keeps(self._run.info, index):
            return
        self._count += 1
        if self._is_limited and self._count > MAX_LISTED_FAILURES:
            self._sink.skip_trace()
            return
        steps, omitted = trace.steps() if trace is not None else ([], 0)
        note = "" if steps else _NO_STEP
        self._sink.add_trace(
            ItemTrace(index - self._first, result.branch_id, result.status, steps, omitted, note)
        )

    def add_unwritable(self, result: BranchResult) -> None:
        """Say why the failure of a result that cannot be stored has no steps."""
        item = result.item_index - self._first
        self._sink.add_trace(ItemTrace(item, result.branch_id, result.status, [], 0, _UNWRITABLE))


def traced_run(run: ForkRun, sink: ResultSink, first: int) -> tuple[ForkRun, ChunkTraces | None]:
    """Return a fork's run that passes its traces on to a sink, and what receives them.

    Args:
        run: the run of the fork.
        sink: stores the traces.
        first: index of the chunk's first item.

    Returns:
        The run; and None in place of what receives traces, if none are kept.
    """
    tracer = run.services.tracer
    if tracer is None:
        return run, None
    # On the command line the fork's own run is in this process, and has a trace.
    run = replace(run, info=msgspec.structs.replace(run.info, trace=None))
    if not sink.keeps_traces:
        return replace(run, on_trace=_ignore, only_failures=True), None
    traces = ChunkTraces(tracer, run, sink, first)
    return replace(run, on_trace=traces, only_failures=not tracer.keeps_good(run.info)), traces


def _ignore(result: BranchResult, trace: Trace | None) -> None:
    """Keep no trace."""
