"""The headers of an HTTP request, from a step's constants, JSONPaths and templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions import NOTHING, LoadPointer, compile_path, compile_template
from airflow_allma.expressions.js_values import to_string
from airflow_allma.flow.formats import is_header_name

__all__ = ["Headers", "RequestHeaders"]

Headers = dict[str, tuple[str, str]]
"""Lower-case name -> name and value."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# The client sets these itself.
_CLIENT_HEADERS: Final = frozenset({"content-length", "transfer-encoding"})

_FindHeader = Callable[[Mapping[str, Any], LoadPointer], Any]


class RequestHeaders:
    """The headers that a step sets, compiled once per step.

    Args:
        constants: name -> value, which is sent unchanged.
        templates: name -> JSONPath if it starts with ``$``, otherwise a template.
        secret: the names of the templates that see ``secret_root``.
    """

    def __init__(
        self,
        constants: Mapping[str, str],
        templates: Mapping[str, str],
        secret: frozenset[str] = frozenset(),
    ) -> None:
        self._headers: list[tuple[str, _FindHeader, bool]] = [
            *((name, _constant(value), False) for name, value in constants.items()),
            *((name, _computed(source), name in secret) for name, source in templates.items()),
        ]
        self._templates = frozenset(templates)

    def render(
        self,
        call: StepCall,
        root: Mapping[str, Any],
        defaults: Mapping[str, str] | None = None,
        secret_root: Mapping[str, Any] | None = None,
    ) -> Headers:
        """Return the headers to send; the last header of a name wins.

        Headers without a value are omitted, and so are those that the client sets itself.

        Args:
            call: the step's call, whose log gets a warning for each header that is probably not meant.
            root: what paths and templates see.
            defaults: headers, name -> value, that the step's own override.
            secret_root: what the templates with secrets see; None: ``root``.

        Raises:
            PermanentStepError: a name or a value cannot be sent. The message does not contain the value.
        """
        headers: Headers = {}
        if not self._headers and not defaults:
            return headers
        for name, value in (defaults or {}).items():
            _add(headers, name, value)
        for name, find, is_secret in self._headers:
            value = find(secret_root if is_secret and secret_root is not None else root, call.load)
            if value is None or value is NOTHING:
                continue
            if not isinstance(value, str | int | float):
                call.log.warning(
                    "Header %r is not sent: its JSONPath finds a list or an object (step %s)",
                    name,
                    call.step_id,
                )
                continue
            text = to_string(value).strip(" \t")
            _add(headers, name, text)
            if not text and name in self._templates:
                call.log.warning(
                    "Header %r is sent empty: a value of it is missing or empty (step %s)", name, call.step_id
                )
        return headers


def _add(headers: Headers, name: str, value: str) -> None:
    if not is_header_name(name):
        raise PermanentStepError(f"{name!r} is not a valid header name. Use letters, digits and '-'.")
    if _CONTROL.search(value):
        raise PermanentStepError(
            f"The value of header {name!r} contains line breaks or control characters. Remove them "
            "from the data, connection or Variable that it uses."
        )
    if name.lower() not in _CLIENT_HEADERS:
        headers[name.lower()] = (name, value)


def _constant(value: str) -> _FindHeader:
    def find(_root: Mapping[str, Any], _load: LoadPointer) -> Any:
        return value

    return find


def _computed(source: str) -> _FindHeader:
    return compile_path(source).find if source.startswith("$") else compile_template(source).render
