"""The account of a fork: what the model calls of its items took."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.operators.xcoms import Key, pull_all, push

__all__ = ["push_fork_tokens"]


def push_fork_tokens(current: TaskContext, step: str, tasks: Sequence[str]) -> None:
    """Add up what the tasks of a fork pushed, log it, and push the sum; nothing if no model was called.

    Args:
        current: the task that joins the fork's results.
        step: the fork.
        tasks: the tasks that run its items.
    """
    if not current.fork(step).may_call_models:
        return
    from airflow_allma.engine.llm.token_account import TokenAccount

    try:
        account = TokenAccount.sum_of(
            *(saved for task in tasks for saved in pull_all(current.ti, task, Key.TOKENS))
        )
        if account:
            push(current.ti, Key.FORK_TOKENS, account.to_dict())
    except Exception as error:  # noqa: BLE001 - whatever Airflow raises, an account must not fail a task
        LOG.warning("%s (the account of the tokens of fork %s is missing)", error, step)
        return
    for line in account.lines():
        LOG.info("%s", line)
