"""The payload that a flow expects, as the fields of Airflow's trigger form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.flow import Flow
from airflow_allma.flow.input_schema import declared_properties, local_references, takes_null

__all__ = ["ParamPlan", "inferred_inputs", "plan_params"]

_READS: Final = re.compile(r"initialContextData(?:\.|\[\\?['\"])([A-Za-z_][A-Za-z0-9_-]*)")

# "object" comes first: the form then shows a field for JSON, whatever the value is.
_ANY_JSON: Final = ["object", "array", "string", "number", "boolean", "null"]

# Each serialized task repeats the params of its Dag, and nobody fills in a form of a thousand fields.
_MAX_INFERRED: Final = 100
_MAX_INFERRED_LENGTH: Final = 200

_DEFINITIONS: Final = ("$defs", "definitions")
_DEFINITION_PREFIXES: Final = tuple(f"#/{name}/" for name in _DEFINITIONS)

# Airflow has arguments of its own for these: the schema of a param must not repeat them.
_ARGUMENTS_OF_PARAM: Final = frozenset({"default", "description", "source", "self"})


@dataclass(frozen=True, slots=True)
class ParamPlan:
    """One field of the trigger form.

    Attributes:
        name: its key in the payload.
        schema: the JSON Schema of its value.
        description: the text that the form shows.
        is_required: whether a value is required; if not, ``default`` is used.
        default: the value if the field is empty.
    """

    name: str
    schema: Mapping[str, Any]
    description: str | None
    is_required: bool = False
    default: Any = None


def inferred_inputs(flow: Flow) -> tuple[str, ...]:
    """Return the keys of the payload that the flow's expressions name, sorted, at most 100.

    That is ``<key>`` in each ``initialContextData.<key>``. Very long keys are left out.
    """
    keys = set(_READS.findall(flow.model_dump_json(by_alias=True, exclude_unset=True)))
    return tuple(sorted(key for key in keys if len(key) <= _MAX_INFERRED_LENGTH)[:_MAX_INFERRED])


def plan_params(flow: Flow, *, is_scheduled: bool) -> tuple[ParamPlan, ...]:
    """Return the properties of ``airflow.inputSchema`` as params; without one, the keys that the flow reads.

    Airflow refuses a run whose payload lacks a required property, or has an invalid one. What the
    schema says about the payload as a whole is checked by the run's first task. A Dag with a schedule must
    not have required params: there that task checks these too.
    """
    schema = flow.airflow.input_schema
    if schema is None:
        return tuple(_any_json(name) for name in inferred_inputs(flow))
    required = frozenset() if is_scheduled else frozenset(schema.get("required", ()))
    properties: dict[str, Any] = {
        name: {} for name in schema.get("required", ()) if schema.get("additionalProperties") is not False
    }
    properties |= declared_properties(schema)
    return tuple(
        _param(schema, name, part, is_required=name in required)
        for name, part in properties.items()
        if part is not False
    )


def _any_json(name: str) -> ParamPlan:
    return ParamPlan(
        name,
        schema={"type": _ANY_JSON, "title": name},
        description=f"`{name}` of the payload: any JSON value. Empty means null.",
    )


def _param(schema: Mapping[str, Any], name: str, part: Any, *, is_required: bool) -> ParamPlan:
    declared = part if isinstance(part, dict) else {}
    rules = _self_contained(schema, declared)
    rules.setdefault("title", name)
    if not is_required and not takes_null(schema, part):
        # An empty field of the form is null.
        rules = _or_null(rules)
    if "type" not in rules and "enum" not in rules:
        rules["type"] = _ANY_JSON
    return ParamPlan(
        name,
        schema=rules,
        description=declared.get("description"),
        is_required=is_required and "default" not in declared,
        default=declared.get("default"),
    )


def _self_contained(schema: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a property's schema with the definitions that it refers to."""
    rules = {key: value for key, value in part.items() if key not in _ARGUMENTS_OF_PARAM}
    references = local_references(part)
    if references:
        around = {key: schema[key] for key in _DEFINITIONS if key in schema}
        references |= local_references(around)
        if not all(reference.startswith(_DEFINITION_PREFIXES) for reference in references):
            # It refers to more than definitions: only the check of the whole payload covers it.
            return {key: rules[key] for key in ("title", "type") if key in rules}
        rules |= around
    if "$schema" in schema:
        rules["$schema"] = schema["$schema"]
    return rules


_TYPELESS_KEYWORDS: Final = frozenset(
    {"const", "$ref", "$dynamicRef", "not", "if", "allOf", "anyOf", "oneOf"}
)
"""Keywords that can accept or reject null whatever ``type`` says."""


def _or_null(rules: dict[str, Any]) -> dict[str, Any]:
    if _TYPELESS_KEYWORDS.isdisjoint(rules):
        more: dict[str, Any] = {}
        if "type" in rules:
            kinds = rules["type"]
            more["type"] = [*([kinds] if isinstance(kinds, str) else kinds), "null"]
        if "enum" in rules and None not in rules["enum"]:
            more["enum"] = [*rules["enum"], None]
        return rules | more
    around: dict[str, Any] = {key: rules[key] for key in (*_DEFINITIONS, "$schema", "title") if key in rules}
    inner = {key: value for key, value in rules.items() if key not in around}
    return {**around, "anyOf": [inner, {"type": "null"}], "type": _ANY_JSON}
