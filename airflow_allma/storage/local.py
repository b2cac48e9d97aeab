"""Objects as files: bucket B is the folder B below a root.

Pointers made from ``file:///...`` URIs are served too if the file is below the root. Nothing outside the root
can be reached, neither by ``..`` nor through a symbolic link.

A file has no type, metadata or versions: types are guessed from the name. The ETag consists of size,
modification time and inode, so it changes with every write of this store (each makes a new file and renames
it over the old one) and with every rewrite in place that the file system's clock can tell apart.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from airflow_allma.exceptions import (
    ObjectAccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    StorageConfigurationError,
    StorageError,
    StorageUnavailableError,
)
from airflow_allma.storage.content_types import guess_type
from airflow_allma.storage.object_store import BLOCK_BYTES, ObjectInfo
from airflow_allma.storage.pointer import (
    FILE_BUCKET,
    MAX_KEY_BYTES,
    Pointer,
    check_local_segments,
    check_writable,
)
from airflow_allma.storage.writer_base import WriterBase

__all__ = ["LocalStore"]

_TEMPORARY: Final = ".allma-part-"
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_MISNAMED: Final = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP})


class LocalStore:
    """An ``ObjectStore`` over a folder.

    Args:
        root: the folder; the first write creates it if it does not exist.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root).absolute()

    @property
    def root(self) -> Path:
        """The folder of the buckets."""
        return self._root

    @property
    def description(self) -> str:
        """``folder '...'``."""
        return f"folder {str(self._root)!r}"

    def __repr__(self) -> str:
        return f"LocalStore({str(self._root)!r})"

    def head(self, pointer: Pointer) -> ObjectInfo:
        """Return what is known about a file."""
        with self._open(pointer) as file:
            return _info(pointer, os.fstat(file.fileno()))

    def read(
        self, pointer: Pointer, start: int = 0, end: int | None = None, *, if_match: str | None = None
    ) -> bytes:
        """Read a range of a file."""
        return b"".join(self.stream(pointer, start, end, if_match=if_match, block_bytes=1 << 24))

    def stream(
        self,
        pointer: Pointer,
        start: int = 0,
        end: int | None = None,
        *,
        if_match: str | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> Generator[bytes, None, None]:
        """Read a range of a file block by block."""
        with self._open(pointer) as file:
            self._check_etag(pointer, file, if_match)
            position = start
            file.seek(start)
            while end is None or position < end:
                wanted = block_bytes if end is None else min(block_bytes, end - position)
                with self._errors(pointer):
                    block = file.read(wanted)
                # Only this check detects a writer that changes the file in place instead of replacing it.
                self._check_etag(pointer, file, if_match)
                if not block:
                    return
                position += len(block)
                yield block

    def write(
        self,
        pointer: Pointer,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """Write a whole file; type and metadata are not kept."""
        del metadata
        with self.open_writer(pointer, content_type=content_type) as writer:
            writer.write(data)
        return writer.info

    def open_writer(
        self,
        pointer: Pointer,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> LocalWriter:
        """Write a file block by block; type and metadata are not kept."""
        del content_type, metadata
        check_writable(pointer)
        return LocalWriter(pointer, self._path(pointer), partial(self._errors, pointer))

    def list(self, bucket: str, prefix: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        """List the files of a bucket's folder, in the order of their keys."""
        base = self._bucket_folder(bucket)
        folder, _, _ = prefix.rpartition("/")
        if folder:
            check_local_segments(folder)
        if bucket != FILE_BUCKET and not base.is_dir():
            raise ObjectNotFoundError(
                f"Bucket {bucket!r} does not exist in {self.description}: {base} is not a folder."
            )
        return self._listed(bucket, base, folder, prefix, limit)

    def _listed(
        self, bucket: str, base: Path, folder: str, prefix: str, limit: int | None
    ) -> Iterator[ObjectInfo]:
        walk = _walk(base / folder, f"{folder}/" if folder else "", prefix)
        count = 0
        while limit is None or count < limit:
            with self._errors(Pointer(bucket, prefix.rstrip("/") or "*")):
                key, path = next(walk, (None, base))
            if key is None:
                return
            if not path.resolve().is_relative_to(self._root.resolve()):
                continue
            # A file can be removed between its listing and its stat, as in any store.
            with contextlib.suppress(FileNotFoundError):
                yield _info(Pointer(bucket, key), path.stat())
                count += 1

    def _bucket_folder(self, bucket: str) -> Path:
        if bucket == FILE_BUCKET:
            return Path("/")
        check_local_segments(bucket)
        if "/" in bucket:
            raise StorageConfigurationError(f"{self.description} cannot hold a bucket named {bucket!r}.")
        return self._root / bucket

    def _path(self, pointer: Pointer) -> Path:
        """Return a pointer's file, after a check that it is below the root when links are followed."""
        if pointer.version_id is not None:
            raise ObjectNotFoundError(
                f"{pointer}: {self.description} does not keep versions. Remove versionId from the pointer."
            )
        check_local_segments(pointer.key)
        if any(segment.startswith(_TEMPORARY) for segment in pointer.key.split("/")):
            raise StorageConfigurationError(
                f"{pointer}: names that start with {_TEMPORARY!r} are reserved. Use another name."
            )
        path = self._bucket_folder(pointer.bucket) / pointer.key
        with self._errors(pointer):
            if not path.resolve().is_relative_to(self._root.resolve()):
                raise StorageConfigurationError(
                    f"{pointer} is outside of {self.description}, the only local folder that can be used. "
                    "Move the object there, or use a folder around it as the store or offload location."
                )
        return path

    @contextlib.contextmanager
    def _errors(self, pointer: Pointer) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _error(pointer, self.description, error) from error

    def _open(self, pointer: Pointer) -> BinaryIO:
        path = self._path(pointer)
        with self._errors(pointer):
            # A buffer would copy every block once more.
            return path.open("rb", buffering=0)

    def _check_etag(self, pointer: Pointer, file: BinaryIO, if_match: str | None) -> None:
        if if_match is None:
            return
        etag = _etag(os.fstat(file.fileno()))
        if etag != if_match:
            raise ObjectChangedError(
                f"{pointer} in {self.description} has changed: its ETag is {etag}, {if_match} was planned."
            )


class LocalWriter(WriterBase):
    """Writes to a temporary file next to the target, and renames it at the end.

    Args:
        pointer: the object.
        target: its file.
        errors: a context that turns an ``OSError`` into a storage error about the object.
    """

    def __init__(
        self, pointer: Pointer, target: Path, errors: Callable[[], contextlib.AbstractContextManager[None]]
    ) -> None:
        super().__init__(pointer)
        self._target = target
        self._errors = errors
        self._temporary = self._target.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        """Append bytes."""
        if self._file is None:
            raise self._not_open()
        with self._errors():
            self._file.write(data)
        self._position += len(data)

    def __enter__(self) -> Self:
        with self._errors():
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("xb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with self._errors():
                self._finish(file, keep=kind is None)
        finally:
            with contextlib.suppress(OSError):
                file.close()
            self._temporary.unlink(missing_ok=True)

    def _finish(self, file: BinaryIO, *, keep: bool) -> None:
        if not keep:
            return
        file.flush()
        os.fsync(file.fileno())
        self._info = _info(self._pointer, os.fstat(file.fileno()))
        file.close()
        self._temporary.replace(self._target)
        folder = os.open(self._target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _walk(folder: Path, above: str, prefix: str) -> Iterator[tuple[str, Path]]:
    """Yield the files below a folder that match ``prefix``, in the byte order of their keys.

    Keys of the folder start with ``above``.
    """
    try:
        with os.scandir(folder) as scan:
            entries = [(entry.name, entry.is_dir(), Path(entry.path)) for entry in scan]
    except (FileNotFoundError, NotADirectoryError):
        return
    # "a/b" sorts after "a-b" as a key, but "a" before "a-b" as a name.
    entries.sort(key=lambda entry: os.fsencode(entry[0] + ("/" if entry[1] else "")))
    for name, is_folder, path in entries:
        key = above + name
        if is_folder:
            inside = f"{key}/"
            # Links to folders are not followed: they could lead in circles.
            if not (inside.startswith(prefix) or prefix.startswith(inside)) or path.is_symlink():
                continue
            if len(key) > MAX_KEY_BYTES:
                # What is in it cannot be an object: the error about its key is better than endless depth.
                yield key, path
            else:
                yield from _walk(path, inside, prefix)
        elif key.startswith(prefix) and not name.startswith(_TEMPORARY) and path.is_file():
            yield key, path


def _etag(status: os.stat_result) -> str:
    return f'"{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ino:x}"'


def _info(pointer: Pointer, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(
        pointer=pointer,
        size=status.st_size,
        etag=_etag(status),
        content_type=guess_type(pointer.key),
        last_modified=datetime.fromtimestamp(status.st_mtime, UTC),
    )


def _error(pointer: Pointer, description: str, error: OSError) -> StorageError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _MISSING:
        return ObjectNotFoundError(f"{pointer} does not exist in {description} ({reason}).")
    if error.errno in _DENIED:
        return ObjectAccessDeniedError(
            f"{pointer} in {description}: {reason}. Check the owner and mode of the file and its folders."
        )
    if error.errno in _MISNAMED:
        return StorageConfigurationError(f"{pointer} cannot be a file in {description}: {reason}.")
    return StorageUnavailableError(f"{pointer} in {description}: {reason}.")
