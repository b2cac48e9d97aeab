"""Opens the store that settings describe: S3, and the one local folder that flows can use."""

from __future__ import annotations

from airflow_allma.common.aws_clients import AwsClients
from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.local import LocalStore
from airflow_allma.storage.object_store import ObjectStore
from airflow_allma.storage.pointer import file_path, split_uri
from airflow_allma.storage.routed import RoutedStore
from airflow_allma.storage.s3 import S3Store

__all__ = ["open_folder", "open_store"]


def open_store(
    clients: AwsClients, location: OffloadLocation | None, *, backoff: Backoff | None = None
) -> ObjectStore:
    """Return S3 through the clients and, when the offload location is a local folder, that folder.

    This makes no request: credential errors are raised by the first call.

    Args:
        clients: the source of boto3 clients.
        location: the offload location.
        backoff: how often and how fast to retry; None: as a task does.
    """
    folder = location.folder if location is not None else None
    return RoutedStore(S3Store(clients, backoff=backoff), LocalStore(folder) if folder is not None else None)


def open_folder(uri: str) -> LocalStore:
    """Return the folder of a ``file:///folder`` URI, which is percent-decoded.

    Raises:
        StorageConfigurationError: the URI does not have that form.
    """
    folder = file_path(*split_uri(uri))
    if folder is None:
        raise StorageConfigurationError(
            f"{uri!r} is not a local folder. Write file:///folder (three slashes)."
        )
    return LocalStore(folder)
