"""The JSON Schema of flow files, for editors."""

from __future__ import annotations

from typing import Any

from airflow_allma.flow.models import Flow
from airflow_allma.flow.normalize import ALIASES, MAPPING_FIELDS
from airflow_allma.flow.steps import STEP_MODELS

__all__ = ["SCHEMA_ID", "STRICT_SCHEMA_ID", "json_schema"]

SCHEMA_ID = "urn:airflow-allma:schema:flow"
STRICT_SCHEMA_ID = "urn:airflow-allma:schema:flow-strict"

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_STEP = {"$ref": "#/$defs/Step"}
_BRANCH_BEGINNINGS = ("stepInstanceId", "startStepInstanceId", "startStep", "subFlowDefinitionId")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a flow file; a new object at each call.

    It accepts every flow file that loads, and rejects wrong types, missing fields and unknown values. Only
    the loader checks what spans several fields (names of steps, expressions).
    """
    schema = _tidied(Flow.model_json_schema(by_alias=True, mode="validation"))
    definitions = schema["$defs"]
    for model in STEP_MODELS.values():
        step = definitions[model.__name__]
        # The key in `steps` fills it.
        step["required"] = [field for field in step["required"] if field != "stepInstanceId"]
    for definition in definitions.values():
        for field in MAPPING_FIELDS & definition.get("properties", {}).keys():
            # An object of paths is another way to write dotted targets.
            mappings = definition["properties"][field]
            mappings["additionalProperties"] = {
                "anyOf": [mappings["additionalProperties"], {"type": "object"}]
            }
    definitions["Step"] = _any_step()
    branch = definitions["ParallelBranch"]
    branch["anyOf"] = [{"required": [field]} for field in _BRANCH_BEGINNINGS]
    branch["properties"]["steps"]["anyOf"].append({"type": "array", "items": _STEP})
    schema["properties"]["$schema"] = {
        "type": "string",
        "description": "Location of this schema, for the editor.",
    }
    return {"$schema": _DIALECT, "$id": SCHEMA_ID, "title": "Allma flow", **schema}


def _any_step() -> dict[str, Any]:
    """Return the schema of any step.

    It has conditions in place of one large union: editors then name the wrong field.
    """
    return {
        "description": "A step; its fields depend on its stepType.",
        "type": "object",
        "properties": {
            "stepType": {
                "enum": [*map(str, STEP_MODELS), *ALIASES],
                "description": "What the step does.",
            }
        },
        "anyOf": [{"required": ["stepType"]}, {"required": ["stepDefinitionId"]}],
        "allOf": [
            {"if": _is_type(str(kind)), "then": {"$ref": f"#/$defs/{model.__name__}"}}
            for kind, model in STEP_MODELS.items()
        ],
    }


def _is_type(kind: str) -> dict[str, Any]:
    # A step that inherits can lack fields of its definition, so none can be required here.
    return {
        "properties": {"stepType": {"const": kind}, "stepDefinitionId": {"type": "null"}},
        "required": ["stepType"],
    }


def _tidied(schema: Any) -> Any:
    """Return a schema without generated titles, with a reference in place of the union of all steps."""
    if isinstance(schema, list):
        return [_tidied(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    if "discriminator" in schema:
        return _STEP
    return {
        key: _tidied(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
