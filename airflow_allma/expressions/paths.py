"""JSONPath: find and set values in JSON data, in the dialect of jsonpath-plus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.assigning import assign_keys
from airflow_allma.expressions.compiling import Find, compile_finder, dynamic_key, is_definite
from airflow_allma.expressions.path_syntax import PATH_STOPS, read_path
from airflow_allma.expressions.scanner import Scanner, check_length
from airflow_allma.expressions.segments import Dynamic, Key, Segment
from airflow_allma.expressions.values import LoadPointer
from airflow_allma.expressions.walking import refuse_to_load

__all__ = ["CACHE_SIZE", "Path", "compile_path"]

CACHE_SIZE: Final = 4096
"""Compiled expressions of a kind that are kept; the one unused for longest goes first."""


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """A compiled JSONPath. It never changes: threads may share it.

    Attributes:
        text: the path as it was written.
        find: ``find(data, load=None)`` gives the value, or NOTHING. A path with an operator (``*``, ``..``, a
            slice, a union, a filter) gives a list of what it finds, and NOTHING when it finds none.
            What is found is not copied. A pointer at the end of the path is the value; one on the way is
            loaded with ``load``. It raises ExpressionEvaluationError when that is None, or when a dynamic
            segment finds no key; exceptions of ``load`` pass through.
        is_root: whether the path is ``$`` (or ``$.``).
        is_definite: whether it has no operator, and so can be assigned to.
    """

    text: str
    find: Find = field(repr=False)
    is_root: bool
    is_definite: bool
    _segments: tuple[Segment, ...] = field(repr=False)

    def assign(self, data: dict[str, Any], value: Any, load: LoadPointer | None = None) -> None:
        """Set ``value`` in ``data`` in place.

        Missing parents are created: a list where the next segment is an index, else an object; a null or a
        scalar that stands in the way is replaced. Lists are filled up with nulls. Pointers on the way are
        loaded and replaced by their content. Setting the root lays the members of ``value`` over ``data``.

        Raises:
            ExpressionEvaluationError: the path has an operator; a list is asked for a name, or for a position
                far beyond its end; the root is set to what is no object; a pointer needs ``load``.
        """
        self._assign(data, value, load, share=False)

    def assign_shared(
        self, data: Mapping[str, Any], value: Any, load: LoadPointer | None = None
    ) -> dict[str, Any]:
        """Like ``assign`` on a deep copy, but copies only the objects and lists on the way.

        Returns:
            A new root, which shares everything else with ``data``.

        Raises:
            ExpressionEvaluationError: as ``assign`` does.
        """
        return self._assign(data, value, load, share=True)

    def _assign(
        self, data: Mapping[str, Any], value: Any, load: LoadPointer | None, *, share: bool
    ) -> dict[str, Any]:
        loader = refuse_to_load(self.text) if load is None else load
        if self.is_root:
            return self._assign_root(data, value, share=share)
        keys = [self._key(segment, data, loader) for segment in self._segments]
        return assign_keys(data, keys, value, loader, self.text, share=share)

    def _key(self, segment: Segment, data: Mapping[str, Any], load: LoadPointer) -> Key:
        if isinstance(segment, Key):
            return segment
        if isinstance(segment, Dynamic):
            return dynamic_key(segment, compile_finder(segment.query.segments, self.text), data, load)
        raise ExpressionEvaluationError(
            f"{self.text!r} stands for many places and cannot be set; name one place, without '*', '..', "
            "slices, unions and filters"
        )

    def _assign_root(self, data: Mapping[str, Any], value: Any, *, share: bool) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ExpressionEvaluationError(
                f"{self.text!r} is the whole data, which only an object can be laid over; "
                "name a place: '$.name'"
            )
        target = data if isinstance(data, dict) and not share else dict(data)
        target.update(value)
        return target


@lru_cache(maxsize=CACHE_SIZE)
def compile_path(text: str) -> Path:
    """The compiled form of a JSONPath; the same text gives the same object as long as it is cached.

    Raises:
        ExpressionSyntaxError: the text is no JSONPath, or has an operator that is not supported.
    """
    check_length(text)
    stripped = text.rstrip()
    scanner = Scanner(text, len(text) - len(text.lstrip()), len(stripped))
    if not scanner.take("$"):
        scanner.fail("a JSONPath begins with '$'; a fixed value belongs in literals")
    segments = read_path(scanner, PATH_STOPS)
    return Path(
        text=text,
        find=compile_finder(segments, text),
        is_root=not segments,
        is_definite=is_definite(segments),
        _segments=segments,
    )
