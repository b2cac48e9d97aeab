"""The configuration of a throwaway Airflow: one folder, loopback only, short intervals."""

from __future__ import annotations

import base64
import configparser
import io
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Sections = dict[str, dict[str, str]]

SQLITE_MAX_PARALLELISM = 4
SQLITE_BUSY_SECONDS = 60


@dataclass(frozen=True)
class InstanceSettings:
    """The settings that differ between instances."""

    home: Path
    """`AIRFLOW_HOME`: configuration, logs, and the database when it is SQLite."""
    dags: tuple[Path, ...]
    """Dag folders, one bundle each."""
    port: int
    """Loopback port of the API server and the UI."""
    database_url: str
    """SQLAlchemy URL of the metadata database."""
    executor: str
    parallelism: int
    """Maximum number of running tasks in the whole instance."""
    user: str
    """Name of the only user, an administrator."""

    @property
    def base_url(self) -> str:
        """Address of the UI and the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def password_file(self) -> Path:
        """The file in which we put the passwords for SimpleAuthManager."""
        return self.home / "passwords.json"


def sqlite_url(file: Path) -> str:
    """Return the SQLAlchemy URL of a SQLite file; writers wait for each other instead of failing."""
    return f"sqlite:///{file.resolve()}?timeout={SQLITE_BUSY_SECONDS}"


def bounded_parallelism(requested: int | None, database_url: str) -> int:
    """Return how many tasks can run at once: `requested` or 8, at most 4 on SQLite, which has one writer."""
    if database_url.startswith("sqlite"):
        return min(requested or SQLITE_MAX_PARALLELISM, SQLITE_MAX_PARALLELISM)
    return requested or 8


def bundles(dags: Sequence[Path]) -> str:
    """Return `[dag_processor] dag_bundle_config_list`; the first is `dags-folder`, Airflow's default name."""
    return json.dumps(
        [
            {
                "name": "dags-folder" if number == 0 else f"{folder.name}-{number}",
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(folder.resolve()), "refresh_interval": 1},
            }
            for number, folder in enumerate(dags)
        ]
    )


def database_settings(database_url: str) -> Sections:
    """Return the settings that locate the database and keep the examples out of it."""
    return {
        "core": {"load_examples": "False", "fernet_key": _fernet_key()},
        "database": {"sql_alchemy_conn": database_url, "load_default_connections": "False"},
        "usage_data_collection": {"enabled": "False"},
    }


def instance_settings(settings: InstanceSettings) -> Sections:
    """Return the whole configuration of an instance."""
    sections = database_settings(settings.database_url)
    own: Sections = {
        "core": {
            "dags_folder": str(settings.dags[0].resolve()),
            "plugins_folder": str(settings.home / "plugins"),
            "executor": settings.executor,
            "parallelism": str(settings.parallelism),
            # one Dag can use every slot, since tests check the flows' own limits
            "max_active_tasks_per_dag": str(settings.parallelism),
            "dags_are_paused_at_creation": "False",
            "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "simple_auth_manager_users": f"{settings.user}:admin",
            "simple_auth_manager_passwords_file": str(settings.password_file),
            "execution_api_server_url": f"{settings.base_url}/execution/",
            # the default does a DNS lookup
            "hostname_callable": "socket.gethostname",
            "min_serialized_dag_update_interval": "0",
            "killed_task_cleanup_time": "5",
        },
        "api": {
            "host": "127.0.0.1",
            "port": str(settings.port),
            "base_url": settings.base_url,
            "secret_key": secrets.token_hex(24),
            "maximum_page_limit": "1000",
        },
        "api_auth": {"jwt_secret": secrets.token_urlsafe(48), "jwt_issuer": "allma"},
        "scheduler": {
            "scheduler_idle_sleep_time": "0.1",
            # notice killed task processes soon
            "task_instance_heartbeat_timeout": "30",
            "task_instance_heartbeat_timeout_detection_interval": "5",
            "parsing_cleanup_interval": "5",
            # end waits for events soon after their deadline (default: 15 s)
            "trigger_timeout_check_interval": "3",
        },
        "dag_processor": {
            "dag_bundle_config_list": bundles(settings.dags),
            "dag_bundle_storage_path": str(settings.home / "bundles"),
            "refresh_interval": "1",
            "bundle_refresh_check_interval": "1",
            "min_file_process_interval": "2",
            "parsing_processes": "1",
            "stale_dag_threshold": "5",
        },
        # a supervisor that misses the end of its task holds the slot for this long (default: 5 s)
        "workers": {"min_heartbeat_interval": "1"},
        "logging": {
            "base_log_folder": str(settings.home / "logs"),
            "dag_processor_child_process_log_directory": str(settings.home / "logs" / "dag_processor"),
            "colored_console_log": "False",
            # one line per request and per folder scan would hide everything else
            "namespace_levels": "http.access=WARNING airflow.dag_processing.manager=WARNING",
        },
    }
    return merged(sections, own)


def merged(base: Mapping[str, Mapping[str, str]], extra: Mapping[str, Mapping[str, object]]) -> Sections:
    """Return `base`, overridden with the options of `extra`."""
    result = {name: dict(options) for name, options in base.items()}
    for name, options in extra.items():
        result.setdefault(name, {}).update({key: str(value) for key, value in options.items()})
    return result


def write_config(file: Path, sections: Sections) -> None:
    """Write an airflow.cfg that only the owner can read, since it has keys."""
    parser = configparser.RawConfigParser()
    parser.read_dict({name: _escape_percent(options) for name, options in sections.items()})
    content = io.StringIO()
    parser.write(content)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(content.getvalue())


def _escape_percent(options: Mapping[str, str]) -> dict[str, str]:
    return {key: value.replace("%", "%%") for key, value in options.items()}


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
