"""The task of a fork that plans its chunks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from airflow_allma.exceptions import AllmaError
from airflow_allma.operators.flow_operator import FlowOperator
from airflow_allma.operators.fork_items import load_fork_values
from airflow_allma.operators.run_states import load_state
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.xcoms import Key, pull, push

if TYPE_CHECKING:
    from airflow_allma.distributed.chunk_plan import ChunkPlan
    from airflow_allma.distributed.fork_decision import ForkDecision

__all__ = ["ForkChunksOperator"]


class ForkChunksOperator(FlowOperator):
    """Plans the chunks of a fork whose items are many or in an object; returns ``[]`` for other forks.

    The ``ChunkPlan`` is pushed under ``allma_plan``, for the chunks' tasks and the aggregate.

    Args:
        items: full id of the fork's ``items`` task.
        chunks_at_once: maximum of chunks that run at the same time; None for no limit of the fork's own.
        kwargs: as for ``FlowOperator``; ``step`` is the fork.
    """

    def __init__(self, *, items: str, chunks_at_once: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.chunks_at_once = chunks_at_once

    def execute(self, context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Plan the chunks, in the task's own process."""
        from airflow_allma.distributed.fork_decision import ForkDecision, ForkMode
        from airflow_allma.engine.errors import step_error_from

        current = self.begin(context)
        saved = pull(current.ti, self.items, Key.PLAN)
        if saved is None:
            raise AirflowSkipException(f"{self.items} decided nothing.")
        try:
            decision = ForkDecision.from_dict(saved)
            if decision.mode is not ForkMode.CHUNKS:
                LOG.info("Nothing to plan: each item has a map index of its own")
                return []
            plan = self._plan(current, decision)
        except AllmaError as error:
            self.fail(current.ti, step_error_from(error).as_dict())
        push(current.ti, Key.PLAN, plan.to_dict())
        LOG.info("%d chunks", len(plan.chunks))
        return [chunk.to_dict() for chunk in plan.chunks]

    def _plan(self, current: TaskContext, decision: ForkDecision) -> ChunkPlan:
        from airflow_allma.distributed.chunk_plan import ChunkPlan, chunk_concurrency, plan_fork_chunks
        from airflow_allma.distributed.chunk_results import store_plan

        fork = current.fork(self.step)
        limits = fork.limits.restore(decision.computed)
        chunks = []
        if fork.branches:
            # Without branches nothing runs, and no result is missing.
            chunks = plan_fork_chunks(
                decision,
                lambda: load_fork_values(current, self.items, self.step),
                current.services,
                current.settings,
                (*current.info.key_ids, self.step),
                reader=fork.model.item_reader,
                limits=limits,
            )
        # Results of an earlier try count again only if they were made from the same data, and not for a run
        # with the id of one that has been deleted since.
        token = ChunkPlan.token_of(chunks, load_state(current, self.items), current.run_after)
        concurrency = chunk_concurrency(limits, len(chunks), self.chunks_at_once, current.settings)
        plan = ChunkPlan(tuple(chunks), decision.count, token, concurrency)
        store_plan(current.services, current.info, self.step, plan)
        return plan
