"""The trigger of a task that waits for another run: it asks for the run's state until the run has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_allma.compat import ENDED_STATES, RunRefusedError, other_run_state

__all__ = ["RunTrigger"]

_LOG: Final = logging.getLogger("airflow_allma.runs")

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 10.0
_SHARE: Final = 0.1
"""The pause as a part of the time that has passed: the ends of short runs are noticed soon."""


class RunTrigger(BaseTrigger):
    """Yields one event when a run has ended, or does not exist any more.

    It is only a hint: the task itself looks how the run has ended.

    Args:
        dag_id: the run's Dag.
        run_id: the run.
    """

    def __init__(self, dag_id: str, run_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.run_id = run_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments."""
        return f"{__name__}.{type(self).__name__}", {"dag_id": self.dag_id, "run_id": self.run_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask for the run's state until it has ended."""
        begun = monotonic()
        while True:
            try:
                state = await asyncio.to_thread(other_run_state, self.dag_id, self.run_id)
            except RunRefusedError as error:
                state = error.reason
            except Exception as error:  # noqa: BLE001 - the API server does not answer, and may do so later
                _LOG.warning("The state of run %s of Dag %s is unknown: %s", self.run_id, self.dag_id, error)
                state = "unknown"
            if state in ENDED_STATES or state == "not_found":
                yield TriggerEvent({"state": state})  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(min(_LONGEST_PAUSE, max(_FIRST_PAUSE, _SHARE * (monotonic() - begun))))
