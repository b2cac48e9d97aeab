"""The first task of a fork: finds the items and decides how they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_allma.exceptions import AllmaError
from airflow_allma.operators.assets import tell_of_manifest
from airflow_allma.operators.flow_step import FlowStepOperator
from airflow_allma.operators.fork_plan import decide_mode
from airflow_allma.operators.mapped_item import encode_mapped_item
from airflow_allma.operators.task_context import TaskContext
from airflow_allma.operators.xcoms import Key, push

if TYPE_CHECKING:
    from airflow_allma.engine import ForkItems

__all__ = ["ForkItemsOperator"]


class ForkItemsOperator(FlowStepOperator):
    """Evaluates ``itemsPath`` and decides the mode.

    A list that is short and small enough is returned, one entry an item, for the branches' groups to map
    over.
    Everything else returns ``[]``, and the fork's ``chunks`` task plans chunks. The decision goes under
    ``allma_plan``: ``{"mode": "memory" | "chunks", "count"?, "bytes"?, "pointer"?}``.
    """

    def execute(self, context: Mapping[str, Any]) -> list[str]:
        """Find the items; in the task's own process."""
        from airflow_allma.engine import resolve_items
        from airflow_allma.engine.errors import step_error_from
        from airflow_allma.engine.retry import pause

        run = TaskContext(self.flow, context)
        try:
            begin = self.arrive(run)
        except AllmaError as error:
            self.fail(run, step_error_from(error).as_dict())
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

    def _decided(self, run: TaskContext, found: ForkItems) -> list[str]:
        from airflow_allma.engine import label_of

        fork = run.handle.fork(self.step)
        plan = decide_mode(fork, found, run.settings)
        push(run.ti, Key.PLAN, plan)
        if found.pointer is not None:
            self.log.info("Items are in %s: they run in chunks", found.pointer)
            tell_of_manifest(self, found.pointer)
            return []
        in_chunks = plan["mode"] == "chunks"
        way = "they run in chunks" if in_chunks else "each has its own map index"
        self.log.info("%d items, %d bytes of JSON: %s", plan["count"], plan["bytes"], way)
        if in_chunks:
            return []
        items = found.values or []
        return [
            encode_mapped_item(index, label_of(fork, item, index), item) for index, item in enumerate(items)
        ]
