"""Reads the settings of ``[allma]`` from Airflow's configuration."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from airflow_allma.compat import database_is_sqlite, is_local_task
from airflow_allma.flow import AirflowOptions, DeployVariables
from airflow_allma.flow.secret_names import AllowedSecrets
from airflow_allma.settings import (
    OPTIONS,
    SECTION,
    SQLITE_DAG_DEFAULTS,
    SQLITE_DEFAULTS,
    AllmaSettings,
    names_in,
)

__all__ = [
    "allowed_notifiers",
    "allowed_secrets",
    "boolean_setting",
    "dag_limit",
    "deploy_variables",
    "external_modules",
    "integer_setting",
    "load_server_settings",
    "load_settings",
    "string_setting",
    "warn_about_sqlite",
]

_LOG: Final = logging.getLogger("airflow_allma.task")

_AIRFLOWS_DEFAULT: Final = 16
"""Airflow's own default of both limits for Dags."""
_LOCAL_EXECUTORS: Final = frozenset({"LocalExecutor", "airflow.executors.local_executor.LocalExecutor"})
_LOCAL_FOLDER: Final = "allma"


def load_settings(own: AirflowOptions | None = None) -> AllmaSettings:
    """Read the settings from Airflow's configuration, in any process.

    A task under the LocalExecutor has its own defaults: a folder for results and, on SQLite, lower limits.

    Args:
        own: the flow's ``airflow`` object, whose values override.

    Raises:
        AirflowConfigException: an integer option is not a number; the message names the option.
    """
    from airflow.sdk import conf

    configured: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        if getattr(own, name, None) is None:
            configured[name] = _READERS[option.kind](name)
    is_local = is_local_task()
    lowered = _sqlite_defaults(configured) if is_local and database_is_sqlite() else {}
    max_map_length = conf.getint("core", "max_map_length", fallback=1024)
    settings = AllmaSettings.from_values(configured | lowered, own, max_map_length=max_map_length)
    folder = _local_location() if is_local and not settings.offload_location else ""
    return settings.changed(local_location=folder, lowered=frozenset(lowered))


def load_server_settings(own: AirflowOptions | None = None) -> AllmaSettings:
    """Read the settings in the API server: where the tasks of a flow have stored their results.

    Args:
        own: the flow's ``airflow`` object, whose values override.
    """
    settings = load_settings(own)
    folder = None if settings.offload_location else _local_folder()
    # What tasks of the LocalExecutor stored is on this disk, if the API server runs on the same machine.
    found = folder.as_uri() if folder is not None and folder.is_dir() else ""
    return settings.changed(local_location=found)


def integer_setting(name: str) -> int:
    """Read one number of ``[allma]``.

    Raises:
        AirflowConfigException: it is not a number; the message names the option.
    """
    from airflow.sdk import conf

    return int(conf.getint(SECTION, name, fallback=int(OPTIONS[name].default)))


def boolean_setting(name: str) -> bool:
    """Read one boolean of ``[allma]``.

    Raises:
        AirflowConfigException: it is neither; the message names the option.
    """
    from airflow.sdk import conf

    return bool(conf.getboolean(SECTION, name, fallback=bool(OPTIONS[name].default_value)))


def allowed_secrets() -> AllowedSecrets:
    """Return the connections, Variables and queues that flows may name."""
    return AllowedSecrets(
        names_in(string_setting("allowed_connections")),
        names_in(string_setting("allowed_variables")),
        names_in(string_setting("allowed_queues")),
    )


def allowed_notifiers() -> tuple[str, ...]:
    """Return the patterns of the notifiers that flows may name."""
    return names_in(string_setting("notifiers"))


def string_setting(name: str) -> str:
    """Read one string of ``[allma]``; "" if it is empty."""
    from airflow.sdk import conf

    return conf.get(SECTION, name, fallback=OPTIONS[name].default) or ""


def external_modules() -> str:
    """Return ``external_modules``, the text of a JSON object; see ``engine.own_modules.OwnModules``."""
    return string_setting("external_modules")


def deploy_variables() -> DeployVariables:
    """Read ``deploy_variables``; never fails, see ``DeployVariables.from_setting``."""
    return DeployVariables.from_setting(string_setting("deploy_variables"))


_READERS: Final[Mapping[str, Callable[[str], Any]]] = MappingProxyType(
    {"integer": integer_setting, "boolean": boolean_setting, "string": string_setting}
)


# SQLite


def dag_limit(name: str) -> int:
    """Return a limit for a new Dag, by its name in ``[core]``: as Airflow is configured.

    Only SQLite has defaults of its own: 16 tasks at a time end in ``database is locked``, and the scheduler
    in which that happens stops.
    """
    from airflow.sdk import conf

    configured = int(conf.getint("core", name, fallback=_AIRFLOWS_DEFAULT))
    default = SQLITE_DAG_DEFAULTS[name]
    if not database_is_sqlite() or configured <= default:
        return configured
    if _is_chosen("core", name, configured, _AIRFLOWS_DEFAULT):
        _warn_about_sqlite(f"[core] {name} = {configured}", default)
        return configured
    _log_sqlite_default(name, default)
    return default


def warn_about_sqlite(settings: AllmaSettings) -> None:
    """Log each limit of a fork that is set to more than SQLite can handle; for tasks."""
    if is_local_task() and database_is_sqlite():
        for name, default in SQLITE_DEFAULTS.items():
            if getattr(settings, name) > default:
                _warn_about_sqlite(f"{name} = {getattr(settings, name)}", default)


@cache
def _log_sqlite_default(name: str, default: int) -> None:
    _LOG.info("Airflow's database is SQLite: %s of flows is %d, unless [core] %s is set", name, default, name)


@cache
def _warn_about_sqlite(setting: str, default: int) -> None:
    _LOG.warning(
        "%s is more than SQLite can handle (%d is the default there): expect 'database is locked' and a "
        "scheduler that stops. Use PostgreSQL or MySQL as Airflow's database, or remove the setting",
        setting,
        default,
    )


def _sqlite_defaults(configured: Mapping[str, Any]) -> dict[str, int]:
    """Return SQLite's own defaults of the options that are not set."""
    return {
        name: value
        for name, value in SQLITE_DEFAULTS.items()
        if name in configured and not _is_chosen(SECTION, name, configured[name], OPTIONS[name].default_value)
    }


def _is_chosen(section: str, name: str, value: object, default: object) -> bool:
    """Return whether an option was set on purpose.

    The usual default in ``airflow.cfg`` does not count: Airflow writes all defaults there when it starts for
    the first time. In the environment it does.
    """
    return value != default or f"AIRFLOW__{section}__{name}".upper() in os.environ


# The local folder


def _local_folder() -> Path | None:
    """Return the folder for results below Airflow's home; None if this deployment runs no local tasks."""
    from airflow.sdk import conf

    if conf.get("core", "executor", fallback="") not in _LOCAL_EXECUTORS:
        return None
    home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser().absolute()
    return home / _LOCAL_FOLDER


@cache
def _local_location() -> str:
    """Return the folder for results as a URI, and create it; "" if it is not for this deployment."""
    folder = _local_folder()
    if folder is None:
        return ""
    try:
        # Results can contain whatever a flow handles: only Airflow's user can read them.
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        _LOG.warning(
            "No results are stored, so that reruns repeat all items of a chunk: %s cannot be created (%s). "
            "Set [%s] offload_location",
            folder,
            error.strerror,
            SECTION,
        )
        return ""
    return folder.as_uri()
