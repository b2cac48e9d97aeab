"""The files that an e-mail attaches: objects of the store, bounded in size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.mail.addresses import check_header_value
from airflow_allma.engine.mail.message import Attachment
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.storage import ObjectStore, Pointer

__all__ = ["AttachedFile", "parse_attachments", "read_attachments"]

MAX_ATTACHMENT_BYTES: Final = 7 << 20
"""Maximum size of all attachments of an e-mail together."""

_MAX_FILES: Final = 100
_MAX_NAME: Final = 255
_DEFAULT_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """An object to attach.

    Attributes:
        filename: the name that the recipient sees.
        pointer: the object.
    """

    filename: str
    pointer: Pointer

    def as_json(self) -> dict[str, Any]:
        """Return ``{"filename", "s3Pointer"}``."""
        return {"filename": self.filename, "s3Pointer": self.pointer.inner()}


def parse_attachments(value: Any) -> list[AttachedFile]:
    """Return the files of a list of ``{"filename", "s3Pointer": {"bucket", "key"}}``; None means none.

    Raises:
        PermanentStepError: it has another form, or a name cannot be sent.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise PermanentStepError("The attachments must be a list of {filename, s3Pointer}.")
    if len(value) > _MAX_FILES:
        raise PermanentStepError(
            f"The e-mail has {len(value)} attachments; at most {_MAX_FILES} can be sent."
        )
    return [_file(member, f"attachments[{index}]") for index, member in enumerate(value)]


def _file(member: Any, field: str) -> AttachedFile:
    filename = member.get("filename") if isinstance(member, dict) else None
    pointer = member.get("s3Pointer") if isinstance(member, dict) else None
    if not isinstance(filename, str) or not filename.strip() or not isinstance(pointer, dict):
        raise PermanentStepError(
            f"`{field}` must be {{filename, s3Pointer}}, with a pointer {{bucket, key}}."
        )
    check_header_value(filename, f"{field}.filename")
    # Readers save files under this name: it must not lead to another folder.
    name = filename.replace("\\", "/").rpartition("/")[2].strip()
    if not name.strip(".") or len(name) > _MAX_NAME:
        raise PermanentStepError(f"`{field}.filename` {filename[:80]!r} is not the name of a file.")
    try:
        return AttachedFile(name, Pointer.parse(pointer) or Pointer.from_inner(pointer))
    except StorageError as error:
        raise PermanentStepError(f"`{field}.s3Pointer`: {error}") from error


def read_attachments(files: Sequence[AttachedFile], store: ObjectStore | None) -> tuple[Attachment, ...]:
    """Read the files; blocks.

    Raises:
        StepError: one is missing, empty or cannot be read, or they are too large together.
    """
    if not files:
        return ()
    if store is None:
        raise PermanentStepError(
            "This step attaches files, but no store is configured. Set an AWS connection, or pass --store."
        )
    try:
        infos = [store.head(file.pointer) for file in files]
        total = sum(info.size for info in infos)
        if total > MAX_ATTACHMENT_BYTES:
            raise PermanentStepError(
                f"The attachments have {total} bytes together; at most {MAX_ATTACHMENT_BYTES} can be sent. "
                "Send a link to the files instead.",
                details={"bytes": total},
            )
        read = []
        for file, info in zip(files, infos, strict=True):
            if info.size == 0:
                raise PermanentStepError(f"The attachment {file.pointer} is empty.")
            data = store.read(file.pointer, 0, info.size, if_match=info.etag)
            read.append(Attachment(file.filename, info.content_type or _DEFAULT_TYPE, data))
    except StorageError as error:
        raise step_error_from(error) from error
    return tuple(read)
