"""AWS in this process: a moto server on a free loopback port, and boto3 clients for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from airflow_allma.common.aws_clients import ClientCache

REGION = "eu-central-1"

# Shared by all clients: a new session parses the service descriptions again, which takes half a second.
_session = boto3.Session()
_session_lock = threading.Lock()  # a session must not make two clients at once


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """The URL of a running moto server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class EndpointClients:
    """A client provider for a server that does not check credentials; ``made`` has all created clients.

    Args:
        endpoint: the URL of the server.
        services: URLs of other servers, by service.
        config: options of all clients.
    """

    connection = "test connection 'moto'"

    def __init__(self, endpoint: str, services: Mapping[str, str] | None = None, **config: Any) -> None:
        self.endpoint = endpoint
        self._services = services or {}
        self.made: list[tuple[str, str | None]] = []
        self._clients = ClientCache(self._make)
        self._config = Config(
            retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=30, **config
        )

    def client(self, service: str, region: str | None = None, *, retries: bool = True) -> Any:
        return self._clients.get(service, region, retries=retries)

    def _make(self, service: str, region: str | None, retries: bool) -> Any:
        self.made.append((service, region))
        with _session_lock:
            return _session.client(
                service,
                region_name=region or REGION,
                endpoint_url=self._services.get(service, self.endpoint),
                aws_access_key_id="testing",
                aws_secret_access_key="testing",
                config=self._config,
            )
