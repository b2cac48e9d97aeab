"""The strict JSON Schema of flow files: no unknown fields, and patterns for paths."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from airflow_allma.flow.expression_fields import Kind, fields_with_expressions
from airflow_allma.flow.normalize import MESSAGING
from airflow_allma.flow.schema import STRICT_SCHEMA_ID, json_schema
from airflow_allma.flow.steps import STEP_MODELS, StepType
from airflow_allma.flow.tree_walk import ANY, Pattern

__all__ = ["strict_json_schema"]

_PATH: Final = {"pattern": r"^\$($|[.\[])"}
_PATH_BELOW_ROOT: Final = {"pattern": r"^\$[.\[]"}
_TARGET: Final = {"pattern": r"^(?!\$[.\[])[^.](.*[^.])?$"}

_VALUES: Final[Mapping[Kind, dict[str, str]]] = MappingProxyType({Kind.PATH: _PATH, Kind.SOURCE: _PATH})
_KEYS: Final[Mapping[Kind, dict[str, str]]] = MappingProxyType(
    {Kind.TARGETS: _TARGET, Kind.PATH_KEYS: _PATH_BELOW_ROOT}
)
_WRITTEN_BY_EDITORS: Final = {"ParallelBranch": "icon"}
"""Fields that visual editors write and no model has."""


def strict_json_schema() -> dict[str, Any]:
    """Return the strict JSON Schema (draft 2020-12) of a flow file; a new object at each call.

    It rejects what ``json_schema`` does and, in addition, fields that are not part of the language, and
    strings that cannot be a path where one is expected. The loader accepts some of these: it keeps unknown
    fields.
    """
    schema = json_schema()
    schema["$id"] = STRICT_SCHEMA_ID
    schema["title"] += ", strict"
    definitions: dict[str, Any] = schema["$defs"]
    for definition in (schema, *definitions.values()):
        if "properties" in definition and definition.get("additionalProperties") is True:
            definition["additionalProperties"] = False
    for name, field in _WRITTEN_BY_EDITORS.items():
        definitions[name]["properties"][field] = {"description": "For visual editors."}
    for kind, model in STEP_MODELS.items():
        _add_patterns(definitions[model.__name__], str(kind), definitions)
    _add_patterns(schema, None, definitions)
    definitions["Step"]["allOf"] = _step_rules(definitions)
    return schema


def _step_rules(definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a step must match, by its type; a step that inherits can lack required fields."""
    rules: list[dict[str, Any]] = []
    for kind, model in STEP_MODELS.items():
        is_kind = {"properties": {"stepType": {"const": str(kind)}}, "required": ["stepType"]}
        inherits = {"properties": {"stepDefinitionId": {"type": "string"}}, "required": ["stepDefinitionId"]}
        required = definitions[model.__name__].pop("required")
        rules.append({"if": is_kind, "then": {"$ref": f"#/$defs/{model.__name__}"}})
        rules.append({"if": {"allOf": [is_kind, {"not": inherits}]}, "then": {"required": required}})
    messages = _fields(definitions, StepType.SNS_PUBLISH, StepType.SQS_SEND)
    rules.append(
        {
            "if": {"properties": {"stepType": {"const": MESSAGING}}, "required": ["stepType"]},
            "then": {"propertyNames": {"enum": messages}},
        }
    )
    rules.append(
        {
            "if": {"not": {"required": ["stepType"]}},
            "then": {"propertyNames": {"enum": _fields(definitions, *STEP_MODELS)}},
        }
    )
    return rules


def _fields(definitions: Mapping[str, Any], *kinds: StepType) -> list[str]:
    names = (definitions[STEP_MODELS[kind].__name__]["properties"] for kind in kinds)
    return list(dict.fromkeys(field for properties in names for field in properties))


def _add_patterns(schema: dict[str, Any], step_type: str | None, definitions: Mapping[str, Any]) -> None:
    for kind, pattern in fields_with_expressions(step_type):
        if kind in _VALUES:
            _restrict(schema, pattern, _VALUES[kind], definitions, keys=False)
        elif kind in _KEYS:
            _restrict(schema, pattern, _KEYS[kind], definitions, keys=True)


def _restrict(
    schema: dict[str, Any],
    pattern: Pattern,
    rule: Mapping[str, str],
    definitions: Mapping[str, Any],
    *,
    keys: bool,
) -> None:
    """Add a rule to the strings that a pattern leads to, or to the keys of the objects."""
    if "$ref" in schema:
        _restrict(definitions[schema["$ref"].rpartition("/")[2]], pattern, rule, definitions, keys=keys)
    for member in schema.get("anyOf", ()):
        _restrict(member, pattern, rule, definitions, keys=keys)
    if not pattern:
        if keys and schema.get("type") == "object":
            schema["propertyNames"] = dict(rule)
        elif not keys and schema.get("type") == "string":
            schema.update(rule)
        return
    field, rest = pattern[0], pattern[1:]
    following = _members(schema) if field == ANY else [schema.get("properties", {}).get(field)]
    if following == [None] and not rest and schema.get("additionalProperties") is True:
        # A member of an object whose other members are free, such as customConfig.requestBodyPath.
        following = [schema.setdefault("properties", {}).setdefault(field, {"type": "string"})]
    for member in following:
        if isinstance(member, dict):
            _restrict(member, rest, rule, definitions, keys=keys)


def _members(schema: Mapping[str, Any]) -> list[Any]:
    return [*schema.get("properties", {}).values(), schema.get("additionalProperties"), schema.get("items")]
