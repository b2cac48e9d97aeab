"""The option ``--deploy NAME=VALUE``."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from airflow_allma.cli.environment_settings import environment_setting
from airflow_allma.flow import DeployVariables

__all__ = ["read_deploy_options"]


def read_deploy_options(options: Iterable[str]) -> DeployVariables:
    """Return the values of placeholders: ``AIRFLOW__ALLMA__DEPLOY_VARIABLES``, overridden by the options.

    Raises:
        BadParameter: an option is not ``NAME=VALUE``.
    """
    values = {}
    for option in options:
        name, separator, value = option.partition("=")
        if not separator or not name.strip():
            raise typer.BadParameter(f"{option!r} is not NAME=VALUE", param_hint="--deploy")
        values[name.strip()] = value
    return DeployVariables.from_setting(environment_setting("deploy_variables")).with_values(values)
