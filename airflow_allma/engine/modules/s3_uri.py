"""The URI of an object, as a type of module inputs."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from airflow_allma.exceptions import StorageError
from airflow_allma.storage import Pointer

__all__ = ["ObjectUri"]


def _validate_object_uri(uri: str) -> str:
    try:
        Pointer.from_uri(uri)
    except StorageError as error:
        # The sentence goes on after it.
        raise ValueError(f"is not the URI of an object: {str(error).removesuffix('.')}") from error
    return uri


ObjectUri = Annotated[str, AfterValidator(_validate_object_uri)]
"""A string such as ``s3://bucket/key``."""
