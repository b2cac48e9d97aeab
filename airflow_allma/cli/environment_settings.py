"""Settings of ``[allma]`` in the environment, in Airflow's form: ``AIRFLOW__ALLMA__MAX_STEP_WORK``."""

from __future__ import annotations

import os
from typing import Any, Final

from airflow_allma.cli.json_options import UsageError
from airflow_allma.settings import MODEL_SETTINGS, OPTIONS, SECTION

__all__ = ["boolean_setting", "environment_setting", "environment_variable", "model_settings"]

_BOOLEANS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def environment_variable(name: str) -> str:
    """Return the name of the variable that sets a setting."""
    return f"AIRFLOW__{SECTION}__{name}".upper()


def environment_setting(name: str) -> str:
    """Return the value of a setting in the environment, or its default."""
    return os.environ.get(environment_variable(name), OPTIONS[name].default)


def boolean_setting(name: str) -> bool:
    """Return the value of a setting in the environment, read as Airflow does, or its default.

    Raises:
        UsageError: it is neither true nor false.
    """
    value = environment_setting(name)
    if (known := _BOOLEANS.get(value.strip().lower())) is None:
        raise UsageError(f"{environment_variable(name)} must be True or False; it is {value[:40]!r}")
    return known


def model_settings() -> dict[str, Any]:
    """Return the settings of steps that call language models, by name; raise as ``boolean_setting``."""
    settings: dict[str, Any] = {name: environment_setting(name) for name in MODEL_SETTINGS}
    settings["llm_cache"] = boolean_setting("llm_cache")
    return settings
