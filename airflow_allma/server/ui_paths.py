"""Paths of Airflow's own pages, as its router knows them: without the address of the server."""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["log_path", "task_path"]


def task_path(dag_id: str, run_id: str, task_id: str, map_index: int | None = None) -> str:
    """Return the path of a task instance; of all of a mapped task without a map index."""
    parts = ["", "dags", dag_id, "runs", run_id, "tasks", task_id]
    if map_index is not None and map_index >= 0:
        parts += ["mapped", str(map_index)]
    # Airflow's router compares paths as texts, and its own links have ":" and "+" of run ids as they are.
    return "/".join(quote(part, safe=":+") for part in parts)


def log_path(dag_id: str, run_id: str, task_id: str, map_index: int | None, tries: int) -> str:
    """Return the path of the log of a task instance's last try."""
    path = task_path(dag_id, run_id, task_id, map_index)
    return f"{path}?try_number={tries}" if tries > 0 else path
