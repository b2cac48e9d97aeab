"""Reads the settings of ``[allma]`` from Airflow's configuration."""

from __future__ import annotations

from typing import Any

from airflow_allma.flow import AirflowOptions
from airflow_allma.settings import OPTIONS, SECTION, AllmaSettings

__all__ = ["integer_setting", "load_settings"]


def load_settings(own: AirflowOptions | None = None) -> AllmaSettings:
    """Read the settings from Airflow's configuration, in any process.

    Args:
        own: the flow's ``airflow`` object, whose values override.

    Raises:
        AirflowConfigException: an integer option is not a number; the message names the option.
    """
    from airflow.sdk import conf

    configured: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        if getattr(own, name, None) is not None:
            continue
        if option.kind == "integer":
            configured[name] = integer_setting(name)
        else:
            configured[name] = conf.get(SECTION, name, fallback=option.default) or ""
    max_map_length = conf.getint("core", "max_map_length", fallback=1024)
    return AllmaSettings.from_values(configured, own, max_map_length=max_map_length)


def integer_setting(name: str) -> int:
    """Read one number of ``[allma]``.

    Raises:
        AirflowConfigException: it is not a number; the message names the option.
    """
    from airflow.sdk import conf

    return int(conf.getint(SECTION, name, fallback=int(OPTIONS[name].default)))
