"""The results of a chunk as an object: one JSON Lines part a chunk, one line a branch run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from airflow_allma.exceptions import ObjectNotFoundError
from airflow_allma.storage.decoding import decode_line
from airflow_allma.storage.jsonl import read_lines

if TYPE_CHECKING:
    from airflow_allma.engine import BranchResult
    from airflow_allma.storage import ObjectStore, Pointer

__all__ = ["read_part", "write_part"]


def write_part(store: ObjectStore, part: Pointer, results: Iterable[BranchResult]) -> None:
    """Write the results of a chunk, all of them or, when this raises, none.

    Raises:
        StorageError: the store refused.
    """
    with store.open_writer(part, content_type="application/x-ndjson") as writer:
        for result in results:
            writer.write(msgspec.json.encode(result) + b"\n")


def read_part(store: ObjectStore, part: Pointer) -> Iterator[BranchResult]:
    """The results that were written; nothing when the part does not exist.

    Raises:
        StorageError: the store refused.
    """
    from airflow_allma.engine import BranchResult

    try:
        for line in read_lines(store, part):
            yield BranchResult.from_dict(decode_line(line.data, line.offset, str(part)))
    except ObjectNotFoundError:
        return
