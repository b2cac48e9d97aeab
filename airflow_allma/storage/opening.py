"""Opening the store that settings describe: S3, and the one local folder that may be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.local import LocalStore
from airflow_allma.storage.pointers import file_path, split_uri
from airflow_allma.storage.routed import RoutedStore

if TYPE_CHECKING:
    from airflow_allma.common.aws_clients import AwsClients
    from airflow_allma.storage.base import ObjectStore

__all__ = ["open_folder", "open_store"]


def open_store(clients: AwsClients, location: OffloadLocation | None) -> ObjectStore:
    """Return S3 through the clients and, when the offload location is a local folder, that folder.

    Opens no connection: errors of credentials come with the first call.
    """
    from airflow_allma.storage.s3 import S3Store

    folder = location.folder if location is not None else None
    return RoutedStore(S3Store(clients), LocalStore(folder) if folder is not None else None)


def open_folder(uri: str) -> LocalStore:
    """Return the folder of a ``file:///folder`` URI, which is percent-decoded.

    Raises:
        StorageConfigurationError: the URI is not of that form.
    """
    bucket, key = split_uri(uri)
    folder = file_path(bucket, key)
    if folder is None:
        raise StorageConfigurationError(f"{uri!r} is not a folder. Write file:///folder (three slashes).")
    return LocalStore(folder)
