"""The trigger of POLL_EXTERNAL_API: makes the calls of one poll in the triggerer.

What a trigger gets is plain text in Airflow's database: here the id of a connection and templates, never
their values, which are looked up for each call. Modules are imported when the first poll runs.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_allma.compat import pull_of_trigger, push_of_trigger

if TYPE_CHECKING:
    from airflow_allma.engine import Services
    from airflow_allma.engine.steps.frozen_poll import FrozenPoll

__all__ = ["PROGRESS_KEY", "PollTrigger"]

PROGRESS_KEY: Final = "allma_poll"
"""The XCom that holds how far a poll is, for a triggerer that is restarted."""

_LOG: Final = logging.getLogger("airflow_allma.poll")
_MAX_BODY_BYTES: Final = 1 << 20
"""A larger response would hold up the other triggers while it is read; the worker reads it."""


class _PollEvent(TriggerEvent):
    """What the poll has ended with; the response stays out of the triggerer's log."""

    def __repr__(self) -> str:
        return f"<poll: {', '.join(sorted(set(self.payload) - {'progress'})) or 'due'}>"

    __str__ = __repr__


class PollTrigger(BaseTrigger):
    """Yields one event: the answer to the wait of a poll, see ``FrozenPoll.next``.

    Args:
        step_id: the step.
        details: the details of its wait.
    """

    def __init__(self, step_id: str, details: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.step_id = step_id
        self.details = dict(details)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments."""
        return f"{__name__}.{type(self).__name__}", {"step_id": self.step_id, "details": self.details}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Make the calls that are due until polling has ended, or until the worker has to make one."""
        services = await asyncio.to_thread(_services)
        _RUNNING.append(self)
        try:
            yield _PollEvent(payload=await self._poll(services))
        finally:
            _RUNNING.remove(self)
            if not _RUNNING:
                await services.close()

    async def _poll(self, services: Services) -> dict[str, Any]:
        from airflow_allma.engine.steps.frozen_poll import FrozenPoll

        try:
            poll = FrozenPoll(self.details, self.step_id, services)
        except Exception:  # noqa: BLE001 - written by another version; the worker writes them again
            _LOG.exception("The details of the poll of step %s cannot be read", self.step_id)
            return {"repeat": True}
        await self._restore(poll)
        while True:
            await asyncio.sleep(max(0.0, poll.progress.due - time.time()))
            if not poll.makes_calls:
                return {}
            if (answer := await poll.next()) is not None:
                return answer
            await self._save(poll)

    async def _restore(self, poll: FrozenPoll) -> None:
        if self.task_instance is None:
            return
        try:
            poll.restore(await asyncio.to_thread(pull_of_trigger, self.task_instance, PROGRESS_KEY))
        except Exception:  # noqa: BLE001 - without it a call is repeated; the step must not fail for that
            _LOG.warning("Whether step %s has made calls before is not known", self.step_id, exc_info=True)

    async def _save(self, poll: FrozenPoll) -> None:
        if self.task_instance is None:
            return
        try:
            await asyncio.to_thread(push_of_trigger, self.task_instance, PROGRESS_KEY, poll.saved)
        except Exception:  # noqa: BLE001 - only a restarted triggerer needs it
            _LOG.warning("How many calls step %s has made is not stored", self.step_id, exc_info=True)


_RUNNING: Final[list[PollTrigger]] = []


@functools.cache
def _services() -> Services:
    """Return what all polls of this process share: one HTTP session, and the secrets of the last minute."""
    from airflow_allma.engine import Services
    from airflow_allma.engine.http import AiohttpClient
    from airflow_allma.engine.secrets import Secrets
    from airflow_allma.operators.airflow_secrets import AirflowSecrets

    return Services(
        http=AiohttpClient(max_bytes=_MAX_BODY_BYTES), secrets=Secrets(AirflowSecrets()), log=_LOG
    )
