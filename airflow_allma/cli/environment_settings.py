"""Settings of ``[allma]`` in the environment, in Airflow's form: ``AIRFLOW__ALLMA__MAX_STEP_WORK``."""

from __future__ import annotations

import os
from typing import Any

from airflow_allma.settings import MODEL_SETTINGS, OPTIONS, SECTION

__all__ = ["environment_setting", "environment_variable", "model_settings"]


def environment_variable(name: str) -> str:
    """Return the name of the variable that sets a setting."""
    return f"AIRFLOW__{SECTION}__{name}".upper()


def environment_setting(name: str) -> str:
    """Return the value of a setting in the environment, or its default."""
    return os.environ.get(environment_variable(name), OPTIONS[name].default)


def model_settings() -> dict[str, Any]:
    """Return the settings of steps that call language models, by name."""
    settings: dict[str, Any] = {name: environment_setting(name) for name in MODEL_SETTINGS}
    settings["llm_cache"] = settings["llm_cache"].strip().lower() in {"true", "t", "1"}
    return settings
