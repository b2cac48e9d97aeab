"""Settings of an HTTP request with which it always fails: its timeout, its URL, its headers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from airflow_allma.flow.diagnostics import quoted
from airflow_allma.flow.expression_fields import is_computed
from airflow_allma.flow.formats import is_header_name
from airflow_allma.flow.lints.lint import FlowView, Warnings, lint, warning
from airflow_allma.flow.tree_walk import ANY, Pattern, select

__all__ = ["certificate_checks", "headers", "timeouts", "urls"]

_HEADERS: Final = ("apiStaticHeaders", "apiHeadersTemplate", "headersTemplate")
_NOT_IN_VALUES: Final = re.compile(r"[\r\n\0]")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/{0,2}")
_MAX_SHOWN: Final = 80
_URLS: Final[Mapping[str, Pattern]] = {
    "API_CALL": ("apiUrlTemplate", "template"),
    "FILE_DOWNLOAD": ("sourceUrlTemplate",),
    "POLL_EXTERNAL_API": ("apiCallDefinition", "apiUrlTemplate", "template"),
}
"""Type of step -> where the URL of its request is."""
_POLLED: Final = "apiCallDefinition"


@lint(kinds=(*_URLS, "MCP_CALL"))
def timeouts(view: FlowView) -> Warnings:
    """Yield a ``timeoutMs`` that is not a number above 0; strings with templates are not known yet."""
    for step in view.steps:
        if step.kind not in {*_URLS, "MCP_CALL"} or step.runs_own_module or "customConfig" not in step.step:
            continue
        for path, value in select(step.step, ("customConfig", "timeoutMs"), step.path):
            if isinstance(value, str) and is_computed(value):
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (is_number and 0 < value < math.inf):
                yield warning(path, "must be a number of milliseconds above 0, such as 10000, without quotes")


@lint(kinds=("FILE_DOWNLOAD",))
def certificate_checks(view: FlowView) -> Warnings:
    """Yield a ``verifySsl`` that is not a boolean."""
    for step in view.steps:
        if step.kind == "FILE_DOWNLOAD":
            for path, value in select(step.step, ("customConfig", "verifySsl"), step.path):
                if not isinstance(value, bool):
                    yield warning(path, "must be true or false, without quotes")


@lint(kinds=tuple(_URLS))
def urls(view: FlowView) -> Warnings:
    """Yield URLs that do not begin with a scheme that can be called, or whose port does not exist."""
    for step in view.steps:
        pattern = _URLS.get(step.kind)
        if pattern is None or pattern[0] not in step.step:
            continue
        for path, value in select(step.step, pattern, step.path):
            call = step.step[_POLLED] if pattern[0] == _POLLED else step.step
            if not isinstance(value, str) or (value.lstrip().startswith("/") and call.get("connection")):
                continue
            if reason := _wrong_url(value.strip()):
                yield warning(path, reason)


def _wrong_url(url: str) -> str | None:
    fixed, is_template, _ = url.partition("{{")
    if not fixed:
        return None
    scheme = _SCHEME.match(fixed)
    name = scheme[1].lower() if scheme else ""
    if name not in {"http", "https"} and (fixed.count("/") or not is_template):
        begun = quoted(fixed[:_MAX_SHOWN])
        if fixed.startswith("/"):
            return f"{begun} is only a path; set `connection`, whose host it is on, or begin with `https://`"
        return f"{begun} is not the beginning of a URL; it begins with `https://` or `http://`"
    if is_template or "@" in url:
        return None
    try:
        parts = urlsplit(url)
        if parts.port != 0 and parts.hostname:
            return None
    except ValueError:
        pass
    return "this URL has no valid host or port; write `https://host/path` or `https://host:8443/path`"


@lint(fields=(*_HEADERS, _POLLED))
def headers(view: FlowView) -> Warnings:
    """Yield names and values of headers that cannot be sent."""
    for step in view.steps:
        patterns: list[Pattern] = [(field, ANY) for field in _HEADERS if field in step.step]
        if _POLLED in step.step:
            patterns += [(_POLLED, field, ANY) for field in _HEADERS]
        for pattern in patterns:
            for path, value in select(step.step, pattern, step.path):
                name = path[-1]
                if not isinstance(name, str):
                    continue
                if not is_header_name(name):
                    yield warning(
                        path,
                        f"{quoted(name[:_MAX_SHOWN])} cannot be the name of a header: it can have letters, "
                        "digits and `-`, no spaces and no `:`",
                        at_key=True,
                    )
                if isinstance(value, str) and _NOT_IN_VALUES.search(value.strip()):
                    yield warning(
                        path, "the value of a header cannot have a line break; write it in one line"
                    )
