"""Handler of API_CALL: one HTTP request, built from the flow's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

import msgspec

from airflow_allma.common.work_budget import note_data
from airflow_allma.engine.http_calls import recorded_request
from airflow_allma.engine.response_body import response_data
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.engine.steps.call_timeout import timeout_seconds
from airflow_allma.engine.steps.request_headers import Headers
from airflow_allma.engine.steps.request_plan import READING_METHODS, RequestPlan
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions import (
    NOTHING,
    LoadPointer,
    compile_context_mappings,
    compile_path,
)
from airflow_allma.expressions.js_values import to_string
from airflow_allma.flow import ApiCallStep
from airflow_allma.flow.steps.step_base import ContextMapping

__all__ = ["ApiCall"]

_DEFAULT_TIMEOUT_SECONDS: Final = 10.0
_FORM: Final = "application/x-www-form-urlencoded"


class ApiCall(AsyncHandler):
    """Handler of API_CALL steps; the output is ``{"status", "headers", "data"}``.

    Everything is evaluated before the request is sent, so that a pointer that has to be loaded first does not
    cause a second request.
    """

    notes_data: ClassVar[bool] = True

    def __init__(self, step: ApiCallStep) -> None:
        url = step.api_url_template
        self._request = RequestPlan(
            url.template,
            url_mappings=url.context_mappings,
            constants=step.api_static_headers,
            templates=step.api_headers_template,
            connection=step.connection,
        )
        self._method = step.api_http_method.value
        self.has_side_effects = self._method not in READING_METHODS
        body = step.request_body_template
        self._body = compile_context_mappings(_as_json(body)) if body else None
        path = step.custom_config.get("requestBodyPath")
        self._body_path = compile_path(path) if isinstance(path, str) and path else None
        self._timeout_ms = step.custom_config.get("timeoutMs")
        self.bounds_itself = self._timeout_ms is not None
        # With a connection or Variables, a call also waits for those.
        self.max_seconds = None if self._request.needs_secrets else _DEFAULT_TIMEOUT_SECONDS

    async def __call__(self, call: StepCall) -> Any:
        """Send the request and return the response.

        Raises:
            TransientStepError: no response in time, a lost connection, 429 or 5xx.
            PermanentStepError: the URL, a header or the body cannot be sent, any other status but 2xx, or
                a body that cannot be read.
        """
        root = call.root()
        timeout = timeout_seconds(self._timeout_ms)
        request = await self._request.prepare(call, root)
        body = self._render_body(root, call.load, request.headers)
        response = await recorded_request(
            call.calls,
            call.services.http,
            self._method,
            request.url,
            headers=dict(request.headers.values()),
            body=body,
            timeout=timeout or request.timeout or _DEFAULT_TIMEOUT_SECONDS,
            options=request.options,
            shown_url=request.shown_url,
        )
        request.check(self._method, response, call.services.secrets.masks)
        # As JSON, a value needs hardly more bytes than the body that it was read from.
        note_data(2 * len(response.body))
        document = response_data(response, f"{self._method} {request.shown_url}")
        for warning in document.warnings:
            shown = call.services.secrets.masks.text(warning)
            call.log.warning("Body of the response: %s (step %s)", shown, call.step_id)
        return {
            "status": response.status,
            "headers": dict(response.headers),
            "data": document.value,
            "_meta": {"method": self._method, "url": request.shown_url},
        }

    def _render_body(self, root: Mapping[str, Any], load: LoadPointer, headers: Headers) -> bytes | None:
        value: Any = None
        if self._body is not None:
            value = self._body.resolve(root, load)
        elif self._body_path is not None:
            value = self._body_path.find(root, load)
        if value is None or value is NOTHING:
            return None
        _, content_type = headers.get("content-type", ("", ""))
        media_type = content_type.split(";", 1)[0].strip().lower()
        if isinstance(value, str):
            headers.setdefault("content-type", ("Content-Type", "text/plain; charset=utf-8"))
            return value.encode(errors="replace")
        if media_type == _FORM and isinstance(value, dict):
            return _encode_form(value)
        headers.setdefault("content-type", ("Content-Type", "application/json"))
        return msgspec.json.encode(value)


def _as_json(mappings: Mapping[str, ContextMapping]) -> dict[str, dict[str, Any]]:
    return {name: mapping.model_dump(by_alias=True) for name, mapping in mappings.items()}


def _encode_form(value: dict[str, Any]) -> bytes:
    fields: list[tuple[str, str]] = []
    for name, entry in value.items():
        for item in entry if isinstance(entry, list) else [entry]:
            if isinstance(item, dict | list):
                raise PermanentStepError(
                    f"A body of type {_FORM} cannot contain the object in {name!r}. Map single values of it, "
                    "or remove the content-type header to send JSON."
                )
            fields.append((name, "" if item is None else to_string(item)))
    return urlencode(fields).encode()
