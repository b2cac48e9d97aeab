"""Context mappings: the variables of templates and request bodies, each with a path and a format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, parse_json
from airflow_allma.common.work_budget import POINTS, spend_text
from airflow_allma.exceptions import ExpressionEvaluationError, ExpressionSyntaxError
from airflow_allma.expressions.configs import find_or_default, resolve_final_pointer
from airflow_allma.expressions.json_copy import copy_value
from airflow_allma.expressions.json_stringify import stringify
from airflow_allma.expressions.paths import Path, compile_path
from airflow_allma.expressions.pointer_access import LoadPointer
from airflow_allma.expressions.templates import Template, compile_template
from airflow_allma.expressions.undefined import NOTHING

__all__ = ["ContextMappings", "Format", "compile_context_mappings"]

logger = logging.getLogger(__name__)

_DEFAULT_SEPARATOR: Final = "\n"


class Format(StrEnum):
    """How the value that an entry's path finds is formatted."""

    RAW = "RAW"
    """The value with its type."""
    JSON = "JSON"
    """Its compact JSON."""
    CUSTOM_STRING = "CUSTOM_STRING"
    """A list becomes a string: each item is rendered through a template, and the results are joined. Other
    values are unchanged.
    """


@dataclass(frozen=True, slots=True)
class _Entry:
    """One compiled entry."""

    path: Path
    fields: tuple[str, ...] | None
    format_value: Callable[[Any, LoadPointer | None], Any]


@dataclass(frozen=True, slots=True, eq=False)
class ContextMappings:
    """Compiled entries by the name of their variable. They are immutable, so threads can share them."""

    _entries: tuple[tuple[str, _Entry], ...] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the variables."""
        return tuple(name for name, _ in self._entries)

    def resolve(self, context: Any, load: LoadPointer | None = None) -> dict[str, Any]:
        """Return the variables for this data. They share nothing with it.

        A pointer at the end of a path is loaded. An entry sets no variable if its path finds nothing, or if
        its path cannot be evaluated over this data; the latter is logged as a warning.

        Raises:
            ExpressionEvaluationError: a pointer has to be loaded and ``load`` is None, a value cannot be
                written as JSON or as a string, or JSON cannot be read.
        """
        resolved: dict[str, Any] = {}
        for name, entry in self._entries:
            value = find_or_default(entry.path, context, load, NOTHING)
            if value is NOTHING:
                continue
            value = resolve_final_pointer(value, entry.path.source, load)
            if entry.fields is not None:
                value = _select_fields(value, entry.fields, entry.path.source)
            resolved[name] = entry.format_value(value, load)
        return resolved


def compile_context_mappings(mappings: Mapping[str, Mapping[str, Any]]) -> ContextMappings:
    """Compile a flow's entries, by name.

    An entry is ``{"sourceJsonPath", "formatAs", "selectFields", "itemTemplate", "joinSeparator"}``, with the
    keys of the flow's JSON. All but the first can be missing or null.

    Raises:
        ExpressionSyntaxError: a path or template is not valid, or an entry lacks a key that it needs.
    """
    return ContextMappings(tuple((name, _compile(name, entry)) for name, entry in mappings.items()))


def _compile(name: str, entry: Mapping[str, Any]) -> _Entry:
    source = entry.get("sourceJsonPath")
    if not isinstance(source, str):
        raise ExpressionSyntaxError(
            f"the entry {name!r} needs a sourceJsonPath, a string that begins with '$.'", ""
        )
    return _Entry(compile_path(source), _fields(name, entry), _formatter(name, entry))


def _fields(name: str, entry: Mapping[str, Any]) -> tuple[str, ...] | None:
    fields = entry.get("selectFields")
    if fields is None:
        return None
    if not isinstance(fields, list | tuple) or not all(isinstance(item, str) for item in fields):
        raise ExpressionSyntaxError(f"selectFields of {name!r} must be a list of names", str(fields))
    return tuple(fields)


def _formatter(name: str, entry: Mapping[str, Any]) -> Callable[[Any, LoadPointer | None], Any]:
    """Return the function that formats the value that was found."""
    format_as = entry.get("formatAs") or Format.RAW
    if not isinstance(format_as, str) or format_as not in frozenset(Format):
        raise ExpressionSyntaxError(
            f"formatAs of {name!r} must be one of {', '.join(Format)}, not {format_as!r}", str(format_as)
        )
    if format_as == Format.RAW:
        return lambda value, load: copy_value(value)  # noqa: ARG005
    if format_as == Format.JSON:
        return lambda value, load: stringify(value)  # noqa: ARG005
    template = entry.get("itemTemplate")
    if not isinstance(template, str):
        raise ExpressionSyntaxError(
            f"the entry {name!r} needs an itemTemplate for CUSTOM_STRING, such as '- {{{{name}}}}'", ""
        )
    separator = entry.get("joinSeparator")
    return _join_items(
        compile_template(template), separator if isinstance(separator, str) else _DEFAULT_SEPARATOR
    )


def _join_items(template: Template, separator: str) -> Callable[[Any, LoadPointer | None], Any]:
    render = template.render
    points_of_item = len(separator) + POINTS * (1 + len(template.source) // 100)

    def format_value(value: Any, load: LoadPointer | None) -> Any:
        if not isinstance(value, list):
            return copy_value(value)
        spend_text(len(value) * points_of_item)
        written = [render(item, load) for item in value]
        spend_text(sum(map(len, written)))
        return separator.join(written)

    return format_value


def _select_fields(value: Any, fields: tuple[str, ...], source: str) -> Any:
    """Return the named members of an object, or of each object in a list. Parse a string of JSON first."""
    parsed = _parse_json(value, source)
    if isinstance(parsed, list):
        spend_text(len(parsed) * len(fields))
        return [_members(item, fields) if isinstance(item, Mapping) else item for item in parsed]
    return _members(parsed, fields) if isinstance(parsed, Mapping) else value


def _members(value: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {name: value[name] for name in fields if name in value}


def _parse_json(value: Any, source: str) -> Any:
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    spend_text(len(value))
    try:
        document = parse_json(value)
    except NotJsonError:
        # It only looks like JSON, so it stays a string.
        return value
    except UnreadableJsonError as error:
        raise ExpressionEvaluationError(f"{source} finds JSON that cannot be read: {error.reason}") from error
    for warning in document.warnings:
        logger.warning("%s: %s", source, warning)
    return document.value
