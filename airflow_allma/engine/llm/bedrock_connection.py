"""AWS clients with the credentials of a connection of type ``pydanticai_bedrock``."""

from __future__ import annotations

from typing import Any, Final

from airflow_allma.common.aws_clients import MAX_CONNECTIONS, ClientCache, client_config
from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.http_connection import connection_error
from airflow_allma.engine.llm.aws_model import wrong_connection
from airflow_allma.engine.llm.model_connections import connection_type
from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.flow.steps.llm import LlmProvider

__all__ = ["ConnectionAws", "read_aws"]

_KIND: Final = "pydanticai_bedrock"
_CREDENTIALS: Final = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


class ConnectionAws:
    """boto3 clients with the credentials, region and endpoint of a connection's extra; see ``AwsClients``.

    Without credentials in the extra, boto3 uses those of the environment. Safe to share between threads.

    Args:
        secret: the connection.
    """

    def __init__(self, secret: ConnectionSecret) -> None:
        extra = secret.extra
        self.connection = f"Airflow connection {secret.id!r}"
        self._session: dict[str, Any] = {
            "region_name": _string(secret, "region_name"),
            "profile_name": _string(secret, "profile_name"),
            **{name: _string(secret, name) for name in _CREDENTIALS},
        }
        self._endpoint = _string(secret, "base_url") or secret.host or None
        if (extra.get("api_key") or secret.password) and not self._session["aws_access_key_id"]:
            raise connection_error(
                secret, "extra.api_key", "is not supported by LLM_INVOCATION; use aws_access_key_id"
            )
        self._clients = ClientCache(self._make)

    def client(self, service: str, region: str | None = None, *, retries: bool = True) -> Any:
        """Return a client of an AWS service, the same one each time.

        Raises:
            StorageConfigurationError: no client can be made with the connection.
        """
        return self._clients.get(service, region, retries=retries)

    def _make(self, service: str, region: str | None, retries: bool) -> Any:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = client_config(Config(), service, retries=retries, connections=MAX_CONNECTIONS)
        try:
            session: Any = boto3.Session(**self._session)
            return session.client(service, region_name=region, endpoint_url=self._endpoint, config=config)
        except (BotoCoreError, ValueError) as error:
            raise StorageConfigurationError(
                f"No {service} client can be made with {self.connection}: {error} Set region_name and "
                "credentials in its extra."
            ) from error


def read_aws(secret: ConnectionSecret) -> ConnectionAws:
    """Return AWS clients with the credentials of a connection.

    Raises:
        PermanentStepError: the connection has another type, or a member of its extra cannot be used.
    """
    if connection_type(secret, LlmProvider.AWS_BEDROCK) != _KIND:
        raise wrong_connection(secret.id, LlmProvider.AWS_BEDROCK, f", or name one of type {_KIND!r}")
    return ConnectionAws(secret)


def _string(secret: ConnectionSecret, name: str) -> str | None:
    value = secret.extra.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise connection_error(secret, f"extra.{name}", "must be a string")
    return value
