"""Parquet objects of a store as files that pyarrow reads, and what pyarrow says about them as our errors."""

from __future__ import annotations

import importlib
import io
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from airflow_allma.common.printable import printable, shortened
from airflow_allma.exceptions import ObjectDecodeError, StorageConfigurationError, StorageError
from airflow_allma.storage import ManifestRange, ObjectStore

__all__ = ["ENCRYPTED_MAGIC", "MAGIC", "ObjectFile", "open_parquet", "optional_module", "parquet_errors"]

MAGIC: Final = b"PAR1"
ENCRYPTED_MAGIC: Final = b"PARE"
"""Of objects whose footer is encrypted, too."""

_MAX_FOOTER_BYTES: Final = 64 << 20
"""In memory a footer takes several times its size."""
_TAIL_BYTES: Final = 8
"""The length of the footer and the magic: the end of every Parquet file."""
_BLOCK_BYTES: Final = 1 << 20
_KEPT_BLOCKS: Final = 8
_DIRECT_BYTES: Final = _BLOCK_BYTES // 2
"""Reads of this size and more are passed on as they are."""
_BUFFERED_BYTES: Final = 32 << 20
"""What the buffers of all columns take together; each has one."""
_LEAST_BUFFER: Final = 4 << 10
_MAX_REASON: Final = 300


class ObjectFile(io.RawIOBase):
    """An object as a file with random access; every read is pinned to one content.

    Small reads take blocks that are kept: the columns of a small row group, or of a wide one, are near each
    other, and each request to a store takes time.

    Args:
        store: the store.
        lines: the object; its range does not matter.
    """

    def __init__(self, store: ObjectStore, lines: ManifestRange) -> None:
        super().__init__()
        self._store = store
        self._lines = lines
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self.error: StorageError | None = None
        """What a read raised; pyarrow can hide it."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, and return the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._lines.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes; to the end if it is negative or None."""
        end = self._lines.size if size is None or size < 0 else min(self._position + size, self._lines.size)
        data = self.read_range(self._position, end)
        self._position += len(data)
        return data

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer as far as possible; return how many bytes that are."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read_range(self, start: int, end: int) -> bytes:
        """Read bytes ``start`` to ``end``, without moving.

        Raises:
            StorageError: the store's own; it is kept as ``error``, too.
        """
        if start >= end:
            return b""
        try:
            if end - start >= _DIRECT_BYTES:
                return self._store.read(self._lines.pointer, start, end, if_match=self._lines.etag)
            first, last = start // _BLOCK_BYTES, (end - 1) // _BLOCK_BYTES
            data = b"".join(map(self._block, range(first, last + 1)))
        except StorageError as error:
            self.error = error
            raise
        return data[start - first * _BLOCK_BYTES : end - first * _BLOCK_BYTES]

    def _block(self, number: int) -> bytes:
        block = self._blocks.pop(number, None)
        if block is None:
            start = number * _BLOCK_BYTES
            end = min(start + _BLOCK_BYTES, self._lines.size)
            block = self._store.read(self._lines.pointer, start, end, if_match=self._lines.etag)
            while len(self._blocks) >= _KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks[number] = block
        return block


def optional_module(name: str, source: str) -> Any:
    """Import a module of pyarrow, which is an optional package.

    Args:
        name: the module.
        source: names the object in errors.

    Raises:
        StorageConfigurationError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise StorageConfigurationError(
            f"{source} is Parquet, which needs a package on the workers: "
            "pip install 'airflow-allma[parquet]'."
        ) from error


@contextmanager
def parquet_errors(file: ObjectFile, source: str, where: str = "") -> Iterator[None]:
    """Raise what pyarrow raises as an error of the object.

    Args:
        file: what pyarrow reads; errors of its store are raised as they are.
        source: names the object.
        where: the part that is read, which begins the message, such as ``Row group 3``.

    Raises:
        ObjectDecodeError: pyarrow cannot read it.
        StorageError: the store's own.
    """
    try:
        yield
    except (StorageError, MemoryError):
        raise
    except Exception as error:
        if file.error is not None:
            raise file.error from error
        part = f"{where} of {source}" if where else source
        reason = shortened(printable(" ".join(str(error).split())), _MAX_REASON).rstrip(".")
        if "crypt" in reason.lower():
            raise ObjectDecodeError(
                f"{part} is encrypted, and items are read without keys. Decrypt it, or name columns that "
                f"are not encrypted in itemReader.columns ({reason})."
            ) from error
        raise ObjectDecodeError(
            f"{part} cannot be read as Parquet: {reason}. Write the object again; pyarrow.parquet."
            "read_table shows the same error."
        ) from error


def open_parquet(file: ObjectFile, lines: ManifestRange, columns: int | None = None) -> Any:
    """Open an object as a ``pyarrow.parquet.ParquetFile`` that buffers little.

    Args:
        file: the object.
        lines: the same object, with its size.
        columns: how many are read; None: all. Their buffers share the memory.

    Raises:
        StorageConfigurationError: pyarrow is not installed.
        ObjectDecodeError: it is not Parquet, cut short, or encrypted, or its footer is too large.
        StorageError: the store's own.
    """
    source = str(lines.pointer)
    parquet = optional_module("pyarrow.parquet", source)
    _check_tail(file, source, lines.size)
    with parquet_errors(file, source, "The footer"):
        metadata = parquet.read_metadata(file)
        buffered = _BUFFERED_BYTES // max(columns or metadata.num_columns, 1)
        return parquet.ParquetFile(
            file,
            metadata=metadata,
            pre_buffer=False,
            # Without a buffer, a whole column of a row group is read at once.
            buffer_size=max(_LEAST_BUFFER, min(buffered, _BLOCK_BYTES)),
            # In nanoseconds, years before 1677 and after 2262 become others without an error.
            coerce_int96_timestamp_unit="us",
            page_checksum_verification=True,
        )


def _check_tail(file: ObjectFile, source: str, size: int) -> None:
    tail = file.read_range(max(0, size - _TAIL_BYTES), size)
    magic = tail[-len(MAGIC) :]
    if magic == ENCRYPTED_MAGIC:
        raise ObjectDecodeError(
            f"{source} is Parquet with an encrypted footer, and items are read without keys. Decrypt it."
        )
    if magic != MAGIC or size < len(MAGIC) + _TAIL_BYTES:
        if file.read_range(0, min(len(MAGIC), size)) == MAGIC:
            raise ObjectDecodeError(
                f"{source} is cut short: it begins as Parquet, but its {size} bytes do not end with a "
                "footer. Write or copy it again, completely."
            )
        raise ObjectDecodeError(
            f"{source} is not Parquet: its {size} bytes do not end with PAR1. Check the key, and "
            "itemReader.format."
        )
    length = int.from_bytes(tail[:4], "little")
    if length > size - len(MAGIC) - _TAIL_BYTES:
        raise ObjectDecodeError(
            f"{source} is not valid Parquet: its footer should have {length} bytes, but the object has "
            f"{size}. Write or copy it again, completely."
        )
    if length > _MAX_FOOTER_BYTES:
        raise ObjectDecodeError(
            f"The footer of {source} has {length} bytes; at most {_MAX_FOOTER_BYTES} are read. Write it "
            "with fewer row groups or columns, or as several objects."
        )
