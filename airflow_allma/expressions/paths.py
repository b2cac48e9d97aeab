"""JSONPath: find and set values in JSON data, in the dialect of jsonpath-plus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions.assignment import assign_keys
from airflow_allma.expressions.closures import Find, compile_finder, find_dynamic_key, is_definite
from airflow_allma.expressions.path_parser import PATH_STOPS, parse_segments
from airflow_allma.expressions.pointer_access import LoadPointer, refuse_to_load
from airflow_allma.expressions.scanner import Scanner, check_source
from airflow_allma.expressions.syntax_tree import DynamicKey, Key, Segment

__all__ = ["CACHE_SIZE", "Path", "compile_path", "parse_path", "path_of"]

CACHE_SIZE: Final = 4096
"""Maximum number of cached expressions of each kind; the least recently used one is dropped first."""


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """A compiled JSONPath. It is immutable, so threads can share it.

    Attributes:
        source: the path as written in the flow.
        find: ``find(data, load=None)`` returns the value, or NOTHING. A path with an operator (``*``, ``..``,
            a slice, a union, a filter) returns a list of what it finds, and NOTHING if it finds nothing.
            The result is not copied. A pointer at the end of the path is returned as is; a pointer on the
            way is loaded with ``load``. It raises ExpressionEvaluationError if ``load`` is needed and None,
            or if a dynamic segment finds no key; exceptions of ``load`` pass through.
        is_root: whether the path is ``$`` (or ``$.``).
        is_definite: whether the path has no operator, so that it can be assigned to.
    """

    source: str
    find: Find = field(repr=False)
    is_root: bool
    is_definite: bool
    _segments: tuple[Segment, ...] = field(repr=False)

    @property
    def plain_keys(self) -> tuple[str, ...] | None:
        """The names and indexes of the path; None if it has anything else."""
        if not all(isinstance(segment, Key) for segment in self._segments):
            return None
        return tuple(segment.name for segment in self._segments if isinstance(segment, Key))

    def assign(self, data: dict[str, Any], value: Any, load: LoadPointer | None = None) -> None:
        """Set ``value`` in ``data`` in place.

        Missing parents are created: a list where the next segment is an index, otherwise an object. A null on
        the way is replaced. Lists are padded with nulls. Pointers on the way are loaded and replaced by their
        content. Setting the root merges the members of ``value`` into ``data``.

        Raises:
            ExpressionEvaluationError: the path has an operator; it leads below a string, number or boolean;
                a list would get a name, or an index far beyond its end; the root would become something other
                than an object; a pointer needs ``load``.
        """
        self._assign(data, value, load, share=False)

    def assign_shared(
        self, data: Mapping[str, Any], value: Any, load: LoadPointer | None = None
    ) -> dict[str, Any]:
        """Set ``value`` as ``assign`` does, but in a copy: only objects and lists on the way are copied.

        Returns:
            A new root, which shares everything else with ``data``.

        Raises:
            ExpressionEvaluationError: as ``assign`` does.
        """
        return self._assign(data, value, load, share=True)

    def _assign(
        self, data: Mapping[str, Any], value: Any, load: LoadPointer | None, *, share: bool
    ) -> dict[str, Any]:
        loader = refuse_to_load(self.source) if load is None else load
        if self.is_root:
            return self._assign_root(data, value, share=share)
        keys = [self._key(segment, data, loader) for segment in self._segments]
        return assign_keys(data, keys, value, loader, self.source, share=share)

    def _key(self, segment: Segment, data: Mapping[str, Any], load: LoadPointer) -> Key:
        if isinstance(segment, Key):
            return segment
        if isinstance(segment, DynamicKey):
            find = compile_finder(segment.query.segments, self.source)
            return find_dynamic_key(segment, find, data, load)
        raise ExpressionEvaluationError(
            f"{self.source!r} matches several values and cannot be set; name a single one, without '*', "
            "'..', slices, unions and filters"
        )

    def _assign_root(self, data: Mapping[str, Any], value: Any, *, share: bool) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ExpressionEvaluationError(
                f"{self.source!r} is the root, and only an object can be merged into it; "
                "name a member: '$.name'"
            )
        target = data if isinstance(data, dict) and not share else dict(data)
        target.update(value)
        return target


@lru_cache(maxsize=CACHE_SIZE)
def compile_path(source: str) -> Path:
    """Compile a JSONPath. Equal strings return the same object while it is cached.

    Raises:
        ExpressionSyntaxError: this is not a JSONPath, or it has an operator that is not supported.
    """
    check_source(source)
    return path_of(parse_path(source), source)


def parse_path(source: str) -> tuple[Segment, ...]:
    """Return the segments of a JSONPath, which may contain slots.

    Raises:
        ExpressionSyntaxError: as ``compile_path``.
    """
    stripped = source.rstrip()
    scanner = Scanner(source, len(source) - len(source.lstrip()), len(stripped))
    if not scanner.take("$"):
        scanner.fail("a JSONPath begins with '$'; put a fixed value in literals")
    return parse_segments(scanner, PATH_STOPS)


def path_of(segments: tuple[Segment, ...], source: str) -> Path:
    """Return the compiled path of these segments; messages call it ``source``."""
    return Path(
        source=source,
        find=compile_finder(segments, source),
        is_root=not segments,
        is_definite=is_definite(segments),
        _segments=segments,
    )
