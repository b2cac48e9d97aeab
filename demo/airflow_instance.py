"""A real Airflow in its own folder, for the demo, the tests and the benchmarks."""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from demo.airflow_client import AirflowClient
from demo.airflow_config import (
    InstanceSettings,
    bounded_parallelism,
    instance_settings,
    merged,
    write_config,
)
from demo.celery_workers import answering_workers, celery_settings, worker_command
from demo.metadata_db import DatabaseCache, new_postgres, new_sqlite
from demo.postgres import PostgresServer
from demo.processes import ManagedProcess, ServerError, clean_environment, free_port, stop_all, wait_until
from demo.redis_server import RedisServer

Database = Literal["sqlite", "postgresql"]
Mode = Literal["components", "standalone"]

USER = "admin"
START_SECONDS = 180.0
# short: nothing here needs a clean shutdown, and a scheduler would wait for all of its running tasks
STOP_GRACE_SECONDS = 3.0
COMPONENTS = {
    "api-server": ["api-server"],
    # all components share the log folder; a log server would listen on all interfaces
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
HEALTH_KEYS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
STANDALONE_WRAPPER = """#!/bin/sh
# What `airflow standalone` starts: this interpreter's Airflow, without log servers on all interfaces.
case "$1" in
  scheduler|triggerer) exec "{python}" -m airflow "$@" --skip-serve-logs ;;
  *) exec "{python}" -m airflow "$@" ;;
esac
"""


class AirflowInstance:
    """One Airflow: database, API server with UI, scheduler, Dag processor; optionally triggerer and workers.

    Args:
        home: its folder (`AIRFLOW_HOME`), created if missing. All files are written there, except the data
            of PostgreSQL, which is in the system's temporary folder.
        dags: Dag folders, at least one.
        database: "postgresql" starts a throwaway server, unless `postgres` is passed.
        executor: as in `[core] executor`.
        workers: number of Celery workers; they need PostgreSQL, and start a throwaway Redis. They share
            `parallelism` evenly, unless `config` has `[celery] worker_concurrency`.
        parallelism: maximum number of running tasks; 8 by default, at most 4 on SQLite.
        config: additional options, by section and key.
        env: additional environment variables for all components.
        connections: Airflow connections by id, each a dict as in Airflow's JSON form.
        triggerer: whether to start one (standalone always does).
        mode: "components" runs each component as a separate process; "standalone" runs `airflow standalone`.
        postgres: a running server to use; it is not stopped.
        cache: a cache of migrated databases, which saves 4 s.
    """

    def __init__(
        self,
        home: Path,
        dags: Sequence[Path],
        *,
        database: Database = "sqlite",
        executor: str = "LocalExecutor",
        workers: int = 0,
        parallelism: int | None = None,
        config: Mapping[str, Mapping[str, object]] | None = None,
        env: Mapping[str, str] | None = None,
        connections: Mapping[str, Mapping[str, Any]] | None = None,
        triggerer: bool = False,
        mode: Mode = "components",
        postgres: PostgresServer | None = None,
        cache: DatabaseCache | None = None,
    ) -> None:
        if not dags:
            raise ServerError("At least one Dag folder is required.")
        if (executor == "CeleryExecutor") != (workers > 0):
            raise ServerError("The CeleryExecutor needs workers; other executors must not have any.")
        if workers and (database == "sqlite" or mode == "standalone"):
            raise ServerError("Celery workers need database='postgresql' and mode='components'.")
        self.home = home.resolve()
        self.dags = tuple(folder.resolve() for folder in dags)
        self.database: Database = database
        self.user = USER
        self.password = secrets.token_urlsafe(12)
        self.timings: dict[str, float] = {}
        self._executor = executor
        self._parallelism = parallelism
        self._extra_config = config or {}
        self._extra_env = dict(env or {})
        self._connections = connections or {}
        self._mode: Mode = mode
        self._triggerer = triggerer or mode == "standalone"
        self._postgres = postgres
        self._own_postgres: PostgresServer | None = None
        self._workers = {f"worker-{number}": worker_command(f"worker-{number}") for number in range(workers)}
        self._redis: RedisServer | None = None
        self._cache = cache
        self._settings: InstanceSettings | None = None
        self._processes: list[ManagedProcess] = []
        self._client: AirflowClient | None = None

    def start(self) -> Self:
        """Start all components and wait until they are healthy; `timings` then has the seconds of each stage.

        Raises:
            ServerError: a component did not become healthy; the message has the ends of the logs. All
                components are stopped again.
        """
        try:
            begin = time.monotonic()
            database_url = self._prepare_database()
            self.timings["database"] = time.monotonic() - begin
            self._configure(database_url)
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def _prepare_database(self) -> str:
        self.home.mkdir(parents=True, exist_ok=True)
        if self.database == "sqlite":
            return new_sqlite(self.home / "airflow.db", self._cache)
        server = self._postgres
        if server is None:
            server = self._own_postgres = PostgresServer(self.home / "logs" / "postgres.log").start()
        return new_postgres(server, f"airflow_{secrets.token_hex(4)}", self._cache)

    def _configure(self, database_url: str) -> None:
        for folder in (*self.dags, self.home / "plugins"):
            folder.mkdir(parents=True, exist_ok=True)
        settings = InstanceSettings(
            home=self.home,
            dags=self.dags,
            port=free_port(),
            database_url=database_url,
            executor=self._executor,
            parallelism=bounded_parallelism(self._parallelism, database_url),
            user=self.user,
        )
        self._settings = settings
        sections = instance_settings(settings)
        if self._workers:
            self._redis = RedisServer(self.home / "logs" / "redis.log").start()
            slots = max(1, settings.parallelism // len(self._workers))
            sections |= celery_settings(self._redis.url, database_url, slots)
        write_config(self.home / "airflow.cfg", merged(sections, self._extra_config))
        settings.password_file.touch(mode=0o600)
        settings.password_file.write_text(json.dumps({self.user: self.password}))

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every component; a command with it works on this Airflow."""
        connections = {
            f"AIRFLOW_CONN_{name.upper()}": json.dumps(dict(value))
            for name, value in self._connections.items()
        }
        own = {"AIRFLOW_HOME": str(self.home), "HOME": str(self.home), "PYTHONUNBUFFERED": "1"}
        return clean_environment(own | connections | self._extra_env)

    def _launch(self) -> None:
        begin = time.monotonic()
        self._processes = self._standalone() if self._mode == "standalone" else self._components()
        for process in self._processes:
            process.start()
        names = [name for name in COMPONENTS if name != "triggerer" or self._triggerer]
        pending = set(names)

        def healthy() -> bool:
            status = self.client.health()
            for name in sorted(pending):
                if status is not None and status.get(HEALTH_KEYS.get(name, "metadatabase")) == "healthy":
                    self.timings[name] = time.monotonic() - begin
                    pending.discard(name)
            return not pending and self._workers_answer(begin)

        wait_until(healthy, what="Airflow", processes=self._processes, timeout=START_SECONDS)
        self.timings["start"] = time.monotonic() - begin

    def _workers_answer(self, begin: float) -> bool:
        """Return whether all Celery workers answer; True without workers."""
        if self._redis is None:
            return True
        pending = [name for name in self._workers if name not in self.timings]
        for name in answering_workers(self._redis.url, pending):
            self.timings[name] = time.monotonic() - begin
        return all(name in self.timings for name in self._workers)

    def _components(self) -> list[ManagedProcess]:
        return [
            self._process(name, [sys.executable, "-m", "airflow", *arguments], self.environment)
            for name, arguments in (COMPONENTS | self._workers).items()
            if name != "triggerer" or self._triggerer
        ]

    def _standalone(self) -> list[ManagedProcess]:
        wrapper = self.home / "bin" / "airflow"
        wrapper.parent.mkdir(exist_ok=True)
        wrapper.write_text(STANDALONE_WRAPPER.format(python=sys.executable))
        wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
        environment = self.environment
        environment["PATH"] = f"{wrapper.parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
        return [self._process("standalone", [wrapper, "standalone"], environment)]

    def _process(self, name: str, command: Sequence[str | Path], env: dict[str, str]) -> ManagedProcess:
        return ManagedProcess(
            name,
            command,
            log=self.home / "logs" / f"{name}.log",
            env=env,
            cwd=self.home,
            grace=STOP_GRACE_SECONDS,
        )

    @property
    def base_url(self) -> str:
        """Address of the UI and the API."""
        if self._settings is None:
            raise ServerError("This Airflow was not started.")
        return self._settings.base_url

    @property
    def parallelism(self) -> int:
        """Maximum number of running tasks."""
        if self._settings is None:
            raise ServerError("This Airflow was not started.")
        return self._settings.parallelism

    @property
    def client(self) -> AirflowClient:
        """A client of the REST API, which signs in on its first call."""
        if self._client is None:
            self._client = AirflowClient(self.base_url, self.user, self.password)
        return self._client

    @property
    def processes(self) -> list[ManagedProcess]:
        """The components' processes."""
        return list(self._processes)

    @property
    def workers(self) -> list[ManagedProcess]:
        """The Celery workers' processes."""
        return [process for process in self._processes if process.name in self._workers]

    @property
    def redis(self) -> RedisServer:
        """The broker of the Celery workers."""
        if self._redis is None:
            raise ServerError("This Airflow does not have Celery workers.")
        return self._redis

    def log_tails(self, lines: int = 30) -> str:
        """Return the last lines of every component's log."""
        return "\n".join(process.tail(lines) for process in self._processes)

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not stopped since."""
        return bool(self._processes)

    def stop(self) -> None:
        """Stop all components and wait until their processes are gone; calling it again does nothing.

        Raises:
            ServerError: a process did not stop.
        """
        try:
            if self._client:
                self._client.close()
            stop_all(self._processes)
        finally:
            self._client = None
            self._processes = []
            for server in (self._redis, self._own_postgres):
                if server:
                    server.stop()
            self._redis = self._own_postgres = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
