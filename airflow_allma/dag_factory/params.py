"""The payload that a flow expects, as the fields of Airflow's trigger form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from airflow.sdk import Param

from airflow_allma.flow import Flow, ScheduleStartPointStep
from airflow_allma.flow.input_schema import declared_properties, local_references, takes_null

__all__ = ["inferred_inputs", "payload_params"]

_READS: Final = re.compile(r"initialContextData(?:\.|\[\\?['\"])([A-Za-z_][A-Za-z0-9_-]*)")

# "object" stands first: the form then shows a field for JSON, whatever the value is.
_ANY_JSON: Final = ["object", "array", "string", "number", "boolean", "null"]

_DEFINITIONS: Final = ("$defs", "definitions")
_DEFINED: Final = tuple(f"#/{name}/" for name in _DEFINITIONS)

# What Airflow has parameters of its own for: in a param's schema they would be given twice.
_OF_PARAM: Final = frozenset({"default", "description", "source", "self"})


def inferred_inputs(flow: Flow) -> tuple[str, ...]:
    """The keys of the payload that the flow's expressions name (``initialContextData.<key>``), sorted."""
    return tuple(sorted(set(_READS.findall(flow.model_dump_json(by_alias=True, exclude_unset=True)))))


def payload_params(flow: Flow) -> dict[str, Any]:
    """The Dag's params: the properties of ``airflow.inputSchema``; without one, the keys that the flow reads.

    Airflow refuses a run whose payload lacks a required property, or has one that does not fit. What the
    schema says of the payload as a whole the run's first task checks. Airflow lets no Dag with a schedule
    have required params: there that task checks these too.
    """
    schema = flow.airflow.input_schema
    if schema is None:
        return {name: _any_json(name) for name in inferred_inputs(flow)}
    required = frozenset() if _is_scheduled(flow) else frozenset(schema.get("required", ()))
    properties: dict[str, Any] = {
        name: {} for name in schema.get("required", ()) if schema.get("additionalProperties") is not False
    }
    properties |= declared_properties(schema)
    return {
        name: _param(schema, name, part, is_required=name in required)
        for name, part in properties.items()
        if part is not False
    }


def _is_scheduled(flow: Flow) -> bool:
    return flow.airflow.schedule is not None or any(
        isinstance(step, ScheduleStartPointStep) and step.enabled for step in flow.steps.values()
    )


def _any_json(name: str) -> Param:
    return Param(
        None,
        type=_ANY_JSON,
        title=name,
        description=f"`{name}` of the payload: any JSON value. Empty means null.",
    )


def _param(schema: Mapping[str, Any], name: str, part: Any, *, is_required: bool) -> Param:
    written = part if isinstance(part, dict) else {}
    rules = _standing_alone(schema, written)
    rules.setdefault("title", name)
    given: dict[str, Any] = {}
    if "default" in written:
        given["default"] = written["default"]
    elif not is_required:
        given["default"] = None
    if not is_required and not takes_null(schema, part):
        # An empty field of the form is null.
        rules = _or_null(rules)
    if "type" not in rules and "enum" not in rules:
        rules["type"] = _ANY_JSON
    return Param(description=written.get("description"), schema=rules, **given)


def _standing_alone(schema: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """A property's schema without the one around it."""
    rules = {key: value for key, value in part.items() if key not in _OF_PARAM}
    references = local_references(part)
    if references:
        around = {key: schema[key] for key in _DEFINITIONS if key in schema}
        references |= local_references(around)
        if not all(reference.startswith(_DEFINED) for reference in references):
            # It needs more than its definitions: left to the check of the whole payload.
            return {key: rules[key] for key in ("title", "type") if key in rules}
        rules |= around
    if "$schema" in schema:
        rules["$schema"] = schema["$schema"]
    return rules


_OF_ANY_TYPE: Final = frozenset({"const", "$ref", "$dynamicRef", "not", "if", "allOf", "anyOf", "oneOf"})
"""Keywords that say something of null whatever ``type`` says."""


def _or_null(rules: dict[str, Any]) -> dict[str, Any]:
    if _OF_ANY_TYPE.isdisjoint(rules):
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
