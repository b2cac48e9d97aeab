"""JSON Lines objects with numbered names, split by size: ``failed-000000.jsonl``, ``failed-000001.jsonl``."""

from __future__ import annotations

import re
from typing import Any, Final

from airflow_allma.exceptions import ObjectNotFoundError
from airflow_allma.storage import ObjectStore, ObjectWriter
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.object_store import JSON_LINES_TYPE

__all__ = ["NumberedFiles"]

_WRITE_BYTES: Final = 256 << 10
_ENDING: Final = ".jsonl"


class NumberedFiles:
    """Writes lines to one file after the other; each appears when it is complete.

    Args:
        store: the store of the folder.
        folder: where the files are.
        name: what their names begin with; no user input.
        max_bytes: a file ends before it is larger, unless it has one line.
        max_lines: maximum lines of a file.

    Attributes:
        written: the complete files, in order: ``{"key", "lines", "bytes"}`` each.
    """

    def __init__(
        self, store: ObjectStore, folder: OffloadLocation, name: str, *, max_bytes: int, max_lines: int
    ) -> None:
        self._store = store
        self._folder = folder
        self._name = name
        self._max_bytes = max_bytes
        self._max_lines = max_lines
        self._writer: ObjectWriter | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._bytes = 0
        self._lines = 0
        self.written: list[dict[str, Any]] = []

    def add(self, line: bytes) -> None:
        """Add a line, without its line break.

        Raises:
            StorageError: the store refused.
        """
        size = len(line) + 1
        if self._lines and (self._bytes + size > self._max_bytes or self._lines >= self._max_lines):
            self.close()
        self._waiting.append(line)
        self._waiting_bytes += size
        self._bytes += size
        self._lines += 1
        if self._waiting_bytes >= _WRITE_BYTES:
            self._flush()

    def close(self) -> None:
        """Complete the last file, if it has lines.

        Raises:
            StorageError: the store refused.
        """
        if not self._lines:
            return
        writer = self._flush()
        self._writer = None
        writer.__exit__(None, None, None)
        self.written.append({"key": writer.pointer.key, "lines": self._lines, "bytes": self._bytes})
        self._bytes = self._lines = 0

    def abandon(self, error: BaseException) -> None:
        """Discard the file that is not complete."""
        writer, self._writer = self._writer, None
        self._waiting = []
        if writer is not None:
            writer.__exit__(type(error), error, error.__traceback__)

    def empty_others(self) -> None:
        """Empty the files that an earlier writer of the same folder left, and that were not written again.

        Raises:
            StorageError: the store refused.
        """
        prefix = f"{self._folder.prefix}/{self._name}-" if self._folder.prefix else f"{self._name}-"
        number = re.compile(re.escape(prefix) + rf"(\d{{6,}}){re.escape(_ENDING)}")
        try:
            for info in self._store.list(self._folder.bucket, prefix):
                match = number.fullmatch(info.pointer.key)
                if match is not None and int(match[1]) >= len(self.written) and info.size:
                    self._store.write(info.pointer, b"", content_type=JSON_LINES_TYPE)
        except ObjectNotFoundError:
            # The bucket is a local folder that does not exist yet.
            return

    def _flush(self) -> ObjectWriter:
        if self._writer is None:
            pointer = self._folder.pointer(f"{self._name}-{len(self.written):06}", ending=_ENDING)
            writer = self._store.open_writer(pointer, content_type=JSON_LINES_TYPE)
            writer.__enter__()
            self._writer = writer
        if self._waiting:
            self._waiting.append(b"")
            self._writer.write(b"\n".join(self._waiting))
            self._waiting, self._waiting_bytes = [], 0
        return self._writer
