"""The branch runs of a chunk that wait for events, kept while no process works on the chunk.

In the chunk's folder, beside its results::

    <chunk>/parked/<sequence>-<all or new>-<count>-<writer>.jsonl

An object is written whenever the chunk's task parks or ends, is never changed, and has one JSON line for
each branch run: ``{"item": 12, "branch": "approve", "run": {...}}`` for one that waits, the same without
``run`` for one that waits no longer. ``all`` has every run that waits, ``new`` what has changed since the
object before it; so a reader needs the last ``all`` and what follows. ``item`` counts the chunk's items
from 0.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from airflow_allma.exceptions import ObjectDecodeError, ObjectNotFoundError
from airflow_allma.storage.jsonl import read_line_batches
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.manifest_ranges import ManifestRange
from airflow_allma.storage.object_store import JSON_LINES_TYPE, ObjectInfo, ObjectStore

__all__ = ["ParkedRuns", "ParkedRunsFolder", "RunKey"]

_NAME: Final = re.compile(r"(\d{6,})-(all|new)-(\d+)-([0-9a-z]+)\.jsonl")
_REWRITE_AFTER: Final = 8
"""How many objects with changes are written before one with everything."""
_BLOCK_BYTES: Final = 256 << 10
_MAX_LINE_BYTES: Final = 1 << 40


class RunKey(NamedTuple):
    """Identifies a branch run of a chunk.

    Attributes:
        item: the item's index in the chunk, from 0.
        branch: the branch's id.
    """

    item: int
    branch: str


class ParkedRuns:
    """The branch runs of a chunk that wait, and what has changed since they were last kept.

    A run is whatever JSON object its owner needs to continue it.

    Args:
        runs: those that wait.
    """

    def __init__(self, runs: Mapping[RunKey, Any] | None = None) -> None:
        self._runs: dict[RunKey, Any] = dict(runs or {})
        self._changed: set[RunKey] = set()

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, key: object) -> bool:
        return key in self._runs

    def __iter__(self) -> Iterator[tuple[RunKey, Any]]:
        return iter(list(self._runs.items()))

    def get(self, key: RunKey) -> Any:
        """Return a run that waits, or None."""
        return self._runs.get(key)

    def add(self, key: RunKey, run: Any) -> None:
        """Note that a run waits."""
        self._runs[key] = run
        self._changed.add(key)

    def remove(self, key: RunKey) -> None:
        """Note that a run waits no longer."""
        if self._runs.pop(key, None) is not None:
            self._changed.add(key)

    @property
    def changed(self) -> bool:
        """Whether something has changed since the runs were last kept."""
        return bool(self._changed)

    def changes(self) -> dict[RunKey, Any]:
        """Return what has changed since the runs were last kept: None for a run that waits no longer."""
        return {key: self._runs.get(key) for key in sorted(self._changed)}

    def set_kept(self) -> None:
        """Note that the runs are kept as they are now."""
        self._changed.clear()

    def all(self) -> dict[RunKey, Any]:
        """Return all runs that wait."""
        return {key: self._runs[key] for key in sorted(self._runs)}

    def to_list(self) -> list[list[Any]]:
        """Return all runs as JSON, for ``from_list``."""
        return [[key.item, key.branch, run] for key, run in self.all().items()]

    @classmethod
    def from_list(cls, saved: list[list[Any]]) -> ParkedRuns:
        """Restore what ``to_list`` returned."""
        return cls({RunKey(item, branch): run for item, branch, run in saved})


class _Line(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    item: int
    branch: str
    run: Any = None


class ParkedRunsFolder:
    """Keeps the parked runs of a chunk in its folder.

    Args:
        store: the store of the location.
        location: the chunk's own folder.
    """

    def __init__(self, store: ObjectStore, location: OffloadLocation) -> None:
        self._store = store
        self._location = location
        self._writer = uuid.uuid4().hex
        self._next = 0
        self._since_all = 0

    def load(self) -> ParkedRuns:
        """Return the runs that waited when the chunk's task last parked.

        Raises:
            ObjectDecodeError: an object is not what its name says.
            StorageError: raised by the store.
        """
        objects = self._objects()
        self._next = max((sequence for sequence, *_ in objects), default=-1) + 1
        last_all = max((number for number, named in enumerate(objects) if named[1] == "all"), default=0)
        needed = objects[last_all:]
        self._since_all = len(needed)
        runs: dict[RunKey, Any] = {}
        for _, _, count, info in needed:
            for line in self._read(info, count):
                key = RunKey(line.item, line.branch)
                if line.run is None:
                    runs.pop(key, None)
                else:
                    runs[key] = line.run
        return ParkedRuns(runs)

    def save(self, runs: ParkedRuns) -> None:
        """Write what has changed since the runs were loaded or last saved.

        Raises:
            ObjectDecodeError: a run is not a JSON value.
            StorageError: raised by the store; nothing is saved then.
        """
        if not runs.changed:
            return
        has_all = not self._since_all or self._since_all > _REWRITE_AFTER or not len(runs)
        lines = [_Line(*key, run) for key, run in (runs.all() if has_all else runs.changes()).items()]
        try:
            body = msgspec.json.Encoder().encode_lines(lines)
        except (UnicodeEncodeError, TypeError, ValueError, RecursionError, OverflowError) as error:
            raise ObjectDecodeError(f"A run that waits cannot be written as JSON: {error}") from error
        name = f"{self._next:06d}-{'all' if has_all else 'new'}-{len(lines)}-{self._writer}"
        pointer = self._location.pointer("parked", name, ending=".jsonl")
        self._store.write(pointer, body, content_type=JSON_LINES_TYPE)
        runs.set_kept()
        self._next += 1
        self._since_all = 1 if has_all else self._since_all + 1

    def _objects(self) -> list[tuple[int, str, int, ObjectInfo]]:
        """Return sequence, kind, number of lines and info of each object, in the order of writing."""
        prefix = f"{self._location.prefix}/parked/" if self._location.prefix else "parked/"
        try:
            infos = list(self._store.list(self._location.bucket, prefix))
        except ObjectNotFoundError:
            # Local folders create their buckets with the first object; S3 refuses the first part.
            return []
        found = [
            (int(match[1]), match[4], match[2], int(match[3]), info)
            for info in infos
            if (match := _NAME.fullmatch(info.pointer.key.removeprefix(prefix)))
        ]
        found.sort(key=itemgetter(0, 1))
        return [(sequence, kind, count, info) for sequence, _, kind, count, info in found]

    def _read(self, info: ObjectInfo, count: int) -> Iterator[_Line]:
        decode = msgspec.json.Decoder(_Line).decode
        if not count:
            return
        read = 0
        whole = ManifestRange.whole(info)
        with closing(
            read_line_batches(self._store, whole, max_line_bytes=_MAX_LINE_BYTES, block_bytes=_BLOCK_BYTES)
        ) as batches:
            for batch in batches:
                for line in batch.lines:
                    try:
                        yield decode(line)
                    except (msgspec.DecodeError, UnicodeDecodeError) as error:
                        raise ObjectDecodeError(
                            f"A line of {info.pointer} is not a run that waits: {error}."
                        ) from error
                    read += 1
        if read != count:
            raise ObjectDecodeError(
                f"{info.pointer} has {read} runs that wait, not the {count} that its name states."
            )
