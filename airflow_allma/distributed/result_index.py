"""The format of what is stored beside a chunk's results, so that any item is found without reading all.

``chunk_layout`` names the objects: the plan is in the folder of a fork's plan, the rest in that of a chunk.

The **plan** is what ``ChunkPlan.to_dict`` returns, with ``version``, ``fork``, ``flowId``, ``flowVersion``
and ``runId``. It is written when the fork is planned.

The **index** (``ChunkIndex``) is written before the summary, when the chunk has ended. It lists the parts of
the results and of the traces, those of earlier tries too, each with its size and with **marks**: pairs of an
item and the byte at which its first line begins. There is a mark after 128 lines or 256 KiB, at the next
line that begins another item. It also counts failures by kind.

The **failures** are JSON Lines, one ``FailureLine`` for each branch run that has failed in the end, by item:
the first 10,000 of a chunk. The kinds in the index count all of them.

The **labels** are one line for each item of the chunk, compressed with gzip. They exist only if a label says
more than the item's index.

A **part of traces** has one ``ItemTrace`` a line, by item. Its name is like that of a part of the results. Of
several traces of one item and branch, the last one with the status of the result that counts belongs to it.

``item`` counts the chunk's items from 0 everywhere. Chunks of older versions and chunks that have not ended
have none of this except the plan and parts of traces: names of parts say which items they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from airflow_allma.distributed.bounded_read import read_bounded
from airflow_allma.distributed.chunk_layout import Part, plan_pointer
from airflow_allma.distributed.chunk_plan import ChunkPlan
from airflow_allma.distributed.result_format import Generation
from airflow_allma.engine import BranchStatus, RunInfo
from airflow_allma.engine.failure_kinds import FailureKind, short_message
from airflow_allma.exceptions import ObjectDecodeError, ObjectNotFoundError
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.object_store import JSON_TYPE, ObjectStore

__all__ = [
    "MARK_BYTES",
    "MARK_LINES",
    "MAX_KINDS",
    "MAX_LISTED_FAILURES",
    "ChunkIndex",
    "FailureLine",
    "ItemTrace",
    "KindCount",
    "PartIndex",
    "StoredPlan",
    "read_plan",
    "write_plan",
]

MARK_LINES: Final = 128
"""Lines after which a part's next item has a mark."""
MARK_BYTES: Final = 256 << 10
"""Bytes after which it has one."""
MAX_KINDS: Final = 200
"""Kinds of failures of one chunk; further ones are counted as ``other``."""
MAX_LISTED_FAILURES: Final = 10_000
"""Failures of one chunk that are listed one by one, and failed items of one run of it that have traces."""

_Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class PartIndex(msgspec.Struct, frozen=True):
    """Where the lines of one part are.

    Attributes:
        key: the part's key.
        first: its first item.
        last: its last item.
        count: its lines.
        bytes: its size.
        marks: pairs of an item and the byte at which its first line in the part begins, ascending; the part's
            beginning has none.
    """

    key: str
    first: _Number
    last: _Number
    count: _Number
    bytes: _Number
    marks: list[tuple[_Number, _Number]] = []

    @classmethod
    def of(cls, part: Part, marks: list[tuple[int, int]]) -> PartIndex:
        """Return the index of a part that is stored."""
        name = part.name
        return cls(part.info.pointer.key, name.first, name.last, name.count, part.info.size, marks)


class KindCount(msgspec.Struct, frozen=True, rename="camel"):
    """How many branch runs of a chunk have failed with one kind of failure.

    Attributes:
        kind: the kind's id.
        error_name: as in ``FailureKind``, like the next three.
        step: as in ``FailureKind``.
        status: as in ``FailureKind``.
        message: as in ``FailureKind``.
        count: the branch runs.
        first: the first item of them.
    """

    kind: str
    error_name: str
    step: str
    status: int | None
    message: str
    count: _Number
    first: _Number

    @classmethod
    def of(cls, kind: FailureKind, count: int, first: int) -> KindCount:
        """Return the count of a kind."""
        return cls(kind.id, kind.error_name, kind.step, kind.status, kind.message, count, first)


class ChunkIndex(msgspec.Struct, frozen=True, rename="camel"):
    """The index of a chunk that has ended.

    Attributes:
        items: the items of the chunk.
        succeeded: branch runs that ended well.
        failed: branch runs that have failed in the end.
        skipped: branch runs whose branch does not apply to the item.
        parts: the parts of the results, in the order in which they were written.
        kinds: the failures by kind, the most frequent first.
        listed_failures: how many of them are listed one by one.
        labels: whether the labels are stored.
        traces: the parts of the traces, in the order in which they were written.
        untraced: failed branch runs of the last try that have no trace, since there were too many.
        version: the version of this format.
    """

    items: _Number
    succeeded: _Number
    failed: _Number
    skipped: _Number
    parts: list[PartIndex]
    kinds: list[KindCount] = []
    listed_failures: _Number = 0
    labels: bool = False
    traces: list[PartIndex] = []
    untraced: _Number = 0
    version: Literal[1] = 1


class FailureLine(msgspec.Struct, frozen=True, rename="camel"):
    """A branch run that has failed.

    Attributes:
        item: the item.
        branch: the branch's id.
        offset: where the item's line begins in the manifest, in bytes.
        label: the item's label.
        step: the step that failed; empty if none did.
        error_name: the error's name.
        status: the HTTP status of the response, if the error has one.
        message: the beginning of the error's message, on one line.
        kind: the id of the failure's kind.
    """

    item: int
    branch: str
    offset: int
    label: str
    step: str
    error_name: str
    status: int | None
    message: str
    kind: str

    @classmethod
    def of(
        cls, item: int, branch: str, offset: int, kind: FailureKind, error: Mapping[str, Any]
    ) -> FailureLine:
        """Return the line, without a label, of a branch run that has failed with an error of a kind."""
        message = short_message(error)
        return cls(item, branch, offset, "", kind.step, kind.error_name, kind.status, message, kind.id)


class ItemTrace(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The steps of one branch run.

    Attributes:
        item: the item.
        branch: the branch's id.
        status: how the branch run ended.
        steps: the steps, in the form of ``engine.traces``.
        omitted_steps: how many steps in the middle of a long trace are missing.
        note: what else is missing, and why.
        generation: as in ``ResultLine``.
    """

    item: int
    branch: str
    status: BranchStatus
    steps: list[Any]
    omitted_steps: int = 0
    note: str = ""
    generation: Generation = 0


class StoredPlan(msgspec.Struct, frozen=True):
    """The plan of a fork that runs in chunks, with what it belongs to.

    Attributes:
        plan: the chunks.
        fork: the fork's step id.
        flow_id: the flow.
        flow_version: its version.
        run_id: the flow's run, its ``flowExecutionId``.
    """

    plan: ChunkPlan
    fork: str
    flow_id: str
    flow_version: int
    run_id: str

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as a JSON object, for ``from_dict``."""
        return {
            "version": 1,
            "fork": self.fork,
            "flowId": self.flow_id,
            "flowVersion": self.flow_version,
            "runId": self.run_id,
            **self.plan.to_dict(),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> StoredPlan:
        """Restore what ``to_dict`` returned.

        Raises:
            ValueError: it is something else; also a ``LookupError`` or a ``TypeError``.
        """
        if saved["version"] != 1:
            raise ValueError(f"version {saved['version']!r} is not known")
        return cls(
            ChunkPlan.from_dict(saved),
            str(saved["fork"]),
            str(saved["flowId"]),
            int(saved["flowVersion"]),
            str(saved["runId"]),
        )


def write_plan(
    store: ObjectStore, folder: OffloadLocation, plan: ChunkPlan, fork: str, info: RunInfo
) -> None:
    """Store the plan of a fork.

    Args:
        store: the store of the folder.
        folder: the folder of the fork's chunks.
        plan: the plan.
        fork: the fork's step id.
        info: the run of the flow.

    Raises:
        StorageError: raised by the store.
    """
    stored = StoredPlan(plan, fork, info.flow_id, info.flow_version, info.flow_execution_id)
    store.write(plan_pointer(folder), msgspec.json.encode(stored.to_dict()), content_type=JSON_TYPE)


def read_plan(store: ObjectStore, folder: OffloadLocation) -> StoredPlan | None:
    """Return the plan that is stored in the folder of a fork's chunks; None if there is none.

    Raises:
        ObjectDecodeError: it has another format.
        StorageError: raised by the store.
    """
    pointer = plan_pointer(folder)
    try:
        data = read_bounded(store, pointer)
    except ObjectNotFoundError:
        return None
    try:
        return StoredPlan.from_dict(msgspec.json.decode(data))
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ObjectDecodeError(f"{pointer} is not the plan of a fork's chunks: {error!r}.") from error
