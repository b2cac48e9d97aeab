"""URL, headers and connection of a step's HTTP request, prepared from the flow's data and from secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from airflow_allma.common.merging import merge_deep
from airflow_allma.engine.http_connection import HttpConnection
from airflow_allma.engine.http_failures import classify_response
from airflow_allma.engine.http_options import DEFAULT_OPTIONS, HttpOptions
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.engine.masking import MASK, mask_url
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.engine.secret_values import SecretValues, names_in_template, resolve_secrets
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.engine.steps.needed_data import needed_data
from airflow_allma.engine.steps.request_headers import Headers, RequestHeaders
from airflow_allma.engine.urls import (
    InvalidUrlError,
    PreparedUrl,
    origin_of,
    plain_url,
    prepare_url,
    show_url,
)
from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions import (
    Span,
    compile_context_mappings,
    compile_slotted_template,
    compile_template,
)
from airflow_allma.flow.steps.step_base import ContextMapping

__all__ = ["READING_METHODS", "PreparedRequest", "RequestPlan"]

READING_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""The methods without side effects (RFC 9110, 9.2.1).

PUT and DELETE are idempotent by 9.2.2, but not with every API.
"""

_OWN_ORIGIN: Final = re.compile(r"https?://[^/?#{}\\@\s]+(?:[/?#]|$)", re.IGNORECASE)


class PreparedRequest(msgspec.Struct, frozen=True, gc=False):
    """What is sent, apart from the body.

    Attributes:
        url: absolute and encoded.
        shown_url: the URL for records, errors and outputs: without secrets.
        identity: the URL with ``***`` for connections and Variables alone: equal only for equal data.
        headers: lower-case name -> name and value; the caller can add others.
        options: TLS and such.
        timeout: seconds that the connection sets for the request; None: the step's own.
        secret_texts: the values of headers, and the URL, that contain secrets.
    """

    url: str
    shown_url: str
    identity: str
    headers: Headers
    options: HttpOptions = DEFAULT_OPTIONS
    timeout: float | None = None
    secret_texts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<request to {self.shown_url}>"

    def check(self, method: str, response: HttpResponse, masks: SecretMasks) -> None:
        """Return if the status is 2xx; raise as ``classify_response`` otherwise.

        Args:
            method: of the request.
            response: its response; a page of an error may echo all of the request.
            masks: the secrets that the process knows.
        """
        classify_response(method, self.shown_url, response, masks, self.secret_texts)


class RequestPlan:
    """The request of a step, compiled once per step.

    Attributes:
        needs_secrets: whether it names a connection or a Variable.

    Args:
        url: the template of the URL.
        url_mappings: further variables of that template.
        constants: headers that are sent unchanged.
        templates: headers, name -> JSONPath or template.
        connection: the id of an Airflow connection, or None.
    """

    def __init__(
        self,
        url: str,
        *,
        url_mappings: Mapping[str, ContextMapping] | None = None,
        constants: Mapping[str, str] | None = None,
        templates: Mapping[str, str] | None = None,
        connection: str | None = None,
    ) -> None:
        self._source = url
        self._constants = dict(constants or {})
        self._templates = dict(templates or {})
        self._url = compile_slotted_template(url, block_slots=True)
        self._plain_url = plain_url(self._url)
        mappings = url_mappings or {}
        self._mappings = compile_context_mappings(
            {name: mapping.model_dump(by_alias=True) for name, mapping in mappings.items()}
        )
        self._connection = connection
        self._has_own_origin = _OWN_ORIGIN.match(url.lstrip(" ")) is not None
        by_header = {
            name.lower(): names_in_template(source)
            for name, source in (templates or {}).items()
            if not source.startswith("$")
        }
        url_names = names_in_template(url)
        self._names = sorted(url_names.union(*by_header.values()), key=lambda name: (name.name, name.keys))
        self._names_host = any(name.field == "host" for name in url_names)
        self._url_has_secrets = bool(url_names)
        self._secret_headers = frozenset(name for name, names in by_header.items() if names)
        # The others see no secrets: {{json this}} would send, and show, all of them.
        secret = frozenset(name for name in templates or {} if name.lower() in self._secret_headers)
        self._headers = RequestHeaders(constants or {}, templates or {}, secret)
        self._warned = False
        self.needs_secrets = bool(self._names) or connection is not None

    def freeze(self, call: StepCall, root: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the plan and the data that it needs as JSON, without secrets, for another process.

        Templates without connections and Variables are rendered; the others are kept with their data.

        Args:
            call: the step's call.
            root: what paths and templates see.

        Returns:
            The argument of ``thaw``; None if a template reads more than it names, or content of a pointer.
        """
        secret = {
            name: text for name, text in self._templates.items() if name.lower() in self._secret_headers
        }
        plain = {name: text for name, text in self._templates.items() if name not in secret}
        url_data = self._data(call, root)
        data = merge_deep(needed_data(root, secret.values()), needed_data(url_data, (self._source,)))
        marked = SecretValues(dict.fromkeys(self._names, MASK), frozenset())
        pairs: list[tuple[Callable[..., Any], Mapping[str, Any]]] = [(self._url.spans, url_data)]
        pairs += [(compile_template(text).render, root) for text in secret.values()]
        for render, everything in pairs:
            whole = render(marked.over(everything), call.load)
            try:
                same = render(marked.over(data)) == whole
            except ExpressionEvaluationError:
                return None
            if not same:
                return None
        headers = RequestHeaders(self._constants, plain).render(call, root)
        frozen = {
            "url": self._source,
            "headers": dict(headers.values()),
            "templates": secret,
            "connection": self._connection,
            "data": data,
        }
        return {name: value for name, value in frozen.items() if value}

    @classmethod
    def thaw(cls, frozen: Mapping[str, Any]) -> tuple[RequestPlan, Mapping[str, Any]]:
        """Return a plan, and the root for its ``prepare``, from what ``freeze`` returned."""
        plan = cls(
            frozen["url"],
            constants=frozen.get("headers"),
            templates=frozen.get("templates"),
            connection=frozen.get("connection"),
        )
        return plan, frozen.get("data", {})

    async def prepare(
        self, call: StepCall, root: Mapping[str, Any], defaults: Mapping[str, str] | None = None
    ) -> PreparedRequest:
        """Return the request.

        Args:
            call: the step's call.
            root: what paths and templates see.
            defaults: headers that those of the connection and of the step override.

        Raises:
            PermanentStepError: the URL, a header or the connection cannot be used.
            SecretError: the connection or a Variable cannot be read.
        """
        if not self.needs_secrets:
            return self.prepare_plain(call, root, defaults)
        secrets = call.services.secrets
        values = await resolve_secrets(secrets, self._names)
        connection = None
        if self._connection is not None:
            connection = HttpConnection.of(await secrets.connection(self._connection))
            self._warn_about_extra(connection, call)
        url, shown_url, identity, made = self._prepare_url(call, root, values, connection)
        overridable = {**(defaults or {}), **(connection.headers if connection else {})}
        headers = self._headers.render(call, root, overridable, values.over(root))
        made |= {value for key, (_, value) in headers.items() if key in self._secret_headers}
        await _hide_made_values(call, made)
        options = connection.options if connection else DEFAULT_OPTIONS
        secret_headers = options.secret_headers | self._secret_headers
        texts = [value for key, (_, value) in headers.items() if key in secret_headers]
        return PreparedRequest(
            url,
            shown_url,
            identity,
            headers,
            replace(options, secret_headers=secret_headers),
            connection.timeout if connection else None,
            (*texts, url) if self._url_has_secrets else tuple(texts),
        )

    def prepare_plain(
        self, call: StepCall, root: Mapping[str, Any], defaults: Mapping[str, str] | None = None
    ) -> PreparedRequest:
        """Return the request of a plan without secrets; see ``prepare``."""
        data = self._data(call, root)
        url = self._plain_url(data) or _prepared(self._url.spans(data, call.load), call)
        return PreparedRequest(url, mask_url(url), url, self._headers.render(call, root, defaults))

    def _data(self, call: StepCall, root: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what the template of the URL sees, apart from secrets."""
        variables = self._mappings.resolve(root, call.load)
        return {**root, **variables} if variables else root

    def _prepare_url(
        self,
        call: StepCall,
        root: Mapping[str, Any],
        values: SecretValues,
        connection: HttpConnection | None,
    ) -> tuple[str, str, str, set[str]]:
        """Return the URL, the one to show, the request's identity, and the values with secrets in the URL."""
        data = self._data(call, root)
        if self._url_has_secrets:
            spans = self._url.spans(values.over(data), call.load)
            shown_spans = self._url.spans(values.masked_over(data), call.load)
        else:
            spans = shown_spans = self._url.spans(data, call.load)
        made = {span.text for span in spans} - {span.text for span in shown_spans}
        if connection is not None and connection.base_url:
            spans, shown_spans = (_with_base(each, connection.base_url) for each in (spans, shown_spans))
        identity = "".join(span.text for span in shown_spans).strip(" ")
        shown = show_url(identity)
        if connection is not None and not (connection.base_url or self._has_own_origin):
            raise InvalidUrlError(
                shown,
                f"needs the host of connection {connection.id!r}, which has none; set its host, or write "
                "scheme and host into the template",
            )
        try:
            url = _prepared(spans, call)
        except InvalidUrlError as error:
            # The original error shows a URL with secrets in it.
            raise InvalidUrlError(shown, error.reason) from None
        self._check_host(url, shown, values, connection)
        return (url, shown, identity, made) if self._url_has_secrets else (url, mask_url(url), url, made)

    def _check_host(
        self, url: str, shown: str, values: SecretValues, connection: HttpConnection | None
    ) -> None:
        """Check that the flow's data does not decide which host gets the secrets of a connection."""
        if connection is not None and connection.base_url:
            if origin_of(url) != origin_of(_encoded(connection.base_url)):
                raise InvalidUrlError(
                    shown,
                    f"is not on the host of connection {connection.id!r} ({connection.origin}); write a path "
                    "that begins with '/'",
                )
            return
        if self._has_own_origin:
            return
        if self._names_host and urlsplit(url).hostname not in values.hosts:
            raise InvalidUrlError(
                shown,
                "does not have the host of the connection that its template names; in the template, ':' or "
                "'/' must follow the host, and a scheme be before it only if the connection's host has none",
            )

    def _warn_about_extra(self, connection: HttpConnection, call: StepCall) -> None:
        named = {name.keys[0] for name in self._names if name.keys and name.name == connection.id}
        unused = [key for key in connection.unused if key not in named]
        if unused and not self._warned:
            self._warned = True
            call.log.warning(
                "extra of connection %r: %s without effect (step %s). Headers belong into extra.headers",
                connection.id,
                ", ".join(unused),
                call.step_id,
            )


async def _hide_made_values(call: StepCall, values: Iterable[str]) -> None:
    """Mask what helpers made of secrets: a value in which the secret itself cannot be found."""
    secrets = call.services.secrets
    made = [value for value in values if MASK not in secrets.masks.text(value)]
    if made:
        await secrets.hide(made)


def _prepared(spans: Sequence[Span], call: StepCall) -> str:
    prepared: PreparedUrl = prepare_url(spans)
    for warning in prepared.warnings:
        call.log.warning("%s (step %s)", call.services.secrets.masks.text(warning), call.step_id)
    return prepared.url


def _with_base(spans: Sequence[Span], base: str) -> Sequence[Span]:
    """Return a rendered path with a base URL before it, as if the author had written that."""
    if not "".join(span.text for span in spans).lstrip(" ").startswith("/"):
        return spans
    first, *rest = spans
    if first.text:
        value = Span(first.text.lstrip(" "), is_authored=False)
        return [Span("", is_authored=False), Span(base, is_authored=True), value, *rest]
    written, *rest = rest
    return [first, Span(base + written.text.lstrip(" "), is_authored=True), *rest]


def _encoded(url: str) -> str:
    """Return a URL without values as it is sent; names of hosts can have other letters than ASCII."""
    return prepare_url([Span("", is_authored=False), Span(url, is_authored=True)]).url
