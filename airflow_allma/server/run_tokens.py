"""What the model calls of a run took, added up over its tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from airflow_allma.engine.llm.token_account import TokenAccount
from airflow_allma.operators.xcoms import Key
from airflow_allma.server.run_database import find_xcoms

__all__ = ["run_tokens"]


def run_tokens(session: Session, dag_id: str, run_id: str, task_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Return ``[{"model", "calls", "inputTokens", "outputTokens", ...}]``; empty if no model was called.

    Args:
        session: the database.
        dag_id: the Dag.
        run_id: the run.
        task_ids: its tasks.
    """
    account = TokenAccount()
    for row in find_xcoms(session, dag_id, run_id, task_ids, [Key.TOKENS.value]):
        try:
            account.merge(row.json())
        except (AttributeError, TypeError, msgspec.ValidationError):
            # Somebody else's value under this key: it counts nothing.
            continue
    return [{"model": model, **totals} for model, totals in account.to_dict().items()]
