"""What all routes of the API share: the flows, the stores, and the threads in which both are read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from airflow.utils.session import create_session
from sqlalchemy.orm import Session

from airflow_allma.server.dag_flows import DagFlow, DagFlows
from airflow_allma.server.fork_answers import ForkAnswers, answers_of
from airflow_allma.server.fork_views import ForkState, read_forks
from airflow_allma.server.not_found import NotFoundError
from airflow_allma.server.run_database import find_run
from airflow_allma.server.run_rows import RunRow
from airflow_allma.server.stores import Stores
from airflow_allma.server.work_pool import SlotLimit, WorkPool

__all__ = ["ApiContext"]

T = TypeVar("T")

_THREADS: Final = 8
_STORE_THREADS: Final = 16
_SECONDS: Final = 30.0
_DOWNLOADS: Final = 4
_TOO_MANY_DOWNLOADS: Final = (
    f"{_DOWNLOADS} downloads are running in this API server already; try again when one of them has ended."
)


@dataclass(frozen=True)
class ApiContext:
    """What all routes share.

    The threads for the database are apart from those for stores: a store that does not answer leaves the
    lists of flows and runs as quick as they are.

    Attributes:
        flows: finds the flows of Dags.
        stores: opens stores.
        database: threads for what needs the database alone.
        store: threads for what reads a store.
        downloads: how many downloads run at once.
    """

    flows: DagFlows = field(default_factory=DagFlows)
    stores: Stores = field(default_factory=Stores)
    database: WorkPool = field(default_factory=lambda: WorkPool("allma-database", _THREADS, _SECONDS))
    store: WorkPool = field(default_factory=lambda: WorkPool("allma-store", _STORE_THREADS, _SECONDS))
    downloads: SlotLimit = field(default_factory=lambda: SlotLimit(_DOWNLOADS, _TOO_MANY_DOWNLOADS))

    async def read(self, work: Callable[[Session], T]) -> T:
        """Return what a function makes of a session of the database."""

        def call() -> T:
            with create_session() as session:
                return work(session)

        return await self.database.run(call)

    async def fork(self, dag_id: str, run_id: str, fork: str) -> ForkState:
        """Return a fork of a run.

        Raises:
            NotFoundError: the run or fork does not exist, or the Dag is not that of a flow.
        """

        def work(session: Session) -> ForkState:
            row = require_run(session, dag_id, run_id)
            found = self.require_flow(session, dag_id, run_id)
            tasks = found.fork(fork)
            if tasks is None:
                raise NotFoundError(
                    f"Flow {found.flow.id}, version {found.flow.version}, has no fork {fork!r:.200} with "
                    "tasks of its own. A fork in a branch or a loop runs inside of another step's task."
                )
            (state,) = read_forks(session, found, [tasks], dag_id, row)
            return state

        return await self.read(work)

    async def answer(self, dag_id: str, run_id: str, fork: str, question: Callable[[ForkAnswers], T]) -> T:
        """Return the answer to a question about the items of a fork."""
        state = await self.fork(dag_id, run_id, fork)
        return await self.store.run(lambda: question(answers_of(state, self.stores)))

    def require_flow(self, session: Session, dag_id: str, run_id: str) -> DagFlow:
        """Return the flow of a run; raises NotFoundError without one."""
        found = self.flows.find(session, dag_id, run_id)
        if found is None:
            raise NotFoundError(f"Dag {dag_id} is not made from an Allma flow.")
        return found

    async def stream(self, blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Return blocks that are read in our own threads, the first one at once.

        Raises:
            BusyError: too many downloads run already.
        """
        stream = _Blocks(blocks, self.store, self.downloads.take())
        await stream.begin()
        return stream


class _Blocks:
    """Blocks that are read one after another in our own threads, and a slot until the last one.

    Not a generator: a response whose client has gone before its first block is never iterated, and a
    generator that has not begun would keep its slot.
    """

    def __init__(self, blocks: Iterator[bytes], pool: WorkPool, release: Callable[[], None]) -> None:
        self._blocks = blocks
        self._pool = pool
        self._release: Callable[[], None] | None = release
        self._next: bytes | None = None

    async def begin(self) -> None:
        """Read the first block, whose error can still become an answer."""
        try:
            self._next = await self._pool.run(lambda: next(self._blocks, b""))
        except BaseException:
            self.close()
            raise

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        block, self._next = self._next, None
        try:
            if block is None:
                block = await self._pool.run(lambda: next(self._blocks, None))
        except BaseException:
            self.close()
            raise
        if block is None:
            self.close()
            raise StopAsyncIteration
        return block

    def close(self) -> None:
        """Give the slot back."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __del__(self) -> None:
        self.close()


def require_run(session: Session, dag_id: str, run_id: str) -> RunRow:
    """Return a run; raises NotFoundError if there is none with this id."""
    row = find_run(session, dag_id, run_id)
    if row is None:
        raise NotFoundError(f"Dag {dag_id} has no run {run_id!r:.300}; it may have been deleted.")
    return row
