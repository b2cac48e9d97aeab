"""Undocumented names of Airflow; no other module uses them.

Each function documents what a name is used for, since which Airflow it exists, and what happens without it:
the answer is worse, but tasks run and Dags load, and one warning is logged in each process. All imports are
inside the functions, so that importing this package costs nothing.

Documented names are imported where they are used: those in ``__all__`` of ``airflow.sdk``, its ``exceptions``
and ``lineage``, ``airflow.timetables.base``, ``airflow.plugins_manager``, and the hooks of providers.
"""

from __future__ import annotations

from airflow_allma.compat.dag_checks import StoredDag, check_policies, stored_dag
from airflow_allma.compat.failure_lines import without_traceback
from airflow_allma.compat.ignore_rules import IgnoreRule, ignore_rule
from airflow_allma.compat.other_runs import OtherRun, find_dag_run
from airflow_allma.compat.started_runs import (
    ENDED_STATES,
    EndedTask,
    RunRefusedError,
    dag_is_paused,
    ended_tasks,
    is_operator_triggered,
    other_run_state,
    start_dag_run,
)
from airflow_allma.compat.task_instances import (
    NOT_MAPPED,
    count_xcoms,
    instance_key,
    note_label,
    send_label,
    task_states,
)
from airflow_allma.compat.task_process import (
    Send,
    database_is_sqlite,
    is_local_task,
    is_task_process,
    is_unanswered,
    mask_values,
    note_database,
    redact_connections,
    wrap_supervisor,
)
from airflow_allma.compat.trigger_xcoms import pull_of_trigger, push_of_trigger
from airflow_allma.compat.unanswered import UnansweredRequests, unanswered_requests

__all__ = [
    "ENDED_STATES",
    "NOT_MAPPED",
    "EndedTask",
    "IgnoreRule",
    "OtherRun",
    "RunRefusedError",
    "Send",
    "StoredDag",
    "UnansweredRequests",
    "check_policies",
    "count_xcoms",
    "dag_is_paused",
    "database_is_sqlite",
    "ended_tasks",
    "find_dag_run",
    "ignore_rule",
    "instance_key",
    "is_local_task",
    "is_operator_triggered",
    "is_task_process",
    "is_unanswered",
    "mask_values",
    "note_database",
    "note_label",
    "other_run_state",
    "pull_of_trigger",
    "push_of_trigger",
    "redact_connections",
    "send_label",
    "start_dag_run",
    "stored_dag",
    "task_states",
    "unanswered_requests",
    "without_traceback",
    "wrap_supervisor",
]
