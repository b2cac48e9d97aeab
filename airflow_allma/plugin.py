"""The plugin that Airflow's plugin manager finds."""

from __future__ import annotations

import importlib
import logging
from typing import Any, Final

from airflow.plugins_manager import AirflowPlugin

from airflow_allma.compat import is_task_process
from airflow_allma.timetables.aws_timetables import AwsCronTimetable, AwsRateTimetable, StartPointsTimetable

__all__ = ["AllmaPlugin"]

_LOG: Final = logging.getLogger(__name__)

_REGISTRATION: Final = "airflow_allma.server.registration"
_TASK_IMPORTS: Final = (
    "aiohttp",
    "airflow_allma.dag_factory.build",
    "airflow_allma.dag_factory.loader",
    "airflow_allma.loading",
    "airflow_allma.storage.s3",
    "encodings.utf_8_sig",
)


def _registered(name: str) -> list[Any]:
    """Return what is registered for the API server; nothing if that is broken.

    Airflow drops a plugin that fails, and with it the timetables of all flows.
    """
    try:
        found: list[Any] = getattr(importlib.import_module(_REGISTRATION), name)
    except Exception:  # noqa: BLE001 - whatever it is
        _LOG.exception("Airflow's UI has no pages of flows, and nothing wakes waiting flows")
        return []
    return found


class AllmaPlugin(AirflowPlugin):
    """Registers timetables and routes, and warms processes up before tasks are forked from them."""

    name = "allma"
    timetables = [  # noqa: RUF012 - Airflow's interface
        AwsCronTimetable,
        AwsRateTimetable,
        StartPointsTimetable,
    ]
    fastapi_apps = _registered("FASTAPI_APPS")
    fastapi_root_middlewares = _registered("ROOT_MIDDLEWARES")
    external_views = _registered("EXTERNAL_VIEWS")
    react_apps = _registered("REACT_APPS")

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Import and warm up what the tasks of flows need, in a process from which tasks are forked.

        This happens once, not in each task. A task's own process imports only what it uses, since the task
        can be one of any Dag.
        """
        del args, kwargs
        if not is_task_process():
            for name in _TASK_IMPORTS:
                importlib.import_module(name)
            _warm_up()


def _warm_up() -> None:
    from airflow_allma.dag_factory.prewarm import prewarm

    try:
        prewarm()
    except Exception:  # noqa: BLE001 - such as a setting that is not a number
        # As above.
        _LOG.exception("Warm-up failed: tasks of flows start more slowly, and may fail for the same reason")
