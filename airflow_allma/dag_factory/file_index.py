"""An index of the files that a flow needs, kept between processes, so that a task's process reads only those.

A task runs in a process of its own, which needs one flow and knows its id, not its file. Only the files
themselves show which of them defines it, which agents name it, which files define what it uses, and whether
another one defines a newer version. So all are listed, but read only where their size or times differ from
those at which the index read them. When many tasks start one after the other, one in five seconds lists the
files; the Dag processor does so every thirty.

The index only says where to look: the flow's files themselves are always read and checked. The index
is in a folder below the system's temporary one that only this user can enter; without it, nothing is indexed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import tempfile
import time
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

from airflow_allma.flow import FoundFile, FoundFiles, Stamp, found_file, safe_dag_id
from airflow_allma.flow.artifacts import ArtifactKind, needs_of
from airflow_allma.flow.documents import MAX_FILE_BYTES
from airflow_allma.flow.file_contents import PROMPT_SUFFIX

__all__ = ["LOOK_AGAIN_NANOSECONDS", "files_that_name", "needs_of_file", "recently_named"]

_LOG: Final = logging.getLogger("airflow_allma.loader")

LOOK_AGAIN_NANOSECONDS: Final = 5_000_000_000
"""How long the index is used without listing the files; a flow that moved is found after that."""

_VERSION: Final = "4"
"""To be increased when the format of the index or of its ids changes."""


_NEEDS: Final = {
    b"stepDefinitionId": ArtifactKind.STEP_DEFINITION,
    b"promptTemplateId": ArtifactKind.PROMPT,
    b"mcpConnectionId": ArtifactKind.CONNECTION,
}
_NEED: Final = re.compile(rb'"(%s)"\s*+:\s*+("(?:[^"\\]|\\.)*+")' % b"|".join(_NEEDS), re.DOTALL)


_MAIL_START: Final = re.compile(rb"email[-_]start[-_]point", re.IGNORECASE)
_MAIL_STARTS: Final = "mail:starts"
"""What the files with an EMAIL_START_POINT define and need, in the form of an artifact."""


class _Entry(msgspec.Struct, array_like=True, gc=False):
    """What a file says: the Dag ids that it names, and what it defines and needs, as ``kind:id``."""

    stamp: tuple[int, int, int, int]
    dag_ids: list[str]
    defines: list[str] = []
    needs: list[str] = []


class _Index(msgspec.Struct):
    version: str
    naming: dict[str, list[str]]
    """Dag id, or ``kind:id`` -> the files that it needed when the files were last listed."""
    files: msgspec.Raw
    """Path -> entry, for files whose times can be trusted; decoded only when the files are listed again."""


class _Named(msgspec.Struct, rename="camel"):
    """The part of a file that names something; everything else is skipped."""

    id: Any = None
    flows: Any = None
    agents: Any = None
    step_definitions: Any = None
    prompt_templates: Any = None
    mcp_connections: Any = None


def recently_named(key: str, folder: Path) -> tuple[FoundFile, ...] | None:
    """Return the files that a flow with this Dag id needed when the folder was listed a moment ago.

    Args:
        key: the Dag id, or something that ``needs_of_file`` returned.
        folder: the folder.

    Returns:
        The files with their present state; None if the folder was not listed recently.
    """
    file = _index_file(folder)
    if file is None or not 0 <= time.time_ns() - _listed_at(file) < LOOK_AGAIN_NANOSECONDS:
        return None
    index = _read(file)
    return None if index is None else tuple(found_file(_path(stored)) for stored in index.naming.get(key, ()))


def files_that_name(key: str, folder: Path, find: Callable[[], FoundFiles]) -> tuple[FoundFile, ...]:
    """Return the files that name a flow with this Dag id, and those that define what it uses.

    Args:
        key: the id of the flow's Dag, or something that ``needs_of_file`` returned.
        folder: the folder; each has its own index.
        find: finds all files that are in it now.
    """
    now = time.time_ns()
    files = find().files
    file = _index_file(folder)
    known = _entries(_read(file)) if file else {}
    changed: dict[str, _Entry] = {}
    entries: dict[str, _Entry] = {}
    for path, stamp in files:
        if stamp is None:
            continue
        entry = known.get(_stored(path))
        if entry is None or entry.stamp != stamp:
            entry = changed[path] = _Entry(stamp, *_names_in(path))
        entries[path] = entry
    if file and (changed or len(entries) < len(known)):
        _write(file, entries, now)
    elif file:
        _mark_listed(file, now)
    needed = _Needed(entries).files_of(key)
    return tuple(flow_file for flow_file in files if flow_file.path in needed)


def needs_of_file(path: str) -> list[str]:
    """Return what the flows of a file use, as ``kind:id``; other folders can define it, too."""
    return _names_in(path)[2]


class _Needed:
    """Finds the files of a flow.

    Args:
        entries: path -> what the file says.
    """

    def __init__(self, entries: Mapping[str, _Entry]) -> None:
        self._entries = entries

    @cached_property
    def _defining(self) -> Mapping[str, list[str]]:
        defining: dict[str, list[str]] = {}
        for path, entry in self._entries.items():
            for defined in entry.defines:
                defining.setdefault(defined, []).append(path)
        return defining

    def files_of(self, key: str) -> set[str]:
        """Return the files that name a Dag id or define ``kind:id``, with those that they need."""
        return self.with_needs(
            path for path, entry in self._entries.items() if key in entry.dag_ids or key in entry.defines
        )

    def with_needs(self, paths: Iterable[str]) -> set[str]:
        """Return files, those that define what they use, and so on."""
        found: set[str] = set()
        waiting = list(paths)
        while waiting:
            path = waiting.pop()
            if path not in found:
                found.add(path)
                for need in self._entries[path].needs:
                    waiting += self._defining.get(need, ())
        return found


def _names_in(path: str) -> tuple[list[str], list[str], list[str]]:
    """Return what a file says, valid or not: the Dag ids that it names, what it defines and needs."""
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1).removeprefix(BOM_UTF8)
        if len(data) > MAX_FILE_BYTES:
            return [], [], []
        named = msgspec.json.decode(data, type=_Named)
        needs = sorted(set(_needs(data)))
    except (OSError, ValueError, RecursionError):
        # Reported when all files are loaded; a file that cannot be read defines no Dag.
        return [], [], []
    flow_ids = [named.id, *_members(named.flows, "id")]
    for listed in _members(named.agents, "flowIds"):
        flow_ids += listed if isinstance(listed, list) else []
    defined = {
        f"{kind.value}:{own_id}"
        for kind, artifacts in (
            (ArtifactKind.STEP_DEFINITION, named.step_definitions),
            (ArtifactKind.PROMPT, named.prompt_templates),
            (ArtifactKind.CONNECTION, named.mcp_connections),
        )
        for own_id in _members(artifacts, "id")
        if isinstance(own_id, str)
    }
    if _MAIL_START.search(data):
        # An e-mail starts the flow whose keyword fits best: each of these flows must know the others.
        defined.add(_MAIL_STARTS)
        needs.append(_MAIL_STARTS)
    if path.endswith(PROMPT_SUFFIX) and isinstance(named.id, str):
        defined.add(f"{ArtifactKind.PROMPT.value}:{named.id}")
    dag_ids = {safe_dag_id(flow_id) for flow_id in flow_ids if isinstance(flow_id, str)}
    return sorted(dag_ids), sorted(defined), needs


def _members(listed: Any, name: str) -> Iterator[Any]:
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict):
            yield one.get(name)


def _needs(data: bytes) -> Iterator[str]:
    if b"\\u" in data:
        # A key can be written with escapes.
        yield from (f"{kind.value}:{own_id}" for kind, own_id in needs_of(msgspec.json.decode(data)))
        return
    if not any(field in data for field in _NEEDS):
        return
    for match in _NEED.finditer(data):
        try:
            yield f"{_NEEDS[match[1]].value}:{msgspec.json.decode(match[2], type=str)}"
        except ValueError:
            continue


def _index_file(folder: Path) -> Path | None:
    """Return where the index of a folder is; None if no folder belongs to this user alone."""
    home = Path(tempfile.gettempdir(), f"airflow-allma-{os.geteuid()}")
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        status = home.lstat()
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        _LOG.warning("Flow files are not indexed: %s is not a folder that only this user can enter.", home)
        return None
    name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:32]
    return home / f"{name}.json"


def _read(file: Path) -> _Index | None:
    try:
        index = msgspec.json.decode(file.read_bytes(), type=_Index)
    except (OSError, ValueError):
        # It does not exist yet, or another version wrote another format: the files are read instead.
        return None
    return index if index.version == _VERSION else None


def _entries(index: _Index | None) -> dict[str, _Entry]:
    try:
        return msgspec.json.decode(index.files, type=dict[str, _Entry]) if index else {}
    except ValueError:
        return {}


def _write(file: Path, entries: dict[str, _Entry], now: int) -> None:
    named: dict[str, list[str]] = {}
    for path, entry in entries.items():
        for key in (*entry.dag_ids, *entry.defines):
            named.setdefault(key, []).append(path)
    needed = _Needed(entries)
    naming = {key: sorted(map(_stored, needed.with_needs(paths))) for key, paths in named.items()}
    settled = {_stored(path): entry for path, entry in entries.items() if Stamp(*entry.stamp).is_settled(now)}
    index = _Index(_VERSION, naming, msgspec.Raw(msgspec.json.encode(settled)))
    handle, name = tempfile.mkstemp(dir=file.parent)
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(msgspec.json.encode(index))
        _mark_listed(fresh, now)
        fresh.replace(file)
    except OSError as error:
        _LOG.debug("The index of flow files cannot be written: %s", error)
        fresh.unlink(missing_ok=True)


def _stored(path: str) -> str:
    """Return a path as the index has it: one character a byte, as a file's name need not be UTF-8."""
    return path if path.isascii() else os.fsencode(path).decode("latin-1")


def _path(stored: str) -> str:
    return stored if stored.isascii() else os.fsdecode(stored.encode("latin-1"))


def _mark_listed(file: Path, now: int) -> None:
    """Set the index's own time to when the files were listed; rewriting it each time would take longer."""
    try:
        os.utime(file, ns=(now, now))
    except OSError as error:
        _LOG.debug("The time of the index of flow files cannot be set: %s", error)


def _listed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
