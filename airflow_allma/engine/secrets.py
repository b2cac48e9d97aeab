"""The connections and Variables that steps use: looked up when a step needs them, kept for a minute, masked.

Their values are in no context, output, record or error: what a step raises and what it records passes
through ``Secrets.masks``.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from airflow_allma.common.secret_sources import ConnectionSecret, SecretSource
from airflow_allma.engine.masking import looks_secret
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.engine.threads import CallThreads
from airflow_allma.exceptions import SecretNotFoundError, StepError

__all__ = ["CACHE_SECONDS", "Secrets"]

CACHE_SECONDS: Final = 60.0
"""How long a process uses a connection or a Variable before it looks it up again."""

_T = TypeVar("_T")

# Names of headers whose values are no secrets, and are parts of many texts.
_PLAIN_HEADERS: Final = frozenset(
    {"accept", "accept-charset", "accept-language", "cache-control", "content-type", "user-agent"}
)


class Secrets:
    """The connections and Variables of one process. Errors of a lookup are not kept.

    Args:
        source: where they are looked up, in a thread; None: there are none.
        clock: seconds that only grow; tests pass in a fake.
    """

    def __init__(
        self, source: SecretSource | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.masks: Final = SecretMasks()
        self._source = source
        # Not those of asyncio, for which the end of an event loop waits, however long a lookup takes.
        self._threads = CallThreads()
        self._clock = clock
        self._known: dict[tuple[str, str], _Known[Any]] = {}
        self._pending: dict[tuple[str, str], asyncio.Task[Any]] = {}

    async def connection(self, conn_id: str) -> ConnectionSecret:
        """Return a connection; its login, its password and the secrets in its extra are masked from now on.

        Raises:
            SecretNotFoundError: it does not exist.
            SecretUnavailableError: what stores it does not answer.
            SecretError: it is not valid.
        """
        return await self._get("connection", conn_id, self._look_up_connection)

    async def variable(self, name: str) -> str:
        """Return the value of a Variable, which is masked from now on; raise as ``connection`` does."""
        return await self._get("variable", name, self._look_up_variable)

    async def hide(self, values: Iterable[str]) -> None:
        """Mask further values: what a step makes of secrets."""
        new = self.masks.add(values)
        if new and self._source is not None:
            await self._threads.run(self._source.hide, new)

    def mask_error(self, error: StepError) -> StepError:
        """Mask secrets in an error, in place, and return it."""
        if self.masks.longest:
            error.message = self.masks.text(error.message)
            error.details = self.masks.json(error.details)
            error.args = (error.message, *error.args[1:])
        return error

    def _look_up_connection(self, conn_id: str) -> ConnectionSecret:
        if self._source is None:
            raise SecretNotFoundError(f"Connection {conn_id!r} cannot be read: nothing provides connections.")
        found = self._source.connection(conn_id)
        self._source.hide(self.masks.add(_secrets_of(found)))
        return found

    def _look_up_variable(self, name: str) -> str:
        if self._source is None:
            raise SecretNotFoundError(f"Variable {name!r} cannot be read: nothing provides Variables.")
        value = self._source.variable(name)
        self._source.hide(self.masks.add([value]))
        return value

    async def _get(self, kind: str, name: str, look_up: Callable[[str], _T]) -> _T:
        known = self._known.get((kind, name))
        if known is not None and self._clock() < known.until:
            value: _T = known.value
            return value
        # One lookup at a time, however many branch runs need it; a task belongs to its event loop.
        key = (kind, name)
        task = self._pending.get(key)
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = asyncio.create_task(self._look_up(kind, name, look_up))
            self._pending[key] = task
            task.add_done_callback(lambda ended: self._ended(key, ended))
        # A step that times out must not end the lookup of others.
        found: _T = await asyncio.shield(task)
        return found

    def _ended(self, key: tuple[str, str], task: asyncio.Task[Any]) -> None:
        if self._pending.get(key) is task:
            del self._pending[key]
        if not task.cancelled():
            # Those who wait get it too; without them asyncio would log it.
            task.exception()

    async def _look_up(self, kind: str, name: str, look_up: Callable[[str], _T]) -> _T:
        started = self._clock()
        value = await self._threads.run(look_up, name)
        self._known[kind, name] = _Known(value, started + CACHE_SECONDS)
        return value


@dataclass(frozen=True, slots=True)
class _Known(Generic[_T]):
    value: _T
    until: float


def _secrets_of(connection: ConnectionSecret) -> list[str]:
    """Return what is secret in a connection; host, port, schema and ordinary headers are not.

    Other members of its extra that a template names are added when it does.
    """
    secrets = [connection.login, connection.password]
    if connection.login or connection.password:
        pair = f"{connection.login}:{connection.password}"
        # As SMTP servers get them, which repeat a command that they do not understand.
        plain = f"\0{connection.login}\0{connection.password}"
        secrets += [pair, *(base64.b64encode(one.encode(errors="replace")).decode() for one in (pair, plain))]
    headers = connection.extra.get("headers")
    if isinstance(headers, dict):
        secrets += [
            value
            for name, value in headers.items()
            if isinstance(value, str) and name.lower() not in _PLAIN_HEADERS
        ]
    secrets += _secret_members(connection.extra, is_secret=False)
    return [secret for secret in secrets if secret]


def _secret_members(value: Any, *, is_secret: bool) -> Iterator[str]:
    """Yield the strings below secret-looking keys."""
    if isinstance(value, str) and is_secret:
        yield value
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from _secret_members(member, is_secret=is_secret or looks_secret(str(key)))
    elif isinstance(value, list):
        for member in value:
            yield from _secret_members(member, is_secret=is_secret)
