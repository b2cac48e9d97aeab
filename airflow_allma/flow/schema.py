"""The JSON Schema of flow files, for editors."""

from __future__ import annotations

from typing import Any

from airflow_allma.flow.models import Flow
from airflow_allma.flow.normalize import MESSAGING
from airflow_allma.flow.steps import STEP_MODELS

__all__ = ["json_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_STEP = {"$ref": "#/$defs/Step"}
_BRANCH_BEGINNINGS = ("stepInstanceId", "startStepInstanceId", "startStep", "subFlowDefinitionId")


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a flow file; a new object at each call.

    It accepts every flow file that loads, and finds wrong types, missing fields and unknown values. What
    spans several fields (names of steps, expressions) only the loader finds.
    """
    schema = _tidied(Flow.model_json_schema(by_alias=True, mode="validation"))
    definitions = schema["$defs"]
    for model in STEP_MODELS.values():
        step = definitions[model.__name__]
        # The key in `steps` fills it.
        step["required"] = [field for field in step["required"] if field != "stepInstanceId"]
    definitions["Step"] = _any_step()
    branch = definitions["ParallelBranch"]
    branch["anyOf"] = [{"required": [field]} for field in _BRANCH_BEGINNINGS]
    branch["properties"]["steps"]["anyOf"].append({"type": "array", "items": _STEP})
    schema["properties"]["$schema"] = {
        "type": "string",
        "description": "Where this schema lies, for the editor.",
    }
    return {"$schema": _DIALECT, "title": "Allma flow", **schema}


def _any_step() -> dict[str, Any]:
    """A step of any type. Conditions instead of one big union: editors then name the field that is wrong."""
    return {
        "description": "A step; its fields depend on its stepType.",
        "type": "object",
        "properties": {
            "stepType": {
                "enum": [*map(str, STEP_MODELS), MESSAGING],
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
    # A step that inherits may lack what its definition gives, so nothing can be asked of it here.
    return {
        "properties": {"stepType": {"const": kind}, "stepDefinitionId": {"type": "null"}},
        "required": ["stepType"],
    }


def _tidied(schema: Any) -> Any:
    """Without generated titles, and with the union of all steps replaced by a reference to it."""
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
