"""JSON Schemas as trees: where their subschemas are, what they refer to, and how much that is together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from airflow_allma.flow.diagnostics import Path

__all__ = ["MAX_EXPANDED", "SchemaTree", "Subschema", "expand"]

MAX_EXPANDED: Final = 10_000
"""Maximum number of subschemas, each counted as often as references lead to it."""

# Keyword -> what its value contains. Only these contain subschemas: `default`, `enum`, `const` and `examples`
# contain data, but a PROPERTY of such a name has a schema.
_ONE: Final = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "extends",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_LIST: Final = frozenset({"allOf", "anyOf", "disallow", "extends", "items", "oneOf", "prefixItems", "type"})
_MAP: Final = frozenset(
    {"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"}
)
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_ANCHORS: Final = ("$anchor", "$dynamicAnchor")
_DEFINITIONS: Final = frozenset({"$defs", "definitions"})


@dataclass(frozen=True, slots=True)
class Subschema:
    """A schema inside of a schema.

    Attributes:
        path: from the root of the flow.
        schema: an object; true and false are left out.
    """

    path: Path
    schema: Mapping[str, Any]

    def references(self) -> Iterator[tuple[Path, str]]:
        """Yield where this schema itself refers to another, and to which."""
        for keyword in _REFERENCES:
            reference = self.schema.get(keyword)
            if isinstance(reference, str):
                yield (*self.path, keyword), reference


class SchemaTree:
    """All subschemas of a schema, also those in other places that references lead to.

    Args:
        root: a schema.
        path: its path in the flow.

    Attributes:
        root: the whole schema.
        subschemas: all of them, the whole one first.
        elsewhere: those that are only where a reference finds them, such as below an unknown keyword; their
            path is that of the reference.
    """

    def __init__(self, root: Mapping[str, Any], path: Path = ()) -> None:
        self.root = root
        self.subschemas: list[Subschema] = []
        self.elsewhere: list[Subschema] = []
        self._anchors: dict[str, list[Mapping[str, Any]]] = {}
        self._seen: set[int] = set()
        self._walk(path, root)
        followed = 0
        while followed < len(self.subschemas):
            for place, reference in self.subschemas[followed].references():
                for target in self.find(reference):
                    if isinstance(target, Mapping) and id(target) not in self._seen:
                        self.elsewhere.append(Subschema(place, target))
                        self._walk(place, target)
            followed += 1

    def _walk(self, path: Path, schema: Any) -> None:
        waiting: list[tuple[Path, Any]] = [(path, schema)]
        while waiting:
            place, part = waiting.pop()
            if not isinstance(part, Mapping) or id(part) in self._seen:
                continue
            self._seen.add(id(part))
            self.subschemas.append(Subschema(place, part))
            for keyword in _ANCHORS:
                if isinstance(name := part.get(keyword), str):
                    self._anchors.setdefault(name, []).append(part)
            waiting += [((*place, *keys), child) for keys, child in _children(part)]

    def find(self, reference: str) -> list[Any]:
        """Return what a reference leads to: one schema, several with a dynamic anchor; none if it dangles."""
        if not reference.startswith("#"):
            return []
        fragment = unquote(reference[1:])
        if not fragment:
            return [self.root]
        if not fragment.startswith("/"):
            return list(self._anchors.get(fragment, ()))
        part: Any = self.root
        for segment in fragment[1:].split("/"):
            key = segment.replace("~1", "/").replace("~0", "~")
            if isinstance(part, Mapping) and key in part:
                part = part[key]
            elif isinstance(part, list) and key.isdecimal() and len(key) < 10 and int(key) < len(part):
                part = part[int(key)]
            else:
                return []
        return [part] if isinstance(part, Mapping | bool) else []


def _children(schema: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the keys that lead to each direct subschema, and the subschema."""
    for keyword, value in schema.items():
        if keyword in _ONE and isinstance(value, Mapping):
            yield (keyword,), value
        if keyword in _LIST and isinstance(value, list):
            for index, member in enumerate(value):
                yield (keyword, index), member
        if keyword in _MAP and isinstance(value, Mapping):
            for name, member in value.items():
                yield (keyword, name), member


def expand(tree: SchemaTree, schema: Any, limit: int = MAX_EXPANDED) -> tuple[int, bool]:
    """Return how many subschemas a schema has with all that its references lead to.

    Definitions count where they are referred to.

    Args:
        tree: for the references.
        schema: a schema of that tree.
        limit: counting ends above it.

    Returns:
        The number, and whether the schema refers to itself; such a reference counts as one.

    Raises:
        RecursionError: it is nested too deeply.
    """
    counter = _Expansion(tree, limit)
    return counter.size(schema), counter.is_recursive


class _Expansion:
    def __init__(self, tree: SchemaTree, limit: int) -> None:
        self._tree = tree
        self._limit = limit
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()
        self.is_recursive = False

    def size(self, schema: Any) -> int:
        if not isinstance(schema, Mapping):
            return 1
        key = id(schema)
        if key in self._open:
            self.is_recursive = True
            return 1
        if key not in self._sizes:
            self._open.add(key)
            self._sizes[key] = 1 + self._sum(self._parts(schema))
            self._open.discard(key)
        return self._sizes[key]

    def _parts(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        for keys, child in _children(schema):
            if keys[0] not in _DEFINITIONS:
                yield child
        for _, reference in Subschema((), schema).references():
            yield from self._tree.find(reference)

    def _sum(self, parts: Iterable[Any]) -> int:
        total = 0
        for part in parts:
            total += self.size(part)
            if total > self._limit:
                break
        return total
