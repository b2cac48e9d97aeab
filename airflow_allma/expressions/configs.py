"""Configs: JSON values whose strings can be templates or JSONPaths, such as custom configs and literals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Final

from airflow_allma.exceptions import ExpressionEvaluationError, ExpressionSyntaxError
from airflow_allma.expressions.json_copy import copy_value
from airflow_allma.expressions.path_slots import bind_path, check_pattern, fill_slots
from airflow_allma.expressions.paths import Path, compile_path
from airflow_allma.expressions.pointer_access import LoadPointer, is_pointer, refuse_to_load, resolve_pointer
from airflow_allma.expressions.templates import (
    SlottedTemplate,
    Template,
    compile_slotted_template,
    compile_template,
)
from airflow_allma.expressions.undefined import NOTHING

__all__ = [
    "MAX_NESTING",
    "Config",
    "compile_config",
    "compile_config_string",
    "find_or_default",
    "resolve_final_pointer",
]

logger = logging.getLogger(__name__)

MAX_NESTING: Final = 64
"""Maximum nesting of objects and lists in a config."""

_LINE_ENDS: Final = frozenset("\n\r\u2028\u2029")

Render = Callable[..., Any]
"""``render(context, load=None)``."""


class UnloadedPointerError(ExpressionEvaluationError):
    """A pointer has to be loaded, but no loader was passed."""


@dataclass(frozen=True, slots=True, eq=False)
class Config:
    """A compiled config. It is immutable, so threads can share it.

    Attributes:
        render: ``render(context, load=None)`` returns the rendered value. The caller owns it: it shares
            nothing with the config or the context. Templates become strings. A string that is written as a
            JSONPath (``$.`` and one line) becomes the value that the path finds, with its type; the values of
            templates in it are names and literals, see ``path_slots``. What a template renders is never read
            as a path. The value that is found is data: it is not rendered again, and a pointer stays a
            pointer. If a path finds nothing, its member is omitted; in a list the item becomes null; at the
            top level the result is NOTHING. A path whose dynamic segment finds no key stays a string, and a
            warning is logged. ``render`` raises ExpressionEvaluationError as templates do; exceptions of
            ``load`` pass through.
        is_static: whether the value is the same for all data.
    """

    render: Render = field(repr=False)
    is_static: bool


def compile_config(value: Any) -> Config:
    """Compile a JSON value that can contain templates and JSONPaths. Keys are never rendered.

    Raises:
        ExpressionSyntaxError: a string looks like a template or a JSONPath but is not valid, or the value is
            nested deeper than ``MAX_NESTING`` objects and lists.
    """
    render = _compile(value, 0)
    if render is None:
        return Config(_static(value), is_static=True)
    return Config(render, is_static=False)


def compile_config_string(source: str) -> Path | Template | SlottedTemplate | None:
    """Compile a string of a config; None if it is used as it is.

    Raises:
        ExpressionSyntaxError: it looks like a template or a JSONPath, but is not valid.
    """
    if "{{" not in source:
        return compile_path(source) if _is_path(source) else None
    if not _is_path(source):
        return compile_template(source)
    template = compile_slotted_template(source)
    if template.pattern is not None:
        _check_pattern(template.pattern, source)
    return template


def find_or_default(path: Path, context: Any, load: LoadPointer | None, default: Any) -> Any:
    """Return what a path finds. If it cannot be evaluated over this data, log that and return ``default``.

    Raises:
        ExpressionEvaluationError: a pointer would have to be loaded, and ``load`` is None.
    """
    try:
        return path.find(context, load or _refuse(path.source))
    except UnloadedPointerError:
        raise
    except ExpressionEvaluationError as error:
        logger.warning("%s is not evaluated: %s", path.source, error)
        return default


def resolve_final_pointer(value: Any, source: str, load: LoadPointer | None) -> Any:
    """Return the content if the path ``source`` found a pointer. Return other values as is.

    Raises:
        ExpressionEvaluationError: the value is a pointer, and ``load`` is None.
    """
    return resolve_pointer(value, load or refuse_to_load(source)) if is_pointer(value) else value


def _refuse(source: str) -> LoadPointer:
    refuse = refuse_to_load(source)

    def load(pointer: Mapping[str, Any]) -> Any:
        try:
            return refuse(pointer)
        except ExpressionEvaluationError as error:
            raise UnloadedPointerError(str(error)) from None

    return load


def _compile(value: Any, depth: int) -> Render | None:
    """Return the function that renders a value, or None if nothing in it needs rendering."""
    if isinstance(value, str):
        return _compile_string(value)
    if not isinstance(value, Mapping | list):
        return None
    if depth >= MAX_NESTING:
        raise ExpressionSyntaxError(
            f"a config is nested deeper than {MAX_NESTING} objects and lists; split it up", ""
        )
    if isinstance(value, list):
        return _compile_list(value, depth)
    return _compile_object(value, depth)


def _compile_string(string: str) -> Render | None:
    match compiled := compile_config_string(string):
        case Path():
            return _render_path(compiled)
        case Template():
            return _render_template(compiled)
        case SlottedTemplate():
            return _render_slotted_path(compiled)
        case None:
            return None


def _is_path(string: str) -> bool:
    return string.startswith("$.") and _LINE_ENDS.isdisjoint(string)


def _render_path(path: Path) -> Render:
    def render(context: Any, load: LoadPointer | None = None) -> Any:
        return copy_value(find_or_default(path, context, load, path.source))

    return render


def _render_template(template: Template) -> Render:
    write, source = template.render, template.source
    # Only names: what follows can be a secret.
    shown = source[: source.find("}}") + 2]
    is_logged = False

    def render(context: Any, load: LoadPointer | None = None) -> Any:
        nonlocal is_logged
        string = write(context, load)
        if string.startswith("$.") and not is_logged:
            is_logged = True
            logger.warning(
                "%s renders text that begins with '$.', which is not evaluated: only a path "
                "that is written in the flow itself is, such as '$.prices.{{currency}}'. (Logged once.)",
                shown,
            )
        return string

    return render


_NOT_EVALUATED: Final = object()


def _render_slotted_path(template: SlottedTemplate) -> Render:
    write = template.render

    def render(context: Any, load: LoadPointer | None = None) -> Any:
        pattern, values = write(context, load)
        try:
            path = bind_path(pattern, tuple(values))
        except ExpressionSyntaxError as error:
            shown = fill_slots(pattern, repeat("{{...}}"))[:200]
            logger.warning("%s is not evaluated: %s", shown, error.reason)
            return fill_slots(pattern, values)
        found = find_or_default(path, context, load, _NOT_EVALUATED)
        return fill_slots(pattern, values) if found is _NOT_EVALUATED else copy_value(found)

    return render


def _check_pattern(pattern: str, source: str) -> None:
    try:
        check_pattern(pattern)
    except ExpressionSyntaxError as error:
        # From the first template on, positions in the pattern differ from those in the source.
        position = error.position if error.position <= source.find("{{") else 0
        raise ExpressionSyntaxError(error.reason, source, position) from None


def _compile_list(items: list[Any], depth: int) -> Render | None:
    parts = [_compile(item, depth + 1) for item in items]
    if not any(parts):
        return None
    renders = [part or _static(item) for part, item in zip(parts, items, strict=True)]

    def render(context: Any, load: LoadPointer | None = None) -> Any:
        rendered = [part(context, load) for part in renders]
        return [None if item is NOTHING else item for item in rendered]

    return render


def _compile_object(members: Mapping[str, Any], depth: int) -> Render | None:
    parts = {key: _compile(item, depth + 1) for key, item in members.items()}
    if not any(parts.values()):
        return None
    renders = [(key, part or _static(members[key])) for key, part in parts.items()]

    def render(context: Any, load: LoadPointer | None = None) -> Any:
        rendered = {}
        for key, part in renders:
            item = part(context, load)
            if item is not NOTHING:
                rendered[key] = item
        return rendered

    return render


def _static(value: Any) -> Render:
    """Return the function that returns a constant: a copy of it, if it is mutable."""
    # The caller can modify the original later.
    constant = copy_value(dict(value) if isinstance(value, Mapping) else value)
    if not isinstance(constant, dict | list):
        return lambda context, load=None: constant  # noqa: ARG005
    if not constant:
        return lambda context, load=None: constant.copy()  # noqa: ARG005
    return lambda context, load=None: copy_value(constant)  # noqa: ARG005
