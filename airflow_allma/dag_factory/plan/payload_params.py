"""The payload that a flow expects, as the fields of Airflow's trigger form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from airflow_allma.flow import Flow
from airflow_allma.flow.input_schema import declared_properties, takes_null
from airflow_allma.flow.regex_cost import pattern_degree
from airflow_allma.flow.schema_tree import SchemaTree, Subschema, expand

__all__ = ["ParamPlan", "inferred_inputs", "plan_params"]

_READS: Final = re.compile(r"initialContextData(?:\.|\[\\?['\"])([A-Za-z_][A-Za-z0-9_-]*)")

# "object" comes first: the form then shows a field for JSON, whatever the value is.
_ANY_JSON: Final = ["object", "array", "string", "number", "boolean", "null"]

# Each serialized task repeats the params of its Dag, and a form of a thousand fields is of no use.
_MAX_INFERRED: Final = 100
_MAX_INFERRED_LENGTH: Final = 200

_DEFINITIONS: Final = ("$defs", "definitions")
_DEFINITION: Final = re.compile(r"#/(\$defs|definitions)/([^/]+)")

_MAX_EXPANDED: Final = 1_000
_MAX_DEGREE: Final = 2
_MAX_DEFINITION_BYTES: Final = 1_000_000
"""Maximum bytes of definitions of all fields together: each field has its own copy of those that it needs."""

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
    rules = _ParamRules(schema)
    return tuple(
        _param(rules, name, part, is_required=name in required)
        for name, part in properties.items()
        if part is not False
    )


def _any_json(name: str) -> ParamPlan:
    return ParamPlan(
        name,
        schema={"type": _ANY_JSON, "title": name},
        description=f"`{name}` of the payload: any JSON value. Empty means null.",
    )


def _param(rules_of: _ParamRules, name: str, part: Any, *, is_required: bool) -> ParamPlan:
    declared = part if isinstance(part, dict) else {}
    rules = rules_of.property_rules(declared)
    rules.setdefault("title", name)
    if not is_required and not takes_null(rules_of.schema, part):
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


class _ParamRules:
    """The schemas of a payload's properties, as params have them.

    Airflow checks params in the API server and the scheduler, with jsonschema as it is: nothing there bounds
    the work of a check. So a param has only rules that are cheap for every value. What it leaves out is
    checked by the run's first task.

    Args:
        schema: the schema of the payload.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self._tree = SchemaTree(schema)
        self._definition_bytes = 0

    def property_rules(self, part: Mapping[str, Any]) -> dict[str, Any]:
        """Return a property's schema with the definitions that it needs, or only its title and type."""
        if not self._is_cheap(part):
            return {key: part[key] for key in ("title", "type") if key in part}
        rules = {key: value for key, value in part.items() if key not in _ARGUMENTS_OF_PARAM}
        rules |= self._definitions(self._reached(part))
        if "$schema" in self.schema:
            rules["$schema"] = self.schema["$schema"]
        return rules

    def _is_cheap(self, part: Mapping[str, Any]) -> bool:
        try:
            size, is_recursive = expand(self._tree, part, _MAX_EXPANDED)
        except RecursionError:
            return False
        if is_recursive or size > _MAX_EXPANDED:
            return False
        reached = self._reached(part)
        references = [reference for one in reached for _, reference in one.references()]
        if not all(map(_DEFINITION.match, references)) or any("$id" in one.schema for one in reached):
            # It refers to more than definitions.
            return False
        if not all(map(_is_cheap_by_itself, reached)):
            return False
        if references:
            self._definition_bytes += len(str(self._definitions(reached)))
        return self._definition_bytes <= _MAX_DEFINITION_BYTES

    def _reached(self, part: Mapping[str, Any]) -> list[Subschema]:
        """Return the subschemas of a part, and those that it refers to."""
        reached: list[Subschema] = []
        seen: set[int] = set()
        waiting: list[Any] = [part]
        while waiting:
            one = waiting.pop()
            if id(one) in seen or not isinstance(one, Mapping):
                continue
            seen.add(id(one))
            for subschema in SchemaTree(one).subschemas:
                reached.append(subschema)
                for _, reference in subschema.references():
                    waiting += self._tree.find(reference)
        return reached

    def _definitions(self, reached: list[Subschema]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for subschema in reached:
            for _, reference in subschema.references():
                match = _DEFINITION.match(unquote(reference))
                if match is not None:
                    keyword, name = match[1], match[2].replace("~1", "/").replace("~0", "~")
                    if name in self.schema.get(keyword, {}):
                        found.setdefault(keyword, {})[name] = self.schema[keyword][name]
        return found


def _is_cheap_by_itself(subschema: Subschema) -> bool:
    schema = subschema.schema
    if schema.get("uniqueItems"):
        # Values that cannot be sorted are all compared with each other.
        return False
    named = schema.get("patternProperties")
    patterns = [*(named if isinstance(named, dict) else ()), schema.get("pattern")]
    return all(
        (pattern_degree(one) or _MAX_DEGREE + 1) <= _MAX_DEGREE for one in patterns if isinstance(one, str)
    )


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
