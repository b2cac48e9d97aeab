"""Airflow's Celery workers: their configuration, command and health check."""

from __future__ import annotations

from demo.airflow_config import Sections

ANSWER_SECONDS = 2.0


def celery_settings(broker_url: str, database_url: str, slots: int) -> Sections:
    """Return the `[celery]` settings of all components; each worker runs `slots` tasks at once."""
    return {
        "celery": {
            "broker_url": broker_url,
            "result_backend": f"db+{database_url}",
            "worker_concurrency": str(slots),
            # a busy machine does not answer within the default of one second
            "operation_timeout": "30",
        }
    }


def worker_command(name: str) -> list[str]:
    """Return the `airflow` arguments that start a worker with this name and a pid file named after it."""
    return [
        *("celery", "worker", "--skip-serve-logs", "--without-mingle", "--without-gossip"),
        *("--celery-hostname", _node(name), "--pid", f"{name}.pid"),
    ]


def answering_workers(broker_url: str, names: list[str]) -> set[str]:
    """Return the names of the workers that answer a ping, and so accept tasks."""
    from celery import Celery

    nodes = {_node(name): name for name in names}
    with Celery(broker=broker_url) as app:
        answers = app.control.ping(list(nodes), timeout=ANSWER_SECONDS, limit=len(nodes))
    return {nodes[node] for answer in answers for node in answer}


def _node(name: str) -> str:
    return f"{name}@localhost"
