"""boto3 clients: the protocol of their sources, their cache, and those with the environment's credentials."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from airflow_allma.common.aws_calls import watch_client
from airflow_allma.exceptions import StorageConfigurationError

if TYPE_CHECKING:
    from botocore.config import Config

__all__ = ["MAX_CONNECTIONS", "AwsClients", "ClientCache", "EnvironmentAws", "client_config"]

MAX_CONNECTIONS: Final = 64
"""Connections that a client keeps open, if nothing else is configured: all threads of a process share it."""

# The region can come from data, such as the ARN of a topic: clients of made-up ones must not pile up.
_MAX_CLIENTS: Final = 64

# By default boto3 waits one minute for a reply. The longest run of a function takes 15 minutes; a model that
# thinks long before it answers takes several.
_REPLY_SECONDS: Final[Mapping[str, int]] = {"bedrock-runtime": 600, "lambda": 910}


@runtime_checkable
class AwsClients(Protocol):
    """A source of boto3 clients that knows the origin of their credentials."""

    @property
    def connection(self) -> str:
        """The name of the credentials in errors, such as ``Airflow connection 'aws_default'``."""

    def client(self, service: str, region: str | None = None, *, retries: bool = True) -> Any:
        """Return a boto3 client, safe to share between threads; equal arguments return the same client.

        Args:
            service: boto3's name of the service, such as ``dynamodb``.
            region: an AWS region; None = the connection's own.
            retries: whether the client retries as the connection or the environment configures. False is for
                callers that retry themselves: each call then makes one request, so that the attempts of
                both do not multiply.

        Raises:
            StorageConfigurationError: the credentials do not exist, or are incomplete.
        """


class ClientCache:
    """One client for each set of arguments of ``AwsClients.client``. Safe to share between threads.

    Of more than 64 clients the oldest are made again when they are needed. The clients report their calls to
    ``aws_calls.observed``.

    Args:
        make: makes a client of a service and region, with or without retries; never called by two threads at
            once, since one boto3 session cannot make clients in two threads.
    """

    def __init__(self, make: Callable[[str, str | None, bool], Any]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str | None, bool], Any] = {}

    def get(self, service: str, region: str | None, *, retries: bool) -> Any:
        """Return the client, made at the first call. What ``make`` raises passes through."""
        arguments = (service, region, retries)
        client = self._clients.get(arguments)
        if client is not None:
            return client
        with self._lock:
            if arguments not in self._clients:
                client = self._make(*arguments)
                watch_client(client)
                self._clients[arguments] = client
                if len(self._clients) > _MAX_CLIENTS:
                    del self._clients[next(iter(self._clients))]
            return self._clients[arguments]


def client_config(base: Config, service: str, *, retries: bool, connections: int) -> Config:
    """Return the configuration of a client; what ``base`` sets itself is unchanged.

    Args:
        base: the configuration of the connection or the environment.
        service: boto3's name of the service.
        retries: whether the client retries; if not, each call makes one request.
        connections: how many calls can be in flight at once.
    """
    from botocore.config import Config

    default: Any = Config()  # types-boto3 does not know the options of a Config
    configured: Any = base
    options: dict[str, Any] = {}
    if configured.max_pool_connections == default.max_pool_connections:
        options["max_pool_connections"] = max(connections, default.max_pool_connections)
    if not retries:
        # The retry mode stays: "adaptive" also limits the rate of requests.
        options["retries"] = {**(configured.retries or {}), "total_max_attempts": 1}
    if service in _REPLY_SECONDS and configured.read_timeout == default.read_timeout:
        options |= {"read_timeout": _REPLY_SECONDS[service], "tcp_keepalive": True}
    return base.merge(Config(**options))


class EnvironmentAws:
    """Clients with the credentials, region and endpoint of the environment, as boto3 finds them.

    That is: environment variables, the AWS configuration files, the machine's role. Nothing is looked up
    before the first client is requested. Safe to share between threads.

    Args:
        connections: how many calls of one client can be in flight at once.
    """

    connection: Final = "the AWS credentials of the environment"

    def __init__(self, connections: int = MAX_CONNECTIONS) -> None:
        self._connections = connections
        self._session: Any = None
        self._clients = ClientCache(self._make)

    def client(self, service: str, region: str | None = None, *, retries: bool = True) -> Any:
        """Return a boto3 client of a service, the same one each time.

        Raises:
            StorageConfigurationError: the environment names no region, or a profile that does not exist.
        """
        return self._clients.get(service, region, retries=retries)

    def _make(self, service: str, region: str | None, retries: bool) -> Any:
        # boto3 and its imports take a tenth of a second, which a Dag file's parse need not pay.
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = client_config(Config(), service, retries=retries, connections=self._connections)
        try:
            self._session = self._session or boto3.Session()
            return self._session.client(service, region_name=region, config=config)
        except BotoCoreError as error:
            raise StorageConfigurationError(
                f"No {service} client can be made with {self.connection}: {error} "
                "Set AWS_DEFAULT_REGION and credentials, or AWS_PROFILE."
            ) from error
