"""The JSON Schemas that the package ships as files, and how to write them again after a change of models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

__all__ = ["SCHEMA_FOLDER", "read_schema", "schema_file", "write_schemas"]

SCHEMA_FOLDER: Final = Path(__file__).parent / "schemas"
"""Contains ``flow.schema.json`` and ``flow-strict.schema.json``."""


def schema_file(*, strict: bool) -> Path:
    """Return the path of a shipped schema."""
    return SCHEMA_FOLDER / ("flow-strict.schema.json" if strict else "flow.schema.json")


def read_schema(*, strict: bool) -> str:
    """Return a shipped schema: JSON, indented, with a line feed at the end."""
    return schema_file(strict=strict).read_text(encoding="utf-8")


def schema_text(schema: dict[str, Any]) -> str:
    """Return a schema in the form of the files."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write_schemas() -> None:
    """Write both files from the models; ``make schemas`` calls this."""
    from airflow_allma.flow.schema import json_schema
    from airflow_allma.flow.strict_schema import strict_json_schema

    SCHEMA_FOLDER.mkdir(exist_ok=True)
    for strict, schema in ((False, json_schema()), (True, strict_json_schema())):
        schema_file(strict=strict).write_text(schema_text(schema), encoding="utf-8")
