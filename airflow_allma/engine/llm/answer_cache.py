"""A cache of answers in the offload location, with the hash of the whole request as the key."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Final

import msgspec

from airflow_allma.engine.llm.model_request import ModelRequest, ModelResponse, RateLimits, TokenUsage
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import ObjectNotFoundError, StorageError
from airflow_allma.storage import Pointer
from airflow_allma.storage.object_store import JSON_TYPE

__all__ = ["find_answer", "keep_answer", "request_digest"]

# Half of an emoji, which the end of an answer can be, or too many levels.
_NOT_JSON: Final = (UnicodeEncodeError, RecursionError)
_FOLDER: Final = "llm-cache"
_FORMAT: Final = 1
"""Part of the hash, so that answers in an older format are not found."""


def request_digest(request: ModelRequest, connection: str | None) -> str | None:
    """Return the key of a request in the cache: a hash of everything that is sent, and of the connection.

    Args:
        request: the request.
        connection: the id of the connection, or the name of AWS credentials.

    Returns:
        None for a request that cannot be sent either, such as one with broken Unicode.
    """
    content = {
        "format": _FORMAT,
        "connection": connection,
        "model": str(request.model),
        "prompt": request.prompt,
        "media": [[file.mime_type, hashlib.sha256(file.data).hexdigest()] for file in request.media],
        "tools": [msgspec.to_builtins(tool) for tool in request.tools],
        "toolChoice": request.tool_choice,
        "parameters": request.parameters.to_dict(),
        # Defaults of the language are not sent to every model.
        "explicit": sorted(request.parameters.explicit),
        "json": request.json_output,
        "config": request.config,
    }
    try:
        return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()
    except _NOT_JSON:
        return None


async def find_answer(digest: str, call: StepCall) -> ModelResponse | None:
    """Return the cached answer, with 0 tokens; None if there is none.

    If the cache cannot be read, a warning is logged.
    """
    pointer = _pointer(digest, call)
    store = call.services.store
    if pointer is None or store is None:
        _warn_once(call)
        return None
    try:
        data = await call.services.threads.run(store.read, pointer)
        answer = msgspec.json.decode(data, type=ModelResponse)
    except ObjectNotFoundError:
        return None
    except (StorageError, msgspec.DecodeError) as error:
        call.log.warning("%s (cached answer of step %s; the model is asked)", error, call.step_id)
        return None
    return replace(answer, usage=TokenUsage(), limits=RateLimits())


def _warn_once(call: StepCall) -> None:
    models = call.services.models
    if not models.has_warned_of_cache:
        models.has_warned_of_cache = True
        call.log.warning(
            "Answers are not cached: [allma] llm_cache needs an offload location. Set [allma] "
            "offload_location, or `airflow.offloadLocation` of the flow (step %s)",
            call.step_id,
        )


async def keep_answer(digest: str, answer: ModelResponse, call: StepCall) -> None:
    """Write an answer to the cache.

    If it cannot be written, a warning is logged: the step can use the answer all the same.
    """
    pointer = _pointer(digest, call)
    store = call.services.store
    if pointer is None or store is None:
        return
    try:
        data = msgspec.json.encode(replace(answer, limits=RateLimits()))
        await call.services.threads.run(_write, store, pointer, data)
    except (StorageError, *_NOT_JSON) as error:
        call.log.warning("%s (answer of step %s is not cached)", error, call.step_id)


def _write(store: Any, pointer: Pointer, data: bytes) -> None:
    store.write(pointer, data, content_type=JSON_TYPE)


def _pointer(digest: str, call: StepCall) -> Pointer | None:
    location = call.services.settings.results_location
    return None if location is None else location.pointer(_FOLDER, digest[:2], digest, ending=".json")
