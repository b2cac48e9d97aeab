"""The engine's services, made from Airflow: connections, settings, the task's log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_allma.common.aws_clients import MAX_CONNECTIONS, ClientCache, client_config
from airflow_allma.compat import redact_connections
from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.settings import ENGINE_LIMITS, MODEL_SETTINGS, SECTION, AllmaSettings

if TYPE_CHECKING:
    from airflow_allma.engine import Services
    from airflow_allma.operators.step_log import StepLog
    from airflow_allma.storage import ObjectStore

__all__ = ["AirflowAws", "build_services", "open_store"]


class AirflowAws:
    """boto3 clients with the credentials, region and endpoint of an Airflow connection.

    Runs in the task's process. Safe to share between threads.

    Args:
        conn_id: the connection; "" for the credentials of the process's environment.
        connections: how many calls of one client can be in flight at once, if the connection does not say.
        request_seconds: time limit of a request, in seconds; None: as the connection says.
    """

    def __init__(
        self, conn_id: str, connections: int = MAX_CONNECTIONS, request_seconds: float | None = None
    ) -> None:
        self._conn_id = conn_id
        self._request_seconds = request_seconds
        self._connections = connections
        self._clients = ClientCache(self._make)

    @property
    def connection(self) -> str:
        """The name of the connection in errors."""
        if not self._conn_id:
            return "the worker's own AWS credentials"
        return f"Airflow connection {self._conn_id!r}"

    def client(self, service: str, region: str | None = None, *, retries: bool = True) -> Any:
        """Return a client of an AWS service, the same one each time.

        Raises:
            StorageConfigurationError: the connection does not exist, or a client cannot be made with it.
        """
        return self._clients.get(service, region, retries=retries)

    def _make(self, service: str, region: str | None, retries: bool) -> Any:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
        from botocore.config import Config

        self._require_connection()
        hook = AwsBaseHook(aws_conn_id=self._conn_id or None, client_type=service, region_name=region)
        try:
            config = client_config(hook.config, service, retries=retries, connections=self._connections)
            if self._request_seconds is not None:
                config = config.merge(
                    Config(connect_timeout=self._request_seconds, read_timeout=self._request_seconds)
                )
            return hook.get_client_type(region_name=hook.region_name, config=config)
        except Exception as error:
            raise StorageConfigurationError(
                f"A client of {service} cannot be made with {self.connection}: {error}. "
                f"Check the connection that [{SECTION}] aws_conn_id (or airflow.awsConnId of the flow) names."
            ) from error

    def _require_connection(self) -> None:
        # The hook itself only warns, and then uses the credentials of the machine.
        if not self._conn_id:
            return
        from airflow.sdk import BaseHook
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            BaseHook.get_connection(self._conn_id)
        except AirflowNotFoundException as error:
            raise StorageConfigurationError(
                f"{self.connection} does not exist. Add it, or name another in [{SECTION}] aws_conn_id or in "
                "airflow.awsConnId of the flow; empty means the worker's own AWS credentials."
            ) from error


def open_store(settings: AllmaSettings, aws: AirflowAws) -> ObjectStore:
    """Return the store of a task: S3 through the connection, and the folder of the offload location.

    Raises:
        StorageConfigurationError: the setting is not a location.
    """
    from airflow_allma.storage import opening
    from airflow_allma.storage.keys import OffloadLocation

    return opening.open_store(aws, OffloadLocation.from_setting(settings.results_location))


def build_services(settings: AllmaSettings, log: logging.Logger, recorder: StepLog | None = None) -> Services:
    """Return what the steps of this task can use."""
    from airflow_allma.engine import EngineSettings, Services
    from airflow_allma.engine.llm.model_services import ModelServices
    from airflow_allma.engine.own_modules import OwnModules
    from airflow_allma.engine.secrets import Secrets
    from airflow_allma.engine.threads import CallThreads
    from airflow_allma.engine.tracing import Tracer
    from airflow_allma.operators.airflow_secrets import AirflowSecrets
    from airflow_allma.storage.keys import OffloadLocation

    aws = AirflowAws(settings.aws_conn_id, settings.chunk_concurrency)
    secrets = Secrets(AirflowSecrets())
    return Services(
        store=open_store(settings, aws),
        aws=aws,
        models=ModelServices(**{name: getattr(settings, name) for name in MODEL_SETTINGS}),
        own_modules=OwnModules(settings.external_modules),
        secrets=secrets,
        settings=EngineSettings(
            offload_location=OffloadLocation.from_setting(settings.offload_location),
            output_offload_bytes=settings.output_offload_bytes,
            max_unpack_ratio=settings.max_unpack_ratio,
            branch_concurrency=settings.chunk_concurrency,
            step_timeout_seconds=settings.step_timeout_seconds,
            custom_module_prefixes=settings.module_prefixes,
            mcp_stdio=settings.mcp_stdio,
            **{name: getattr(settings, name) for name in ENGINE_LIMITS},
            local_location=OffloadLocation.from_setting(settings.local_location),
        ),
        threads=CallThreads(settings.chunk_concurrency),
        recorder=recorder,
        records_failures_only=recorder is not None and recorder.only_failures,
        tracer=Tracer.of_settings(
            settings.trace_items, settings.trace_bytes, secrets.masks, log, redact_connections
        ),
        log=log,
    )
