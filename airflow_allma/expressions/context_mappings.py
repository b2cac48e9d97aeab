"""Entries that give templates and request bodies their variables: a path, a format, what to take of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.expressions.json_text import json_text
from airflow_allma.expressions.paths import Path, compile_path
from airflow_allma.expressions.rendering import find_or_keep, loaded
from airflow_allma.expressions.templates import Template, compile_template
from airflow_allma.expressions.values import NOTHING, LoadPointer, copy_value

__all__ = ["ContextMappings", "Format", "compile_context_mappings"]

_DEFAULT_SEPARATOR: Final = "\n"


class Format(StrEnum):
    """What becomes of the value that an entry's path finds."""

    RAW = "RAW"
    """The value, with its type."""
    JSON = "JSON"
    """Its compact JSON text."""
    CUSTOM_STRING = "CUSTOM_STRING"
    """A list as text: each item through a template, joined. Other values as they are."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One compiled entry."""

    path: Path
    fields: tuple[str, ...] | None
    finish: Callable[[Any, LoadPointer | None], Any]


@dataclass(frozen=True, slots=True, eq=False)
class ContextMappings:
    """Compiled entries, by the name of the variable that each gives; threads may share them."""

    _entries: tuple[tuple[str, _Entry], ...] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the variables that may be given."""
        return tuple(name for name, _ in self._entries)

    def resolve(self, context: Any, load: LoadPointer | None = None) -> dict[str, Any]:
        """The variables over this data, nothing of them shared with it.

        A pointer that a path ends on is loaded. An entry whose path finds nothing gives no variable; nor
        does one whose path cannot be evaluated over this data, which is logged as a warning.

        Raises:
            ExpressionEvaluationError: a pointer has to be loaded and ``load`` is None, or a value cannot be
                written.
        """
        resolved: dict[str, Any] = {}
        for name, entry in self._entries:
            value = find_or_keep(entry.path, context, load, NOTHING)
            if value is NOTHING:
                continue
            value = loaded(value, entry.path.text, load)
            if entry.fields is not None:
                value = _selected(value, entry.fields)
            resolved[name] = entry.finish(value, load)
        return resolved


def compile_context_mappings(mappings: Mapping[str, Mapping[str, Any]]) -> ContextMappings:
    """The compiled form of a flow's entries, by name.

    An entry is ``{"sourceJsonPath", "formatAs", "selectFields", "itemTemplate", "joinSeparator"}``, with the
    keys of the flow's JSON. All but the first may be missing or null.

    Raises:
        ExpressionSyntaxError: a path or template cannot be read, or an entry lacks what it needs.
    """
    return ContextMappings(tuple((name, _compile(name, entry)) for name, entry in mappings.items()))


def _compile(name: str, entry: Mapping[str, Any]) -> _Entry:
    source = entry.get("sourceJsonPath")
    if not isinstance(source, str):
        raise ExpressionSyntaxError(
            f"the entry {name!r} needs a sourceJsonPath, a text that begins with '$.'", ""
        )
    return _Entry(compile_path(source), _fields(name, entry), _finish(name, entry))


def _fields(name: str, entry: Mapping[str, Any]) -> tuple[str, ...] | None:
    fields = entry.get("selectFields")
    if fields is None:
        return None
    if not isinstance(fields, list | tuple) or not all(isinstance(one, str) for one in fields):
        raise ExpressionSyntaxError(f"selectFields of {name!r} is a list of names", str(fields))
    return tuple(fields)


def _finish(name: str, entry: Mapping[str, Any]) -> Callable[[Any, LoadPointer | None], Any]:
    """What makes the variable out of the value that was found."""
    written = entry.get("formatAs") or Format.RAW
    if not isinstance(written, str) or written not in frozenset(Format):
        raise ExpressionSyntaxError(
            f"formatAs of {name!r} is one of {', '.join(Format)}, not {written!r}", str(written)
        )
    if written == Format.RAW:
        return lambda value, load: copy_value(value)  # noqa: ARG005
    if written == Format.JSON:
        return lambda value, load: json_text(value)  # noqa: ARG005
    template = entry.get("itemTemplate")
    if not isinstance(template, str):
        raise ExpressionSyntaxError(
            f"the entry {name!r} needs an itemTemplate to make a CUSTOM_STRING, such as '- {{{{name}}}}'", ""
        )
    separator = entry.get("joinSeparator")
    return _items_written(
        compile_template(template), separator if isinstance(separator, str) else _DEFAULT_SEPARATOR
    )


def _items_written(template: Template, separator: str) -> Callable[[Any, LoadPointer | None], Any]:
    render = template.render

    def finish(value: Any, load: LoadPointer | None) -> Any:
        if not isinstance(value, list):
            return copy_value(value)
        return separator.join([render(item, load) for item in value])

    return finish


def _selected(value: Any, fields: tuple[str, ...]) -> Any:
    """The named members of an object, or of each object of a list; JSON text is read first."""
    parsed = _parsed(value)
    if isinstance(parsed, list):
        return [_members(item, fields) if isinstance(item, Mapping) else item for item in parsed]
    return _members(parsed, fields) if isinstance(parsed, Mapping) else value


def _members(value: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {name: value[name] for name in fields if name in value}


def _parsed(value: Any) -> Any:
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        # It only looks like JSON: it stays a text.
        return value
