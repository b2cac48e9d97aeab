"""The part of a run's data that templates read, so that they can be rendered elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.expressions.find_references import template_references
from airflow_allma.flow.secret_names import secret_name

__all__ = ["needed_data"]


def needed_data(root: Mapping[str, Any], sources: Iterable[str]) -> dict[str, Any]:
    """Return the values that templates name, at the same paths; connections and Variables are left out.

    What a template reads without naming it, such as ``{{json this}}``, is not found.

    Args:
        root: what the templates see.
        sources: the templates.
    """
    named = {
        reference.names
        for source in sources
        if "{{" in source
        for reference in template_references(source)
        if not reference.in_block and reference.names and secret_name(reference.names) is None
    }
    kept: dict[str, Any] = {}
    whole: set[tuple[str, ...]] = set()
    for names in sorted(named, key=lambda one: (len(one), one)):
        _keep(root, names, kept, whole)
    return kept


def _keep(
    root: Mapping[str, Any], names: tuple[str, ...], kept: dict[str, Any], whole: set[tuple[str, ...]]
) -> None:
    """Add the value at a path; ``whole`` has the paths of values that are kept with all that is in them."""
    node: Any = root
    for length, name in enumerate(names, 1):
        path = names[:length]
        if path in whole or not isinstance(node, Mapping) or name not in node:
            return
        node = node[name]
        # Lists are indexed by templates, and pointers loaded: both are kept as they are.
        if length == len(names) or not isinstance(node, Mapping) or POINTER_KEY in node:
            kept[name] = node
            whole.add(path)
            return
        kept = kept.setdefault(name, {})
