"""The first task of a fork: finds the items and decides how they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_allma.exceptions import AllmaError
from airflow_allma.operators.elements import item_element
from airflow_allma.operators.run import TaskRun
from airflow_allma.operators.segment import SegmentOperator
from airflow_allma.operators.xcoms import Key, push

if TYPE_CHECKING:
    from airflow_allma.engine import ForkItems

__all__ = ["ForkItemsOperator"]


class ForkItemsOperator(SegmentOperator):
    """Evaluates ``itemsPath`` and decides the mode.

    A list that is short and small enough is returned, one entry an item, for the branches' groups to map
    over.
    Everything else returns ``[]``, and the fork's ``chunks`` task plans chunks. The decision goes under
    ``allma_plan``: ``{"mode": "memory" | "chunks", "count"?, "bytes"?, "pointer"?}``.
    """

    def execute(self, context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Find the items; in the task's own process."""
        from airflow_allma.engine import resolve_items
        from airflow_allma.engine.errors import step_error_from
        from airflow_allma.engine.tries import pause

        run = TaskRun(self.flow, context)
        begin = self.arrive(run)
        state = run.run(begin)
        run.run(lambda: pause(run.program.steps[self.step], "before", run.services))
        # The branches begin here, and so does whatever becomes of a failure: both need the state.
        run.save_state(state)
        fork = run.handle.fork(self.step)
        try:
            found = run.run(lambda: resolve_items(fork, state.context, run.services))
        except AllmaError as error:
            self.fail(run, step_error_from(error).as_dict())
        return self._decided(run, found)

    def _decided(self, run: TaskRun, found: ForkItems) -> list[dict[str, Any]]:
        from airflow_allma.engine import label_of

        if found.pointer is not None:
            push(run.ti, Key.PLAN, {"mode": "chunks", "pointer": found.pointer.inner()})
            self.log.info("Items are in %s: they run in chunks", found.pointer)
            return []
        items = found.values or []
        fork = run.handle.fork(self.step)
        size = len(msgspec.json.encode(items))
        plan = {"mode": "memory", "count": len(items), "bytes": size}
        settings = run.settings
        # Each branch has a task of its own: a limit below their number can only be kept in one process.
        too_tight = fork.max_concurrency is not None and fork.max_concurrency < len(fork.branches)
        too_many = len(items) > settings.max_in_memory_items or size > settings.max_in_memory_bytes
        if items and (too_many or too_tight):
            push(run.ti, Key.PLAN, plan | {"mode": "chunks"})
            self.log.info("%d items, %d bytes of JSON: they run in chunks", len(items), size)
            return []
        push(run.ti, Key.PLAN, plan)
        self.log.info("%d items, %d bytes of JSON: each has its own map index", len(items), size)
        return [item_element(index, label_of(fork, item, index), item) for index, item in enumerate(items)]
