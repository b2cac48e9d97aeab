"""What Airflow's plugin manager finds."""

from __future__ import annotations

import importlib
import logging
from typing import Any, Final

from airflow.plugins_manager import AirflowPlugin

from airflow_allma.compat import is_task_process
from airflow_allma.timetables.aws_timetables import AwsCronTimetable, AwsRateTimetable, StartPointsTimetable

__all__ = ["AllmaPlugin"]

_LOG: Final = logging.getLogger(__name__)

_OF_TASKS: Final = (
    "aiohttp",
    "airflow_allma.dag_factory.build",
    "airflow_allma.dag_factory.loader",
    "airflow_allma.loading",
    "airflow_allma.storage.s3",
    "encodings.utf_8_sig",
)


class AllmaPlugin(AirflowPlugin):
    """Registers what this package adds to Airflow beside its Dags."""

    name = "allma"
    timetables = [  # noqa: RUF012 - Airflow's own way of saying it
        AwsCronTimetable,
        AwsRateTimetable,
        StartPointsTimetable,
    ]

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Import and warm up what the tasks of flows need, in a process from which theirs are forked.

        So it is done once instead of for each task. A task's own process imports only what it comes to, since
        the task may be one of any Dag.
        """
        del args, kwargs
        if not is_task_process():
            for name in _OF_TASKS:
                importlib.import_module(name)
            _warm_up()


def _warm_up() -> None:
    from airflow_allma.dag_factory.prewarm import prewarm

    try:
        prewarm()
    except Exception:  # noqa: BLE001 - such as a setting that is no number
        # A plugin that fails is not there, and schedules must not stop for that.
        _LOG.exception("Tasks of flows will start more slowly, and the flows may fail for the same reason")
