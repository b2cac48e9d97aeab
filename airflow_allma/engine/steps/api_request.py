"""The HTTP request of API_CALL and POLL_EXTERNAL_API, rendered from the flow's data, and its response."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from airflow_allma.common.work_budget import note_data
from airflow_allma.engine.http_calls import recorded_request
from airflow_allma.engine.mappings import can_read_state
from airflow_allma.engine.response_body import response_data
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.engine.steps.call_timeout import timeout_seconds
from airflow_allma.engine.steps.request_headers import Headers
from airflow_allma.engine.steps.request_plan import RequestPlan
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions import NOTHING, LoadPointer, compile_context_mappings, compile_path
from airflow_allma.expressions.js_values import to_string
from airflow_allma.flow.steps.calls import ApiCallDefinition
from airflow_allma.flow.steps.step_base import ContextMapping

__all__ = ["DEFAULT_TIMEOUT_SECONDS", "ApiRequest", "send_request"]

DEFAULT_TIMEOUT_SECONDS: Final = 10.0
"""How long a request takes at most, if neither the step nor its connection says so."""

_FORM: Final = "application/x-www-form-urlencoded"


class ApiRequest:
    """The request of a step, compiled once per step.

    Attributes:
        plan: URL, headers and connection.
        method: the HTTP method, in upper case.
        timeout_ms: ``customConfig.timeoutMs``; None if it is not set.

    Args:
        call: the call as the flow defines it.
        custom_config: the step's.
    """

    def __init__(self, call: ApiCallDefinition, custom_config: Mapping[str, Any]) -> None:
        url = call.api_url_template
        self.plan = RequestPlan(
            url.template,
            url_mappings=url.context_mappings,
            constants=call.api_static_headers,
            templates=call.api_headers_template,
            connection=call.connection,
        )
        self.method = call.api_http_method.value
        self.timeout_ms = custom_config.get("timeoutMs")
        body = call.request_body_template
        self._body = compile_context_mappings(_as_json(body)) if body else None
        path = custom_config.get("requestBodyPath")
        self._body_path = compile_path(path) if isinstance(path, str) and path else None
        mappings = (*(url.context_mappings or {}).values(), *(body or {}).values())
        sources = (
            url.template,
            *(call.api_headers_template or {}).values(),
            *(mapping.source_json_path for mapping in mappings),
            *([self._body_path.source] if self._body_path is not None else ()),
        )
        self._reads_state = any(map(can_read_state, sources)) or any(one.item_template for one in mappings)

    def root(self, call: StepCall) -> Mapping[str, Any]:
        """Return what paths and templates see; the run's state is put together only if one can read it."""
        return call.root() if self._reads_state else call.data()

    def send(self, call: StepCall, root: Mapping[str, Any]) -> Coroutine[Any, Any, dict[str, Any]]:
        """Send the request; see ``send_request``. Everything is evaluated before.

        It is called for each item of a fork, and one coroutine fewer saves time.

        Args:
            call: the step's call.
            root: what paths and templates see.
        """
        timeout = timeout_seconds(self.timeout_ms)
        body = self.body_value(root, call.load)
        return send_request(call, self.plan, root, method=self.method, body=body, timeout=timeout)

    def body_value(self, root: Mapping[str, Any], load: LoadPointer) -> Any:
        """Return the body as a JSON value; None without a body."""
        value: Any = None
        if self._body is not None:
            value = self._body.resolve(root, load)
        elif self._body_path is not None:
            value = self._body_path.find(root, load)
        return None if value is NOTHING else value


async def send_request(
    call: StepCall,
    plan: RequestPlan,
    root: Mapping[str, Any],
    *,
    method: str,
    body: Any = None,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Send a request and return ``{"status", "headers", "data", "_meta"}``; the call is recorded.

    Args:
        call: the step's call.
        plan: URL, headers and connection.
        root: what their paths and templates see.
        method: in upper case.
        body: a JSON value; None: no body.
        timeout: in seconds; None: that of the connection, else 10.

    Raises:
        TransientStepError: no response in time, a lost connection, 429 or 5xx.
        PermanentStepError: the URL, a header or the body cannot be sent, any other status but 2xx, or a body
            that cannot be read.
        SecretError: the connection or a Variable cannot be read.
    """
    # Awaiting what need not wait takes time for each item of a fork.
    request = await plan.prepare(call, root) if plan.needs_secrets else plan.prepare_plain(call, root)
    encoded = None if body is None else _encode_body(body, request.headers)
    masks = call.services.secrets.masks
    response = await recorded_request(
        call.calls,
        call.services.http,
        method,
        request.url,
        headers=dict(request.headers.values()),
        body=encoded,
        timeout=timeout or request.timeout or DEFAULT_TIMEOUT_SECONDS,
        options=request.options,
        shown_url=request.shown_url,
    )
    if not 200 <= response.status < 300:
        request.check(method, response, masks)
    # As JSON, a value needs hardly more bytes than the body that it was read from.
    note_data(2 * len(response.body))
    document = response_data(response, f"{method} {request.shown_url}")
    for warning in document.warnings:
        call.log.warning("Body of the response: %s (step %s)", masks.text(warning), call.step_id)
    return {
        "status": response.status,
        "headers": dict(response.headers),
        "data": document.value,
        "_meta": {"method": method, "url": request.shown_url},
    }


def _encode_body(value: Any, headers: Headers) -> bytes:
    """Return a body as the content type of the headers says, which is added if there is none."""
    _, content_type = headers.get("content-type", ("", ""))
    media_type = content_type.split(";", 1)[0].strip().lower()
    if isinstance(value, str):
        headers.setdefault("content-type", ("Content-Type", "text/plain; charset=utf-8"))
        return value.encode(errors="replace")
    if media_type == _FORM and isinstance(value, dict):
        return _encode_form(value)
    headers.setdefault("content-type", ("Content-Type", "application/json"))
    return msgspec.json.encode(value)


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


def _as_json(mappings: Mapping[str, ContextMapping]) -> dict[str, dict[str, Any]]:
    return {name: mapping.model_dump(by_alias=True) for name, mapping in mappings.items()}
