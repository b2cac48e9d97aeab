"""Handler of FILE_DOWNLOAD: one HTTP response, streamed into an object."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any, ClassVar, Final
from urllib.parse import quote, unquote, urlsplit

import msgspec

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.http_stream import HttpStream
from airflow_allma.engine.outside_calls import HttpCall
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.engine.steps.call_timeout import timeout_seconds
from airflow_allma.engine.steps.request_plan import READING_METHODS, PreparedRequest, RequestPlan
from airflow_allma.engine.upload import Upload
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.expressions import compile_template
from airflow_allma.flow import FileDownloadStep
from airflow_allma.storage import ObjectStore, Pointer
from airflow_allma.storage.pointer import FILE_BUCKET, check_local_segments

__all__ = ["FileDownload"]

_DEFAULT_TIMEOUT_SECONDS: Final = 30.0
_DEFAULT_TYPE: Final = "application/octet-stream"
_FOLDER: Final = "downloads"
# Enough to find a secret that the page of an error echoes.
_MAX_ERROR_BYTES: Final = 1 << 16
# S3 keeps 2 KiB of metadata with an object.
_MAX_URL_CHARACTERS: Final = 1200
_MAX_NAME_CHARACTERS: Final = 500
# Names of one file of one run: different downloads never get the same.
_NAMES: Final = uuid.UUID("5f0c0d5e-6a0b-4e0f-9d1c-1f1c6b2f7a10")
# Of a file the bytes themselves are wanted, not a form of them that is smaller to send.
_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity"}


class FileDownload(AsyncHandler):
    """Handler of FILE_DOWNLOAD steps; the output is ``{"filePointer", "content", "contentType", ...}``.

    The file is never in memory as a whole: at most two parts of an upload, 16 MiB, are.
    """

    blocks_thread: ClassVar[bool] = True

    def __init__(self, step: FileDownloadStep) -> None:
        self._step_id = step.step_instance_id
        self._request = RequestPlan(
            step.source_url_template, templates=step.headers_template, connection=step.connection
        )
        self._method = step.method.value
        self.has_side_effects = self._method not in READING_METHODS
        self._bucket = step.destination_bucket or None
        key = step.destination_key_template
        self._key = compile_template(key) if key else None
        self._timeout_ms = step.custom_config.get("timeoutMs")
        self._verify = step.custom_config.get("verifySsl", True)

    async def __call__(self, call: StepCall) -> Any:
        """Send the request and store the body of the response.

        Raises:
            TransientStepError: no response in time, a lost connection, 429 or 5xx, a body that stalls, ends
                early or does not have its checksum, or a store that does not answer.
            PermanentStepError: the URL, a header or the key is not valid, any other status but 2xx, a file
                that is too large, or a store that refuses it.
        """
        timeout = timeout_seconds(self._timeout_ms)
        if not isinstance(self._verify, bool):
            raise PermanentStepError("customConfig.verifySsl must be true or false.")
        root = call.root()
        request = await self._request.prepare(call, root, _HEADERS)
        if not self._verify:
            # The author's own choice for this step, never one of the data; it overrides the connection's.
            options = replace(request.options, verify=self._verify)
            request = msgspec.structs.replace(request, options=options)
        try:
            pointer = self._destination(call, root, request.identity)
            return await self._transfer(
                call, request, pointer, timeout or request.timeout or _DEFAULT_TIMEOUT_SECONDS
            )
        except StorageError as error:
            raise step_error_from(error) from error

    def _destination(self, call: StepCall, root: Mapping[str, Any], url: str) -> Pointer:
        location = call.services.settings.results_location
        if self._bucket is None and location is None:
            raise PermanentStepError(
                f"Step {call.step_id} has no destination. Set destinationBucket in the step, or "
                "offload_location in [allma]."
            )
        if self._key is not None:
            key = self._key.render(root, call.load)
            check_local_segments(key)
            if self._bucket is not None or location is None:
                return Pointer(self._bucket or "", key)
            is_folder = location.bucket == FILE_BUCKET
            return Pointer(
                location.bucket, f"{location.prefix}/{key}" if is_folder else key, region=location.region
            )
        info = call.info
        name = _file_name(call, f"{self._method} {url}")
        if self._bucket is not None or location is None:
            return Pointer(self._bucket or "", f"{_FOLDER}/{info.flow_execution_id}/{self._step_id}/{name}")
        return location.pointer(_FOLDER, info.flow_execution_id, self._step_id, name)

    async def _transfer(
        self, call: StepCall, request: PreparedRequest, pointer: Pointer, timeout: float
    ) -> dict[str, Any]:
        url = request.shown_url
        store = _require_store(call)
        client = call.services.http
        started, response, failure = perf_counter(), None, None
        try:
            async with client.stream(
                self._method,
                request.url,
                headers=dict(request.headers.values()),
                timeout=timeout,
                options=request.options,
            ) as response:
                if not 200 <= response.status < 300:
                    body = await response.start(_MAX_ERROR_BYTES)
                    page = HttpResponse(response.status, response.headers, body)
                    request.check(self._method, page, call.services.secrets.masks)
                size = await self._store(call, response, url, store, pointer)
        except BaseException as error:
            failure = type(error.__cause__ or error).__name__
            raise
        finally:
            call.calls.add(
                HttpCall(
                    self._method,
                    url,
                    response.status if response else None,
                    (perf_counter() - started) * 1000,
                    0,
                    response.received if response else 0,
                    failure,
                )
            )
        return {
            "filePointer": pointer.inner(),
            "content": pointer.wrap(),
            "contentType": response.headers.get("content-type") or _DEFAULT_TYPE,
            "contentLength": size,
            "_meta": {"status": response.status, "sourceUrl": url},
        }

    async def _store(
        self, call: StepCall, response: HttpStream, url: str, store: ObjectStore, pointer: Pointer
    ) -> int:
        services = call.services
        content_type = response.headers.get("content-type") or _DEFAULT_TYPE
        writer = store.open_writer(pointer, content_type=_printable(content_type), metadata=_metadata(url))
        size = 0
        async with Upload(writer, services.threads) as upload:
            async for block in response.blocks(services.settings.max_download_bytes):
                await upload.write(block)
                size += len(block)
        if upload.info.size != size:
            raise PermanentStepError(
                f"{pointer} has {upload.info.size} bytes, although {size} were written: something else "
                "writes to it too. Give it a key of its own."
            )
        return size


def _require_store(call: StepCall) -> ObjectStore:
    if call.services.store is None:
        raise PermanentStepError(
            f"Step {call.step_id} stores a file, but no store is configured. Set an AWS connection, or pass "
            "--store."
        )
    return call.services.store


def _file_name(call: StepCall, request: str) -> str:
    """Return a name that another try of the same download gets too, and no other download does."""
    info = call.info
    parts = [*info.key_ids, call.step_id, info.branch_id or "", str(info.item_index), request]
    return str(uuid.uuid5(_NAMES, "\0".join(parts)))


def _metadata(url: str) -> dict[str, str]:
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    metadata = {"sourceUrl": url[:_MAX_URL_CHARACTERS]}
    if name:
        metadata["originalName"] = quote(name, safe=" !#$&'()+,;=@[]~")[:_MAX_NAME_CHARACTERS].strip()
    return metadata


def _printable(value: str) -> str:
    return value if value.isascii() and value.isprintable() else _DEFAULT_TYPE
