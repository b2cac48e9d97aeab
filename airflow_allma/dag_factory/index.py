"""Which files name a flow, remembered between processes, so that a task's process reads only those.

A task runs in a process of its own, which needs one flow and knows its id, not its file. Whichever file holds
it, and whether another one holds a newer version, is in the files alone. So they are listed and looked at
each time, but read only where their size or times differ from those at which the index read them.

The index says where to look, never what is there: files are read and checked as they are now. It lies in a
folder of the system's temporary one that only this user may enter; without such a folder, there is no index.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
import time
from codecs import BOM_UTF8
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from airflow_allma import __version__
from airflow_allma.dag_factory.names import safe_dag_id
from airflow_allma.flow import FoundFile
from airflow_allma.flow.documents import MAX_FILE_BYTES

__all__ = ["files_that_name"]

_LOG: Final = logging.getLogger("airflow_allma.loader")


class _Entry(msgspec.Struct, array_like=True):
    stamp: tuple[int, int, int, int]
    dag_ids: list[str]


class _Index(msgspec.Struct):
    version: str
    files: dict[str, _Entry]


class _Named(msgspec.Struct):
    """What of a file tells which flows it names; everything else is passed over."""

    id: Any = None
    flows: Any = None


def files_that_name(dag_id: str, place: Path, found: Sequence[FoundFile]) -> tuple[FoundFile, ...]:
    """Those files that name a flow with this Dag id.

    Args:
        dag_id: the id of the flow's Dag.
        place: the folder that was looked through; each has its own index.
        found: everything that lies in it now.
    """
    now = time.time_ns()
    file = _index_file(place)
    known = _read(file) if file else {}
    current: dict[str, _Entry] = {}
    naming = []
    for one in found:
        if one.stamp is None:
            continue
        entry = known.get(one.path)
        if entry is None or entry.stamp != one.stamp:
            entry = _Entry(one.stamp, _dag_ids(one.path))
        if one.stamp.is_settled(now):
            current[one.path] = entry
        if dag_id in entry.dag_ids:
            naming.append(one)
    if file and current != known:
        _write(file, current)
    return tuple(naming)


def _dag_ids(path: str) -> list[str]:
    """The Dag ids of all flows that a file names, sound or not."""
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            return []
        named = msgspec.json.decode(data.removeprefix(BOM_UTF8), type=_Named)
    except (OSError, ValueError, RecursionError):
        # It is told of when all files are loaded; a file that cannot be read makes no Dag.
        return []
    flows = named.flows if isinstance(named.flows, list) else []
    ids = [named.id, *(flow.get("id") for flow in flows if isinstance(flow, dict))]
    return sorted({safe_dag_id(one) for one in ids if isinstance(one, str)})


def _index_file(place: Path) -> Path | None:
    """Where the index of a folder lies; None if there is no place that is ours alone."""
    folder = Path(tempfile.gettempdir(), f"airflow-allma-{os.geteuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        _LOG.warning("%s is not a folder that only this user may enter: flow files are not indexed.", folder)
        return None
    name = hashlib.sha256(os.fsencode(place.absolute())).hexdigest()[:32]
    return folder / f"{name}.json"


def _read(file: Path) -> dict[str, _Entry]:
    try:
        index = msgspec.json.decode(file.read_bytes(), type=_Index)
    except (OSError, ValueError):
        # There is none yet, or another version wrote another form of it: files are read instead.
        return {}
    return index.files if index.version == __version__ else {}


def _write(file: Path, files: dict[str, _Entry]) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent)
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(msgspec.json.encode(_Index(__version__, files)))
        fresh.replace(file)
    except OSError as error:
        _LOG.debug("The index of flow files is not written: %s", error)
        fresh.unlink(missing_ok=True)
