"""Settings of ``[allma]`` in the environment, in Airflow's form: ``AIRFLOW__ALLMA__MAX_STEP_WORK``."""

from __future__ import annotations

import os

from airflow_allma.settings import OPTIONS, SECTION

__all__ = ["environment_setting", "environment_variable"]


def environment_variable(name: str) -> str:
    """Return the name of the variable that sets a setting."""
    return f"AIRFLOW__{SECTION}__{name}".upper()


def environment_setting(name: str) -> str:
    """Return the value of a setting in the environment, or its default."""
    return os.environ.get(environment_variable(name), OPTIONS[name].default)
