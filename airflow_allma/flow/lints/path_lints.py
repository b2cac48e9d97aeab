"""Valid JSONPaths that find nothing, or that cannot be set, whatever the data is."""

from __future__ import annotations

import re
from typing import Final

from airflow_allma.flow.diagnostics import quoted
from airflow_allma.flow.expression_fields import Kind
from airflow_allma.flow.lints.lint import FlowView, Warnings, lint, warning
from airflow_allma.flow.tree_walk import select

__all__ = [
    "indexes_by_word",
    "labels_of_the_context",
    "negative_indexes",
    "schemas_without_properties",
    "several_targets",
]

_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"")
_READ: Final = frozenset({Kind.PATH, Kind.CONDITION})
_NEGATIVE: Final = re.compile(r"\[\s*(-\d+)\s*\]")
_WORD: Final = re.compile(r"\[\s*(first|last)\s*\]")
_KEYWORDS: Final = frozenset(
    {"additionalProperties", "contains", "else", "if", "items", "not", "properties", "propertyNames", "then"}
)
"""Keywords of JSON Schema that are schemas themselves."""
_SEVERAL: Final = re.compile(r"\.\.|\.\*|\[\*\]|\[\?|\[[^\]$]*[:,]")


@lint()
def negative_indexes(view: FlowView) -> Warnings:
    """Yield ``$.rows[-1]``, which finds nothing: only slices count from the end."""
    for expression in view.expressions:
        if "[-" not in expression.source or expression.kind not in _READ:
            continue
        if match := _NEGATIVE.search(_QUOTED.sub("''", expression.source)):
            yield warning(
                expression.path,
                f"{quoted(match[0])} finds nothing, because indexes begin at 0; a slice counts from the end: "
                f"{quoted(f'[{match[1]}:]')} is a list of the last elements",
            )


@lint()
def indexes_by_word(view: FlowView) -> Warnings:
    """Yield ``$.rows[first]``, which is the member with that name."""
    for expression in view.expressions:
        if not expression.source.endswith("]") and "st]" not in expression.source:
            continue
        if expression.kind in _READ and (match := _WORD.search(_QUOTED.sub("''", expression.source))):
            cure = (
                "the first element is `[0]`"
                if match[1] == "first"
                else "a slice counts from the end: `[-1:]` is a list of the last element"
            )
            yield warning(
                expression.path, f"{quoted(match[0])} is the key {quoted(match[1])} of an object; {cure}"
            )


@lint(expressions=(Kind.PATH_KEYS,))
def several_targets(view: FlowView) -> Warnings:
    """Yield output mappings to ``$.rows[*]``: a value can only be set in one place."""
    for expression in view.expressions:
        if expression.kind is not Kind.PATH_KEYS:
            continue
        if match := _SEVERAL.search(_QUOTED.sub("''", expression.source)):
            yield warning(
                expression.path,
                f"nothing is set here, because {quoted(match[0])} matches several places; name one, such as "
                "`$.result`",
                at_key=True,
            )


@lint(fields=("itemLabelPath",))
def labels_of_the_context(view: FlowView) -> Warnings:
    """Yield an ``itemLabelPath`` that begins at the context; it begins at the item."""
    for step in view.steps:
        label = step.step.get("itemLabelPath")
        if isinstance(label, str) and label.startswith("$.currentItem."):
            own = quoted("$" + label.removeprefix("$.currentItem"))
            yield warning((*step.path, "itemLabelPath"), f"this path begins at the item itself; write {own}")


@lint(fields=("airflow",))
def schemas_without_properties(view: FlowView) -> Warnings:
    """Yield an ``inputSchema`` whose keys are those of the payload, in place of keywords of JSON Schema."""
    for path, schema in select(view.flow, ("airflow", "inputSchema")):
        if not isinstance(schema, dict) or not schema:
            continue
        if all(isinstance(value, dict) and "type" in value for value in schema.values()) and not (
            _KEYWORDS & schema.keys()
        ):
            yield warning(
                path,
                "this describes nothing, because the names of the payload belong in `properties`; write "
                '`{"type": "object", "properties": {...}}`',
            )
