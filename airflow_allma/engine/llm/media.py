"""Attachments of a step: parsed from the flow or its data, read, and checked against size limits."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.common.base64_text import from_base64
from airflow_allma.common.json_types import type_name
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.http_calls import recorded_request
from airflow_allma.engine.http_failures import classify_response
from airflow_allma.engine.llm.model_request import Media
from airflow_allma.engine.llm.provider_features import MEDIA_TYPES, PDF
from airflow_allma.engine.masking import mask_url
from airflow_allma.engine.pointer_loading import require_store
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.engine.urls import prepare_url
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.expressions import Span
from airflow_allma.flow.steps.llm import LlmProvider
from airflow_allma.storage import Pointer
from airflow_allma.storage.content_types import guess_type

__all__ = ["MAX_FILES", "MediaSource", "check_media", "parse_media", "read_media"]

MAX_FILES: Final = 20
_MIB: Final = 1 << 20
_ALIASES: Final = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "application/x-pdf": PDF}
_SOURCES: Final = ("s3Pointer", "url", "base64")
_TIMEOUT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Limits:
    """Size limits of a provider, in bytes before Base64 encoding."""

    image: int
    document: int
    total: int


# As the providers document them for files that are part of a request.
_LIMITS: Final = {
    LlmProvider.ANTHROPIC: _Limits(5 * _MIB, 22 * _MIB, 22 * _MIB),
    LlmProvider.AWS_BEDROCK: _Limits(15 * _MIB // 4, 9 * _MIB // 2, 18 * _MIB),
    LlmProvider.GEMINI: _Limits(14 * _MIB, 14 * _MIB, 14 * _MIB),
    LlmProvider.OPENAI: _Limits(20 * _MIB, 32 * _MIB, 36 * _MIB),
    # Lambda takes 6 MiB of JSON.
    LlmProvider.CUSTOM_LAMBDA: _Limits(4 * _MIB, 4 * _MIB, 4 * _MIB),
}
_MAX_FILE: Final = max(max(limits.image, limits.document) for limits in _LIMITS.values())


@dataclass(frozen=True, slots=True)
class MediaSource:
    """Where an attachment comes from: exactly one of ``pointer``, ``url`` and ``data`` is set.

    Attributes:
        field: the field of the step that has it, for messages.
        pointer: an object in S3.
        url: the URL to fetch it from.
        data: the content itself.
        mime_type: its media type; None if the store, the server or the name determines it.
    """

    field: str
    pointer: Pointer | None = None
    url: str | None = None
    data: bytes | None = None
    mime_type: str | None = None


def parse_media(value: Any, field: str) -> tuple[MediaSource, ...]:
    """Return the attachments in a list of ``{"s3Pointer" | "url" | "base64", "mimeType"?}``.

    Args:
        value: the list; None for no attachments.
        field: the field of the step that has it, for messages.

    Raises:
        PermanentStepError: the value has another form.
    """
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise PermanentStepError(f"`{field}` must be a list of attachments; it is {type_name(value)}.")
    if len(value) > MAX_FILES:
        raise PermanentStepError(f"`{field}` has {len(value)} attachments; at most {MAX_FILES} can be sent.")
    return tuple(_source(member, f"{field}[{index}]") for index, member in enumerate(value))


def _source(value: Any, field: str) -> MediaSource:
    given = [name for name in _SOURCES if isinstance(value, dict) and value.get(name) is not None]
    if len(given) != 1:
        raise PermanentStepError(f"`{field}` must be an object with one of {', '.join(_SOURCES)}.")
    source, mime_type = value[given[0]], value.get("mimeType")
    if mime_type is not None:
        mime_type = _mime_type(mime_type, f"{field}.mimeType")
    if given[0] == "s3Pointer":
        try:
            pointer = (Pointer.parse(source) if isinstance(source, dict) else None) or Pointer.from_inner(
                source
            )
        except StorageError as error:
            raise PermanentStepError(f"`{field}.s3Pointer`: {error}") from error
        return MediaSource(field, pointer=pointer, mime_type=mime_type)
    if not isinstance(source, str):
        raise PermanentStepError(f"`{field}.{given[0]}` must be a string; it is {type_name(source)}.")
    if given[0] == "url":
        url = prepare_url([Span(source, is_authored=False)]).url
        return MediaSource(field, url=url, mime_type=mime_type)
    if mime_type is None:
        raise PermanentStepError(f"`{field}` needs a `mimeType` beside `base64`, for example image/png.")
    try:
        return MediaSource(field, data=from_base64(source), mime_type=mime_type)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise PermanentStepError(f"`{field}.base64` is not valid Base64.") from error


def _mime_type(value: Any, where: str) -> str:
    name = value.split(";", 1)[0].strip().lower() if isinstance(value, str) else ""
    name = _ALIASES.get(name, name)
    if name in MEDIA_TYPES:
        return name
    shown = repr(value[:80]) if isinstance(value, str) else type_name(value)
    raise PermanentStepError(f"{where} is {shown}; models take {', '.join(sorted(MEDIA_TYPES))}.")


async def read_media(sources: Sequence[MediaSource], call: StepCall) -> tuple[Media, ...]:
    """Read the attachments, one after the other.

    Raises:
        StepError: one is missing, empty, too large for every provider, of a type that no model accepts, or
            cannot be read.
    """
    return tuple([await _read(source, call) for source in sources])


async def _read(source: MediaSource, call: StepCall) -> Media:
    if source.pointer is not None:
        data, found = await call.services.threads.run(_read_object, source.pointer, source.field, call)
        name = source.pointer.key
    elif source.url is not None:
        data, found = await _fetch(source.url, source.field, call)
        name = source.url.split("?", 1)[0]
    else:
        data, found, name = source.data or b"", source.mime_type, ""
    if not data:
        raise PermanentStepError(f"`{source.field}` is empty.")
    return Media(source.mime_type or _found_type(source, found, name), data)


def _found_type(source: MediaSource, found: str | None, name: str) -> str:
    """Return the media type that the server reports; if that is generic, the one that the name implies."""
    reported = (found or "").split(";", 1)[0].strip().lower()
    if reported in {"", "application/octet-stream", "binary/octet-stream"}:
        reported = guess_type(name) or ""
    if not reported:
        raise PermanentStepError(
            f"The media type of `{source.field}` is not known. Set its `mimeType`, for example image/png."
        )
    return _mime_type(reported, f"The media type of `{source.field}`")


def _read_object(pointer: Pointer, field: str, call: StepCall) -> tuple[bytes, str | None]:
    store = require_store(call.services, pointer)
    try:
        info = store.head(pointer)
        if info.size > _MAX_FILE:
            raise _too_large(field, info.size, _MAX_FILE)
        return store.read(pointer, 0, info.size, if_match=info.etag), info.content_type
    except StorageError as error:
        raise step_error_from(error) from error


async def _fetch(url: str, field: str, call: StepCall) -> tuple[bytes, str | None]:
    response = await recorded_request(
        call.calls,
        call.services.http,
        "GET",
        url,
        headers={"Accept": "*/*"},
        body=None,
        timeout=_TIMEOUT_SECONDS,
    )
    classify_response("GET", mask_url(url), response, call.services.secrets.masks)
    if len(response.body) > _MAX_FILE:
        raise _too_large(field, len(response.body), _MAX_FILE)
    return response.body, response.headers.get("content-type")


def check_media(media: Sequence[Media], provider: LlmProvider) -> None:
    """Check the sizes of attachments against the limits of a provider.

    Raises:
        PermanentStepError: one of them is too large, or all of them together are.
    """
    limits = _LIMITS[provider]
    for index, file in enumerate(media):
        limit = limits.document if file.mime_type == PDF else limits.image
        if len(file.data) > limit:
            raise _too_large(f"Attachment {index} ({file.mime_type})", len(file.data), limit, provider)
    total = sum(len(file.data) for file in media)
    if total > limits.total:
        raise _too_large("All attachments together", total, limits.total, provider)


def _too_large(what: str, size: int, limit: int, provider: LlmProvider | None = None) -> PermanentStepError:
    whose = f"{provider.value} takes" if provider else "providers take"
    return PermanentStepError(
        f"{what}: {size} bytes; {whose} at most {limit}. Attach a smaller file.", details={"bytes": size}
    )
