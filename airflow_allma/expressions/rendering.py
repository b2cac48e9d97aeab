"""Objects whose texts may be templates or JSONPaths: custom configs and literals, rendered value by value."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_allma.exceptions import ExpressionEvaluationError, ExpressionSyntaxError
from airflow_allma.expressions.paths import Path, compile_path
from airflow_allma.expressions.templates import Template, compile_template
from airflow_allma.expressions.values import NOTHING, LoadPointer, copy_value
from airflow_allma.expressions.walking import is_pointer, opened, refuse_to_load

__all__ = ["MAX_NESTING", "Config", "compile_config", "find_or_keep", "loaded"]

logger = logging.getLogger(__name__)

MAX_NESTING: Final = 64
"""Most objects and lists of a config that may stand within one another."""

_LINE_ENDS: Final = frozenset("\n\r\u2028\u2029")

Render = Callable[..., Any]
"""``render(context, load=None)``."""


class UnloadedPointerError(ExpressionEvaluationError):
    """A pointer had to be loaded and nothing was given to load it with."""


@dataclass(frozen=True, slots=True, eq=False)
class Config:
    """A compiled config. It never changes: threads may share it.

    Attributes:
        render: ``render(context, load=None)`` gives the rendered value, which is the caller's own: nothing of
            it is shared with the config or the context. Templates become text; a text that then is a JSONPath
            as a whole (``$.`` and one line) becomes what the path finds, with its type. What is found is
            data: it is not rendered again, and a pointer found stays a pointer. A member whose path finds
            nothing is left out, in a list it is null; at the very top it is NOTHING. A path whose dynamic
            segment finds no key stays the text it is, and a warning is logged. It raises
            ExpressionEvaluationError as templates do; exceptions of ``load`` pass through.
        is_static: whether the value is the same for all data.
    """

    render: Render = field(repr=False)
    is_static: bool


def compile_config(value: Any) -> Config:
    """The compiled form of a JSON value that may hold templates and JSONPaths; keys are never rendered.

    Raises:
        ExpressionSyntaxError: a text in it is neither a template nor a JSONPath though it looks like one, or
            it is nested deeper than ``MAX_NESTING`` objects and lists.
    """
    render = _compile(value, 0)
    if render is None:
        return Config(_static(value), is_static=True)
    return Config(render, is_static=False)


def find_or_keep(path: Path, context: Any, load: LoadPointer | None, instead: Any) -> Any:
    """What a path finds; ``instead`` if it cannot be evaluated over this data, which is logged.

    Raises:
        ExpressionEvaluationError: a pointer would have to be loaded, and ``load`` is None.
    """
    try:
        return path.find(context, load or _refuse(path.text))
    except UnloadedPointerError:
        raise
    except ExpressionEvaluationError as error:
        logger.warning("%s is not evaluated: %s", path.text, error)
        return instead


def loaded(value: Any, text: str, load: LoadPointer | None) -> Any:
    """The content of the pointer that the path ``text`` ends on; any other value as it is.

    Raises:
        ExpressionEvaluationError: it is a pointer, and ``load`` is None.
    """
    return opened(value, load or refuse_to_load(text)) if is_pointer(value) else value


def _refuse(text: str) -> LoadPointer:
    refuse = refuse_to_load(text)

    def load(pointer: Mapping[str, Any]) -> Any:
        try:
            return refuse(pointer)
        except ExpressionEvaluationError as error:
            raise UnloadedPointerError(str(error)) from None

    return load


def _compile(value: Any, depth: int) -> Render | None:
    """What renders a value, or None if there is nothing to render in it."""
    if isinstance(value, str):
        return _compile_text(value)
    if not isinstance(value, Mapping | list):
        return None
    if depth >= MAX_NESTING:
        raise ExpressionSyntaxError(
            f"a config is nested deeper than {MAX_NESTING} objects and lists; take it apart", ""
        )
    if isinstance(value, list):
        return _compile_list(value, depth)
    return _compile_object(value, depth)


def _compile_text(text: str) -> Render | None:
    if "{{" in text:
        return _templated(compile_template(text))
    return _found(compile_path(text)) if _is_path(text) else None


def _is_path(text: str) -> bool:
    return text.startswith("$.") and _LINE_ENDS.isdisjoint(text)


def _found(path: Path) -> Render:
    def render(context: Any, load: LoadPointer | None = None) -> Any:
        return copy_value(find_or_keep(path, context, load, path.text))

    return render


def _templated(template: Template) -> Render:
    write = template.render

    def render(context: Any, load: LoadPointer | None = None) -> Any:
        text = write(context, load)
        if not text.startswith("$.") or not _is_path(text):
            return text
        try:
            path = compile_path(text)
        except ExpressionSyntaxError as error:
            # Data made it look like a path ("$.50 (each)"): it is a text then.
            logger.debug("the text of %s is no path: %s", template.text, error.reason)
            return text
        return copy_value(find_or_keep(path, context, load, text))

    return render


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
    """Hands out a value that is the same for all data: a copy, if it could be changed."""
    # The config that was compiled may be changed later by whoever made it.
    kept = copy_value(dict(value) if isinstance(value, Mapping) else value)
    if not isinstance(kept, dict | list):
        return lambda context, load=None: kept  # noqa: ARG005
    if not kept:
        return lambda context, load=None: kept.copy()  # noqa: ARG005
    return lambda context, load=None: copy_value(kept)  # noqa: ARG005
