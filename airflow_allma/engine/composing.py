"""Branches whose only step composes an object: their results, batch by batch.

Such a result is the step's input. It is built here without the state of a run and without the life cycle of a
step, which would take several times as long as the mappings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from airflow_allma.common.work_budget import begin_step
from airflow_allma.engine.fork_run import ForkRun
from airflow_allma.engine.items import ItemError
from airflow_allma.engine.pointer_cache import PointerNotLoaded
from airflow_allma.engine.program import CompiledBranch, CompiledStep
from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.engine.step_handler import InlineHandler

__all__ = ["Composer"]

_OK: Final = BranchStatus.OK


class Composer:
    """Composes the results of one branch.

    Args:
        run: the run of the fork.
        branch: the branch.
        step: its only step.
    """

    def __init__(self, run: ForkRun, branch: CompiledBranch, step: CompiledStep) -> None:
        self._run, self._branch, self._step = run, branch, step

    @classmethod
    def of(cls, run: ForkRun) -> Composer | None:
        """Return what composes the results of a fork; None if a branch run does more, or is noted."""
        fork, services = run.fork, run.services
        is_noted = (services.recorder is not None and not services.records_failures_only) or (
            services.tracer is not None and not run.only_failures
        )
        if len(fork.branches) != 1 or fork.reads_context or is_noted:
            return None
        (branch,) = fork.branches
        step = branch.program.steps[branch.start]
        only_composes = not (branch.evaluates or branch.is_sub_flow) and _returns_input(step)
        return cls(run, branch, step) if only_composes else None

    def results(self, batch: Sequence[tuple[int, Any]]) -> Iterator[BranchResult | None]:
        """Yield the result of each item; None for one that has to run as any other, to fail or to wait."""
        run, branch, step = self._run, self._branch, self._step
        services, fork_id = run.services, run.fork.step_id
        max_work, load, log = services.settings.max_step_work, services.pointers.load, services.log
        index_of_branch, branch_id, step_id = branch.index, branch.branch_id, step.id
        build, reads_run = step.input_plan.build, step.input_plan.reads_run
        info = run.info
        # Changed in place, unless something can keep it.
        context = dict(run.context)
        for index, item in batch:
            if item.__class__ is ItemError:
                yield None
                continue
            if reads_run:
                info, context = run.info.in_branch(fork_id, branch_id, index), dict(run.context)
            context["currentItem"] = item
            begin_step(max_work, step_id)
            try:
                output = build(context, info, load, log, step_id)
            except (PointerNotLoaded, Exception):  # noqa: BLE001 - raised again where it becomes a result
                yield None
                continue
            if "_meta" in output:
                del output["_meta"]
            yield BranchResult(index, index_of_branch, branch_id, _OK, output)


def _returns_input(step: CompiledStep) -> bool:
    """Return whether the path ends with a step whose output is always its input."""
    handler = step.handler
    return (
        isinstance(handler, InlineHandler)
        and handler.returns_input
        and step.is_inline
        and step.is_plain_end
        and not step.required
        and step.milestone is None
    )
