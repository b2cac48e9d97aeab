"""``system/s3-list-files``: lists objects."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

from pydantic import Field

from airflow_allma.common.timestamps import iso_milliseconds
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.modules.definition import JsonInt, ModuleContext, ModuleInput
from airflow_allma.exceptions import StorageError
from airflow_allma.storage import ObjectInfo, Pointer

__all__ = ["S3ListFilesInput", "list_files"]


class S3ListFilesInput(ModuleInput):
    """Input of ``system/s3-list-files``; ``max_keys`` is the maximum number of files returned."""

    bucket: Annotated[str, Field(min_length=1)]
    prefix: str | None = None
    max_keys: Annotated[JsonInt, Field(gt=0)] | None = None


def list_files(inputs: S3ListFilesInput, context: ModuleContext) -> dict[str, Any]:
    """Return ``{"files": list, "fileCount": n}``, without empty objects such as folder markers.

    Raises:
        StepError: the bucket does not exist, access is denied, or the store did not respond.
    """
    store = context.require_store()
    try:
        objects = (info for info in store.list(inputs.bucket, inputs.prefix or "") if info.size)
        files = [_describe(info) for info in islice(objects, inputs.max_keys)]
    except StorageError as error:
        raise step_error_from(error) from error
    return {"files": files, "fileCount": len(files)}


def _describe(info: ObjectInfo) -> dict[str, Any]:
    pointer = Pointer(info.pointer.bucket, info.pointer.key)
    return {
        "key": pointer.key,
        "size": info.size,
        "lastModified": None if info.last_modified is None else iso_milliseconds(info.last_modified),
        "eTag": info.etag,
        "bucket": pointer.bucket,
        "content": pointer.wrap(),
    }
