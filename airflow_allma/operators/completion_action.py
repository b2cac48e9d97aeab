"""The task of one completion action, in the completion Dag of a flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_allma.common.completion_runs import EndedRun, flow_dag_id
from airflow_allma.operators.ended_run import EndedRunView
from airflow_allma.operators.flow_operator import FlowOperator
from airflow_allma.operators.flow_ref import FlowRef
from airflow_allma.operators.task_context import LOG

__all__ = ["CompletionActionOperator"]


class CompletionActionOperator(FlowOperator):
    """Runs one action after a run has ended; the task is skipped if the action is not for that end.

    A transient failure is retried by the action itself and then by Airflow, any other fails the task. The run
    that has ended is only read.

    Args:
        flow: the flow.
        action: the index of the action.
        tasks: see ``EndedRunView``.
        kwargs: as for any operator.
    """

    def __init__(self, *, flow: FlowRef, action: int, tasks: Sequence[str], **kwargs: Any) -> None:
        super().__init__(flow=flow, step=f"onCompletionActions[{action}]", **kwargs)
        self.action = action
        self.tasks = tuple(tasks)

    def execute(self, context: Mapping[str, Any]) -> None:
        """Run the action, in the task's own process.

        Raises:
            AirflowSkipException: it is not for a run that ended like this, or that only started others.
            AirflowFailException: it failed, and a retry cannot help.
            StepError: it failed, and a retry can help.
        """
        from airflow_allma.engine.completion import ActionStatus, completion_actions, run_action

        dag_id, ended = self._which_run(context)
        if self.flow.flow.only_starts_others(ended.run_id):
            raise AirflowSkipException(f"Run {ended.run_id} has only started a run for each message.")
        run = EndedRunView(self.flow, context, dag_id, ended, self.tasks)
        end = run.end()
        LOG.info("%s of run %s, which ended: %s", self.step, run.current.ti.run_id, end.status.value)
        compiled = completion_actions(self.flow.flow)[self.action]
        state, current = run.final_state(), run.current
        result = current.run(lambda: run_action(compiled, state, current.info, end, current.services))
        if result.status is ActionStatus.SKIPPED:
            raise AirflowSkipException(f"{result.name}: {result.reason}.")
        if result.error is not None:
            if result.error.retryable:
                raise result.error
            raise AirflowFailException(f"{result.name} failed: {result.error}")

    def _which_run(self, context: Mapping[str, Any]) -> tuple[str, EndedRun]:
        # The Dag is that of the same flow, whatever the payload says.
        dag_id = flow_dag_id(self.dag_id)
        ended = EndedRun.from_conf(context["dag_run"].conf)
        if dag_id is None or ended is None:
            raise AirflowFailException(
                "The payload of this run does not say which run has ended. Airflow's API server starts the "
                f"runs of this Dag when a run of {dag_id} has ended; to repeat an action, clear its task."
            )
        return dag_id, ended
