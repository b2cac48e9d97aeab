"""The names of everything that the chunks of a fork store: written and read here only.

Below the folder of a run::

    <fork>/results/<plan>/plan.json
    <fork>/results/<plan>/<chunk>/index.json
    <fork>/results/<plan>/<chunk>/manifest.json
    <fork>/results/<plan>/<chunk>/failures.jsonl
    <fork>/results/<plan>/<chunk>/labels.gz
    <fork>/results/<plan>/<chunk>/parts/<sequence>-<first>-<last>-<count>-<writer>.jsonl
    <fork>/results/<plan>/<chunk>/traces/<sequence>-<first>-<last>-<count>-<writer>.jsonl

``result_format`` and ``result_index`` describe what is in these objects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.object_store import ObjectInfo, ObjectStore
from airflow_allma.storage.pointer import Pointer

__all__ = [
    "PLAN_FILE",
    "ChunkFile",
    "Part",
    "PartKind",
    "PartName",
    "folder_of_chunk",
    "fork_of_key",
    "list_parts",
    "plan_pointer",
    "results_of_fork",
    "split_chunk_key",
]

PLAN_FILE: Final = "plan.json"
_RESULTS: Final = "results"
_CHUNK_KEY: Final = re.compile(r"(\d{6,})/(.+)")
_RESULT_KEY: Final = re.compile(rf"([^/]+)/{_RESULTS}/.+")
_PART_NAME: Final = re.compile(r"(parts|traces)/(\d{6,})-(\d+)-(\d+)-(\d+)-([0-9a-z]+)\.jsonl")


class ChunkFile(StrEnum):
    """The single objects in the folder of a chunk."""

    INDEX = "index.json"
    """A ``ChunkIndex``."""
    SUMMARY = "manifest.json"
    """A ``ChunkSummary``."""
    FAILURES = "failures.jsonl"
    """A ``FailureLine`` in each line."""
    LABELS = "labels.gz"
    """The label of an item in each line."""

    def pointer(self, chunk: OffloadLocation) -> Pointer:
        """Return where the object is in the folder of a chunk."""
        return chunk.pointer(self.value)


class PartKind(StrEnum):
    """What the lines of a part are; the value is the folder of such parts."""

    RESULTS = "parts"
    """A ``ResultLine`` in each line."""
    TRACES = "traces"
    """An ``ItemTrace`` in each line."""


@dataclass(frozen=True, slots=True)
class PartName:
    """What the name of a part says.

    Attributes:
        kind: what its lines are.
        sequence: its number among the parts of this kind of the chunk; parts of overlapping runs can share
            one.
        first: its first item.
        last: its last item.
        count: its lines.
        writer: the run of the chunk that wrote it.
    """

    kind: PartKind
    sequence: int
    first: int
    last: int
    count: int
    writer: str

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Read a name, relative to the folder of the chunk; None if it is not that of a part."""
        match = _PART_NAME.fullmatch(name)
        if match is None:
            return None
        kind, sequence, first, last, count, writer = match.groups()
        return cls(PartKind(kind), int(sequence), int(first), int(last), int(count), writer)

    @property
    def order(self) -> tuple[int, str]:
        """The order in which the parts of a chunk were written."""
        return self.sequence, self.writer

    def pointer(self, chunk: OffloadLocation) -> Pointer:
        """Return where the part is in the folder of a chunk."""
        numbers = f"{self.sequence:06d}-{self.first:010d}-{self.last:010d}-{self.count}"
        return chunk.pointer(self.kind.value, f"{numbers}-{self.writer}.jsonl")


@dataclass(frozen=True, slots=True)
class Part:
    """A stored part.

    Attributes:
        info: the object.
        name: what its name says.
    """

    info: ObjectInfo
    name: PartName


def list_parts(store: ObjectStore, chunk: OffloadLocation, kind: PartKind = PartKind.RESULTS) -> list[Part]:
    """Return the parts of a chunk in the order in which they were written; other objects are ignored.

    Raises:
        StorageError: raised by the store, also for a missing bucket; a missing folder is not an error.
    """
    prefix = f"{chunk.prefix}/" if chunk.prefix else ""
    parts = []
    for info in store.list(chunk.bucket, f"{prefix}{kind.value}/"):
        name = PartName.parse(info.pointer.key.removeprefix(prefix))
        if name is not None:
            parts.append(Part(info, name))
    return sorted(parts, key=lambda part: part.name.order)


def results_of_fork(run: OffloadLocation, fork: str) -> OffloadLocation:
    """Return the folder of all plans of a fork, in the folder of its run."""
    return run.below(fork, _RESULTS)


def plan_pointer(plan: OffloadLocation) -> Pointer:
    """Return where a plan is stored, in its folder."""
    return plan.pointer(PLAN_FILE)


def folder_of_chunk(plan: OffloadLocation, number: int) -> OffloadLocation:
    """Return the folder of a chunk, in the folder of its plan."""
    return plan.below(f"{number:06d}")


def split_chunk_key(key: str) -> tuple[int, str] | None:
    """Return the number of a chunk and a name in its folder, from a key relative to the folder of a plan.

    None means that the object is not in the folder of a chunk.
    """
    match = _CHUNK_KEY.fullmatch(key)
    return None if match is None else (int(match[1]), match[2])


def fork_of_key(key: str) -> str | None:
    """Return the fork that has stored an object, from its key relative to the folder of the run.

    None means that the object is not a result of a fork.
    """
    match = _RESULT_KEY.fullmatch(key)
    return None if match is None else match[1]
