"""The first task of a fork: finds the items and decides where they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_allma.configuration import warn_about_sqlite
from airflow_allma.exceptions import AllmaError, PermanentStepError
from airflow_allma.operators.assets import report_manifest
from airflow_allma.operators.flow_step import FlowStepOperator
from airflow_allma.operators.run_states import load_state, save_state
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.xcoms import Key, pull, push

if TYPE_CHECKING:
    from airflow_allma.engine import ForkItems

__all__ = ["ForkItemsOperator", "load_fork_context", "load_fork_values"]


class ForkItemsOperator(FlowStepOperator):
    """Evaluates ``itemsPath`` and decides where the items run.

    For a list that is short and small enough it returns the items' indexes, for the branches' groups to map
    over; the items themselves are in the pushed state. For all others it returns ``[]``, and the fork's
    ``chunks`` task plans chunks. The ``ForkDecision`` is pushed under ``allma_plan``.
    """

    def execute(self, context: Mapping[str, Any]) -> list[int]:
        """Find the items, in the task's own process."""
        from airflow_allma.engine import list_in_context, pass_checkpoint, resolve_items, start_step
        from airflow_allma.engine.errors import step_error_from

        current = self.begin(context)
        try:
            begin = self.prepare(current)
        except AllmaError as error:
            self.fail(current.ti, step_error_from(error).as_dict())
        state = current.run(begin)
        pass_checkpoint(current.program.steps[self.step], state, current.info, current.services)
        current.run(lambda: start_step(current.program, self.step, current.services))
        fork = current.fork(self.step)
        try:
            items = current.run(lambda: resolve_items(fork, state.context, current.services))
        except AllmaError as error:
            # For the aggregate, which handles the failure.
            save_state(current, state)
            self.fail(current.ti, step_error_from(error).as_dict())
        indexes = self._decide(current, items)
        # The branches begin here. They need not load the objects through which itemsPath goes.
        is_derived = not indexes or list_in_context(fork, state.context) is not None
        save_state(current, state, items=None if is_derived else items.values)
        return indexes

    def _decide(self, current: TaskContext, items: ForkItems) -> list[int]:
        from airflow_allma.distributed.fork_decision import ForkMode, decide_fork

        warn_about_sqlite(current.settings)
        decision = decide_fork(current.fork(self.step), items, current.settings)
        push(current.ti, Key.PLAN, decision.to_dict())
        if items.pointer is not None:
            LOG.info("The items run in chunks: they are in %s", items.pointer)
            report_manifest(self, items.pointer)
            return []
        if decision.mode is ForkMode.CHUNKS:
            LOG.info(
                "The items run in chunks: %s (%d items, %d bytes of JSON)",
                decision.reason,
                decision.count,
                decision.size,
            )
            return []
        LOG.info(
            "Each item has a map index of its own (%d items, %d bytes of JSON)", decision.count, decision.size
        )
        return list(range(len(items.values or ())))


def load_fork_context(current: TaskContext, items_task: str, fork: str) -> dict[str, Any]:
    """Return the context with which the run reached a fork.

    Args:
        current: the asking task.
        items_task: full id of the fork's ``items`` task.
        fork: the fork's step id.

    Raises:
        PermanentStepError: the ``items`` task pushed no state.
    """
    base = load_state(current, items_task)
    if base is None:
        raise PermanentStepError(
            f"Fork {fork}: task {items_task} pushed no state. Clear it and its downstream tasks."
        )
    context: dict[str, Any] = base["context"]
    return context


def load_fork_values(current: TaskContext, items_task: str, fork: str) -> list[Any]:
    """Return a fork's list, from the context with which the run reached it; also what is above ``maxItems``.

    Raises:
        PermanentStepError: the ``items`` task pushed no state, or ``itemsPath`` cannot be evaluated.
    """
    from airflow_allma.engine import find_items

    context = load_fork_context(current, items_task, fork)
    items = current.run(lambda: find_items(current.fork(fork), context, current.services))
    if current.fork(fork).batcher is None:
        return items.values or []
    # In the batches that were planned.
    saved = pull(current.ti, items_task, Key.PLAN)
    limits = current.fork(fork).limits.restore((saved or {}).get("limits") or {})
    return items.limited(limits).values or []
