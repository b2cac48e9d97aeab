"""The stores that pages read: one for each connection and location, kept, with a short time limit."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from airflow_allma.configuration import load_server_settings
from airflow_allma.exceptions import StorageError
from airflow_allma.flow import Flow
from airflow_allma.inspection.object_cache import ObjectCache
from airflow_allma.operators.airflow_services import AirflowAws
from airflow_allma.storage import ObjectStore, OffloadLocation, Pointer
from airflow_allma.storage.backoff import Backoff
from airflow_allma.storage.opening import open_store

__all__ = ["OpenStore", "Stores"]

_KEPT: Final = 4
"""Each with the memory of its cache; most deployments have one store."""
_CACHE_BYTES: Final = 32 << 20
_KEPT_SECONDS: Final = 600.0
"""A connection that was changed is used after this time."""

_REQUEST_SECONDS: Final = 8.0
"""A page that takes longer has no reader any more."""
_BACKOFF: Final = Backoff(attempts=2, first_seconds=0.1, max_seconds=0.5)


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A store, and where in it the tasks of a flow have written.

    Attributes:
        store: the store.
        location: the offload location; None if results are not stored.
        cache: what was read from it before.
    """

    store: ObjectStore
    location: OffloadLocation | None
    cache: ObjectCache = field(default_factory=lambda: ObjectCache(_CACHE_BYTES))

    def run_folder(self, dag_id: str, run_id: str) -> OffloadLocation | None:
        """Return the folder of a run; None if results are not stored."""
        return None if self.location is None else self.location.below(dag_id, run_id)

    def own_pointer(self, pointer: object, dag_id: str, run_id: str) -> Pointer:
        """Return the pointer of an object that the run itself has stored.

        Raises:
            StorageError: it is something else: XComs can be written by users, too.
        """
        parsed, folder = Pointer.parse(pointer), self.run_folder(dag_id, run_id)
        if (
            parsed is None
            or folder is None
            or parsed.bucket != folder.bucket
            or not parsed.key.startswith(f"{folder.prefix}/")
        ):
            raise StorageError(
                "What the run has stored is not below the offload location that the API server knows. Set "
                "[allma] offload_location there as for the workers."
            )
        return parsed


class Stores:
    """Opens stores as tasks do, and keeps them: making a client takes a second. Safe to share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, str], tuple[float, OpenStore]] = OrderedDict()

    def of_flow(self, flow: Flow) -> OpenStore:
        """Return the store that the tasks of a flow write to.

        Raises:
            StorageConfigurationError: the offload location is not one.
        """
        settings = load_server_settings(flow.airflow)
        key = (settings.aws_conn_id, settings.results_location)
        now = time.monotonic()
        with self._lock:
            made_at, found = self._open.get(key, (0.0, None))
            if found is not None and now < made_at + _KEPT_SECONDS:
                self._open.move_to_end(key)
                return found
            location = OffloadLocation.from_setting(settings.results_location)
            # This makes no request, nor a client.
            aws = AirflowAws(settings.aws_conn_id, request_seconds=_REQUEST_SECONDS)
            opened = OpenStore(open_store(aws, location, backoff=_BACKOFF), location)
            self._open[key] = (now, opened)
            if len(self._open) > _KEPT:
                self._open.popitem(last=False)
            return opened
