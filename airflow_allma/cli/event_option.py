"""The option ``--event`` of ``airflow-allma run``: the events for which the flow waits."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import typer

from airflow_allma.cli.json_options import UsageError, read_object
from airflow_allma.common.printable import printable
from airflow_allma.engine import SegmentResult, SegmentStatus, Services
from airflow_allma.engine.suspension import SuspendReason, Wait

__all__ = ["EventOption"]


@dataclass(slots=True)
class EventOption:
    """The events that were given, and those that are asked for on the terminal.

    Attributes:
        payloads: key -> its payloads; a key for which the flow waits several times can have several.
        asks: whether other events are asked for.
    """

    payloads: dict[str, deque[dict[str, Any]]] = field(default_factory=dict)
    asks: bool = False

    @classmethod
    def read(cls, options: Iterable[str]) -> EventOption:
        """Return the events of ``KEY=JSON`` options; the JSON can be in a file that is named instead.

        Raises:
            UsageError: an option is something else.
        """
        payloads: dict[str, deque[dict[str, Any]]] = {}
        for option in options:
            # A key can contain an equals sign, as long as an object follows the last one.
            key, found, rest = option.partition("={")
            key, found, value = (key, found, "{" + rest) if found else option.partition("=")
            if not found or not key:
                raise UsageError(
                    f'--event must be KEY=JSON, such as order:7={{"ok": true}}; it is {option!r}'
                )
            payloads.setdefault(key, deque()).append(read_object(value, f"--event {key}"))
        return cls(payloads, sys.stdin.isatty() and sys.stderr.isatty())

    async def drive(self, run: Callable[[], Awaitable[SegmentResult]], services: Services) -> SegmentResult:
        """Run, and continue with each event for which the run waits, as long as there are any.

        Args:
            run: runs the flow from its current state; called again after each event.
            services: take the events.

        Returns:
            SUSPENDED if the run waits for an event that nobody has.
        """
        while True:
            result = await run()
            if result.status is not SegmentStatus.SUSPENDED or not await self._answer(result.waits, services):
                return result

    def unused(self) -> list[str]:
        """Return the keys of the events for which the run did not wait."""
        return [key for key, payloads in self.payloads.items() if payloads]

    async def _answer(self, waits: Sequence[Wait], services: Services) -> bool:
        """Pass on the events that there are for some waits; return whether there was one."""
        answered = False
        for wait in waits:
            payloads = self.payloads.get(wait.key)
            if payloads:
                services.answers.put(SuspendReason.EVENT, wait.key, {"payload": payloads.popleft()})
                answered = True
        if answered or not self.asks:
            return answered
        payload = await asyncio.to_thread(_ask, waits[0])
        if payload is not None:
            services.answers.put(SuspendReason.EVENT, waits[0].key, {"payload": payload})
        return payload is not None


def _ask(wait: Wait) -> dict[str, Any] | None:
    """Ask for the payload of an event on the terminal; return None if there is none."""
    message = wait.details.get("message")
    if message is not None:
        typer.echo(printable(str(message)), err=True)
    until = datetime.fromtimestamp(wait.until, UTC).isoformat(timespec="seconds")
    prompt = (
        f"Step {wait.step_id} waits until {until} for the event {printable(wait.key)}. Its payload as a JSON "
        "object (empty: leave the run waiting)"
    )
    while True:
        answer = typer.prompt(prompt, default="", show_default=False, err=True)
        if not answer.strip():
            return None
        try:
            return read_object(answer, "The payload")
        except UsageError as error:
            typer.echo(f"error: {error}", err=True)
