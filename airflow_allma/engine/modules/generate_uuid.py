"""``system/generate-uuid``: a random UUID with a prefix and a suffix."""

from __future__ import annotations

import uuid

from airflow_allma.engine.modules.definition import ModuleInput

__all__ = ["GenerateUuidInput", "generate_uuid"]


class GenerateUuidInput(ModuleInput):
    """Input of ``system/generate-uuid``."""

    prefix: str | None = None
    suffix: str | None = None


def generate_uuid(inputs: GenerateUuidInput) -> dict[str, str]:
    """Return ``{"uuid": prefix + random UUID + suffix}``."""
    return {"uuid": f"{inputs.prefix or ''}{uuid.uuid4()}{inputs.suffix or ''}"}
