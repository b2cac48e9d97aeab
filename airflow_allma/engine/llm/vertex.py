"""Vertex AI: project and location from a connection, and its access tokens."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

import msgspec

from airflow_allma.common.printable import printable, shortened
from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine.http_connection import connection_error
from airflow_allma.engine.llm.model_connections import (
    ModelEndpoint,
    extra_value,
    read_http,
)
from airflow_allma.engine.secrets import Secrets
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import PermanentStepError, StepError, TransientStepError

__all__ = ["VertexProject", "is_vertex", "read_vertex"]

_KINDS: Final = frozenset({"google_cloud_platform", "pydanticai_vertex"})
_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.:-]{0,99}")
_DEFAULT_LOCATION: Final = "global"
_MULTI_REGIONS: Final = frozenset({"eu", "us"})
_EARLY_SECONDS: Final = 120.0
"""A token is renewed this many seconds before it expires, as requests in flight still need it."""

_MAX_SHOWN: Final = 300
_NOT_READ: Final = ("credential_config_file", "impersonation_chain", "key_secret_name")


def is_vertex(connection_type: str) -> bool:
    """Return whether connections of a type are those of Vertex AI."""
    return connection_type in _KINDS


@dataclass(frozen=True, slots=True)
class VertexProject:
    """A project of Google Cloud in one location, as a connection describes it.

    Attributes:
        endpoint: the base URL, including the API's version, and headers without a token.
        parent: ``projects/{project}/locations/{location}``.
        tokens: the access tokens.
    """

    endpoint: ModelEndpoint
    parent: str
    tokens: _Tokens

    def path_of(self, model_id: str) -> str:
        """Return the resource name of a model, which can also be a whole resource name itself."""
        if model_id.startswith("projects/"):
            return model_id
        if model_id.startswith("publishers/"):
            return f"{self.parent}/{model_id}"
        return f"{self.parent}/publishers/google/models/{model_id.removeprefix('models/')}"

    async def authorized(self, call: StepCall) -> ModelEndpoint:
        """Return the endpoint with a valid token.

        Raises:
            TransientStepError: the token server does not respond.
            PermanentStepError: the token server rejects the service account, or there are no credentials.
        """
        return await self.tokens.authorize(self.endpoint, call)


def read_vertex(secret: ConnectionSecret) -> VertexProject:
    """Return the project of a connection of type ``google_cloud_platform`` or ``pydanticai_vertex``.

    Its extra has ``project`` and ``location`` (default: ``global``), and the service account as
    ``keyfile_dict`` or ``service_account_info``, or as a file: ``key_path`` or ``service_account_file``.
    Without one, the credentials of the worker are used (Application Default Credentials). A host in
    the connection replaces that of the location.

    Raises:
        PermanentStepError: a member of the extra cannot be used, or the project is missing.
    """
    for name in _NOT_READ:
        if extra_value(secret, name) is not None:
            raise connection_error(
                secret, f"extra.{name}", "is not supported by LLM_INVOCATION; use keyfile_dict or key_path"
            )
    info = _service_account(secret)
    project = extra_value(secret, "project", "project_id") or (info or {}).get("project_id")
    if not isinstance(project, str) or not _NAME.fullmatch(project):
        raise connection_error(secret, "extra.project", "must be the id of a project of Google Cloud")
    location = extra_value(secret, "location") or _DEFAULT_LOCATION
    if not isinstance(location, str) or not _NAME.fullmatch(location):
        raise connection_error(secret, "extra.location", "must be a location such as 'europe-west1'")
    http = read_http(secret)
    endpoint = ModelEndpoint(
        secret.id,
        f"{http.base_url or f'https://{_host(location)}'}/v1",
        {"Content-Type": "application/json", **http.headers},
        http.timeout,
        replace(http.options, secret_headers=http.options.secret_headers | {"authorization"}),
        "the service account in its extra",
    )
    path = extra_value(secret, "key_path", "service_account_file")
    credentials = _Credentials(secret.id, info, path if isinstance(path, str) else None)
    return VertexProject(endpoint, f"projects/{project}/locations/{location}", _Tokens(credentials))


def _host(location: str) -> str:
    if location == _DEFAULT_LOCATION:
        return "aiplatform.googleapis.com"
    if location in _MULTI_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


def _service_account(secret: ConnectionSecret) -> Mapping[str, Any] | None:
    info = extra_value(secret, "keyfile_dict", "service_account_info")
    if isinstance(info, str):
        try:
            info = msgspec.json.decode(info)
        except (msgspec.DecodeError, UnicodeError):
            # The cause would show a part of the private key.
            info = False
    if info is None or isinstance(info, Mapping):
        return info
    raise connection_error(
        secret, "extra.keyfile_dict", "must be the JSON key of a service account"
    ) from None


class _Credentials:
    """The credentials of a connection, with the library that makes tokens of them. Its methods block."""

    def __init__(self, connection: str, info: Mapping[str, Any] | None, path: str | None) -> None:
        self.connection = connection
        self._info = info
        self._path = path
        self._library_credentials: Any = None

    @property
    def secrets(self) -> list[str]:
        """The private key, which must never be shown."""
        key = (self._info or {}).get("private_key")
        return [key] if isinstance(key, str) else []

    def fetch_token(self) -> tuple[str, float]:
        """Return a new token, and for how many seconds it is valid.

        Raises:
            StepError: see ``VertexProject.authorized``.
        """
        try:
            import google.auth.exceptions as google_errors
            import google.auth.transport.requests as google_requests
        except ImportError as error:
            raise PermanentStepError(
                "Vertex AI needs the packages google-auth and requests. Install airflow-allma[llm] on the "
                "workers."
            ) from error
        try:
            if self._library_credentials is None:
                self._library_credentials = self._make()
            credentials = self._library_credentials
            credentials.refresh(google_requests.Request())
        except google_errors.GoogleAuthError as error:
            raise self._error(error, is_transient=_may_pass(error)) from error
        except (OSError, ValueError) as error:
            raise self._error(error, is_transient=False) from error
        # The library's date is one of UTC without a time zone.
        expires = credentials.expiry
        valid = 0.0 if expires is None else expires.replace(tzinfo=UTC).timestamp() - time.time()
        return str(credentials.token), valid

    def _make(self) -> Any:
        import google.auth
        from google.oauth2 import service_account

        credentials: Any = service_account.Credentials
        if self._info is not None:
            return credentials.from_service_account_info(dict(self._info), scopes=_SCOPES)
        if self._path is not None:
            return credentials.from_service_account_file(self._path, scopes=_SCOPES)
        return google.auth.default(scopes=_SCOPES)[0]

    def _error(self, error: Exception, *, is_transient: bool) -> StepError:
        reason = shortened(printable(str(error.args[0] if error.args else error)), _MAX_SHOWN)
        message = f"No access token for connection {self.connection!r}: {type(error).__name__}: {reason}."
        details = {"connection": self.connection}
        if is_transient:
            return TransientStepError(message, details=details)
        return PermanentStepError(
            f"{message} Check the service account in the connection's extra (keyfile_dict or key_path).",
            details=details,
            error_name="ModelAuthenticationError",
        )


def _may_pass(error: Exception) -> bool:
    import google.auth.exceptions as google_errors

    return isinstance(error, google_errors.TransportError) or bool(getattr(error, "retryable", False))


class _Tokens:
    """The access token of a connection, kept until it expires; one is fetched at a time."""

    def __init__(self, credentials: _Credentials) -> None:
        self._credentials = credentials
        self._authorized: ModelEndpoint | None = None
        self._token = ""
        self._valid_until = 0.0
        # A process can have several `Secrets`, each of which masks only the values that it knows.
        self._masked_by: WeakSet[Secrets] = WeakSet()
        # A task belongs to its event loop.
        self._pending: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[ModelEndpoint]]
        self._pending = WeakKeyDictionary()

    async def authorize(self, endpoint: ModelEndpoint, call: StepCall) -> ModelEndpoint:
        if self._authorized is not None and time.monotonic() < self._valid_until:
            if call.services.secrets not in self._masked_by:
                await self._hide(call.services.secrets)
            return self._authorized
        loop = asyncio.get_running_loop()
        task = self._pending.get(loop)
        if task is None or task.done():
            task = self._pending[loop] = loop.create_task(self._fetch(endpoint, call))
            # Waiting steps get its error. If none waits any more, asyncio would log it.
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        # A step that times out must not cancel the fetch that others wait for.
        return await asyncio.shield(task)

    async def _fetch(self, endpoint: ModelEndpoint, call: StepCall) -> ModelEndpoint:
        secrets = call.services.secrets
        await secrets.hide(self._credentials.secrets)
        token, valid_seconds = await call.services.threads.run(self._credentials.fetch_token)
        self._token = token
        self._masked_by.clear()
        await self._hide(secrets)
        authorized = replace(endpoint, headers={**endpoint.headers, "Authorization": f"Bearer {token}"})
        self._authorized = authorized
        self._valid_until = time.monotonic() + valid_seconds - _EARLY_SECONDS
        return authorized

    async def _hide(self, secrets: Secrets) -> None:
        await secrets.hide([*self._credentials.secrets, self._token])
        self._masked_by.add(secrets)

    def forget(self) -> None:
        """Forget the token, so that the next request fetches a new one."""
        self._authorized = None
