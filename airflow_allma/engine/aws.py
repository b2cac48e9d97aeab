"""Where AWS clients come from: one small protocol, and the environment's own credentials behind it."""

from __future__ import annotations

import threading
from typing import Any, Final, Protocol, runtime_checkable

__all__ = ["AwsClients", "EnvironmentAws"]

# A client serves all threads of the process: as many calls at once as a default thread pool runs.
_CONNECTIONS: Final = 64


@runtime_checkable
class AwsClients(Protocol):
    """Makes boto3 clients; knows where the credentials come from."""

    @property
    def connection(self) -> str:
        """What names the credentials in errors, such as ``Airflow connection 'aws_default'``."""

    def client(self, service: str, region: str | None = None) -> Any:
        """A boto3 client, safe to share between threads.

        Args:
            service: boto3's name of the service, such as ``dynamodb``.
            region: an AWS region; None = the connection's own.

        Raises:
            StorageConfigurationError: there are no credentials of that name, or they are incomplete.
        """


class EnvironmentAws:
    """Clients with the credentials, region and endpoint of the environment, as boto3 finds them.

    That is: environment variables, the AWS configuration files, the machine's role. Nothing is looked up
    before the first client is asked for. Safe to share between threads; a client is made once a service and
    region.
    """

    connection: Final = "the AWS credentials of the environment"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, str | None], Any] = {}

    def client(self, service: str, region: str | None = None) -> Any:
        """A boto3 client for a service, the same one each time.

        Raises:
            StorageConfigurationError: the environment names no region, or a profile that does not exist.
        """
        found = self._clients.get((service, region))
        if found is not None:
            return found
        # boto3 and its imports take a tenth of a second, which a Dag file's parse need not pay.
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        from airflow_allma.exceptions import StorageConfigurationError

        # Making clients out of one session is the one thing that boto3 cannot do in two threads at once.
        with self._lock:
            if (service, region) not in self._clients:
                try:
                    self._session = self._session or boto3.Session()
                    self._clients[service, region] = self._session.client(
                        service, region_name=region, config=Config(max_pool_connections=_CONNECTIONS)
                    )
                except BotoCoreError as error:
                    raise StorageConfigurationError(
                        f"No {service} client can be made with {self.connection}: {error} "
                        "Set AWS_DEFAULT_REGION and credentials, or AWS_PROFILE."
                    ) from error
            return self._clients[service, region]
