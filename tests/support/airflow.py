"""Fixtures that run Dags: in the test process with `dag.test()`, and on a real scheduler."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from demo.airflow_client import AirflowClient
from demo.airflow_instance import AirflowInstance
from demo.metadata_db import DatabaseCache, new_sqlite
from demo.postgres import find_postgres
from demo.servers import aws_connection
from tests.support import airflow_home
from tests.support.running_airflow import RUNNING_AIRFLOW

BUNDLE = "dags-folder"
LOADER = "allma_flows.py"


@pytest.fixture(scope="session")
def database_cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DatabaseCache:
    """A cache of migrated databases, shared by xdist's workers, and kept if pytest has a cache."""
    cache = getattr(request.config, "cache", None)
    if cache is not None:
        return DatabaseCache(Path(cache.mkdir("airflow-database")))
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base
    return DatabaseCache(shared / "airflow-database")


# in the test process


@dataclass(frozen=True)
class TaskResult:
    """One task instance of a run of `dag.test()`."""

    task_id: str
    map_index: int
    """-1 for a task that is not mapped."""
    state: str | None
    label: str | None
    """The rendered map index."""
    try_number: int


@dataclass(frozen=True)
class RunResult:
    """The result of a run of `dag.test()`."""

    state: str
    run_id: str
    tasks: tuple[TaskResult, ...]
    """Sorted by task id and map index."""
    xcoms: Mapping[tuple[str, int, str], Any]
    """All XComs, by task id, map index and key."""

    def task(self, task_id: str, map_index: int = -1) -> TaskResult:
        """Return one task instance; KeyError lists the existing ones."""
        for task in self.tasks:
            if (task.task_id, task.map_index) == (task_id, map_index):
                return task
        raise KeyError(f"no {task_id}[{map_index}] among {[(t.task_id, t.map_index) for t in self.tasks]}")

    def states(self, task_id: str) -> dict[int, str | None]:
        """Return the states of one task by map index."""
        return {task.map_index: task.state for task in self.tasks if task.task_id == task_id}

    def labels(self, task_id: str) -> dict[int, str | None]:
        """Return the labels of one mapped task by map index."""
        return {task.map_index: task.label for task in self.tasks if task.task_id == task_id}

    def xcom(self, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """Return one XCom; KeyError lists the existing ones."""
        try:
            return self.xcoms[task_id, map_index, key]
        except KeyError:
            raise KeyError(f"no {(task_id, map_index, key)} among {sorted(self.xcoms)}") from None


class RunDag(Protocol):
    """The type of the fixture `run_dag`."""

    def __call__(self, dag: Any, conf: Mapping[str, Any] | None = None) -> RunResult:
        """Run a Dag object with `conf` as its payload, whether or not it is defined in a file."""


@pytest.fixture(scope="session")
def airflow_db(database_cache: DatabaseCache) -> Iterator[Path]:
    """The migrated database of the Airflow in this process, one per session."""
    new_sqlite(airflow_home.database(), database_cache)
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    # a Dag belongs to a bundle; `dag.test()` uses this empty one
    DagBundlesManager().sync_bundles_to_db()
    yield airflow_home.database()
    from airflow import settings

    settings.dispose_orm()


@pytest.fixture
def run_dag(airflow_db: Path) -> RunDag:
    """Run a Dag of a test in this process, with mapping, retries and trigger rules as on a scheduler."""
    return _run_dag


def store_dag(dag: Any) -> None:
    """Write a Dag into the database, as the Dag processor does."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    bag = DagBag(dag_folder=str(airflow_home.home() / "dags"), collect_dags=False)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, BUNDLE, None)


def _run_dag(dag: Any, conf: Mapping[str, Any] | None = None) -> RunResult:
    # a run needs the serialized Dag in the database; `dag.test()` does not write it for a Dag without a file
    store_dag(dag)
    run = dag.test(run_conf=dict(conf or {}))
    return _result(run.dag_id, run.run_id, str(run.state))


def _result(dag_id: str, run_id: str, state: str) -> RunResult:
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = session.scalars(
            select(TaskInstance)
            .where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
            .order_by(TaskInstance.task_id, TaskInstance.map_index)
        )
        tasks = tuple(
            TaskResult(
                row.task_id,
                row.map_index,
                str(row.state) if row.state else None,
                row.rendered_map_index,
                row.try_number,
            )
            for row in rows
        )
        pushed = session.scalars(
            select(XComModel).where(XComModel.dag_id == dag_id, XComModel.run_id == run_id)
        )
        xcoms = {(row.task_id, row.map_index, row.key): XComModel.deserialize_value(row) for row in pushed}
    return RunResult(state, run_id, tasks, xcoms)


# on a real scheduler


@pytest.fixture(scope="session")
def airflow_instance(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    database_cache: DatabaseCache,
    moto_endpoint: str,
    repository: Path,
) -> Iterator[AirflowInstance]:
    """A running Airflow, on PostgreSQL if it is installed, else SQLite; `aws_default` is the moto server."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    loader = repository / "dags" / LOADER
    if loader.exists():
        shutil.copy(loader, dags / LOADER)
    instance = AirflowInstance(
        home,
        [dags],
        database="postgresql" if find_postgres() else "sqlite",
        connections={"aws_default": aws_connection(moto_endpoint)},
        cache=database_cache,
        # run a task again soon after its supervisor was killed
        config={
            "scheduler": {
                "task_instance_heartbeat_timeout": "15",
                "task_instance_heartbeat_timeout_detection_interval": "2",
                # Looking for work ten times a second takes a sixth of a core.
                "scheduler_idle_sleep_time": "0.25",
            },
            # Parsing the flows of all tests every 2 s takes half a core; `deploy` has them parsed at once.
            "dag_processor": {"min_file_process_interval": "20"},
            "allma": {"notifiers": "airflow.providers.amazon.aws.notifications.*"},
            # Airflow makes the second one's password and adds it to passwords.json.
            "core": {"simple_auth_manager_users": "admin:admin,viewer:viewer"},
        },
        # runs the callbacks of deadlines
        triggerer=True,
    )
    with instance:
        request.config.stash[RUNNING_AIRFLOW] = instance
        yield instance


@pytest.fixture
def airflow_client(airflow_instance: AirflowInstance) -> AirflowClient:
    """A client of the running Airflow's API."""
    return airflow_instance.client


class Deploy(Protocol):
    """The type of the fixture `deploy`."""

    def __call__(self, flow: Mapping[str, Any] | Path) -> str:
        """Put a flow or a flow file into the dags folder, wait for its Dag and return the Dag id."""


@pytest.fixture
def deploy(airflow_instance: AirflowInstance) -> Deploy:
    """Put flows into the running Airflow's dags folder. They stay: use another flow id in every test."""
    folder = airflow_instance.dags[0]

    def put(flow: Mapping[str, Any] | Path) -> str:
        document = json.loads(flow.read_text()) if isinstance(flow, Path) else dict(flow)
        write_atomically(folder / f"{document['id']}.json", json.dumps(document, indent=1))
        parse_again(airflow_instance)
        return _wait_for(airflow_instance, document["id"])

    return put


@pytest.fixture
def deploy_source(airflow_instance: AirflowInstance) -> Callable[[str, str], str]:
    """Put a hand-written Dag into the dags folder: `deploy_source(dag_id, source)` waits for the Dag."""
    folder = airflow_instance.dags[0]

    def put(dag_id: str, source: str) -> str:
        write_atomically(folder / f"{dag_id}.py", source)
        return _wait_for(airflow_instance, dag_id)

    return put


def parse_again(instance: AirflowInstance) -> None:
    """Have Airflow parse its dags folder soon: a file that has changed does not wait for its time."""
    for file in instance.dags[0].glob("*.py"):
        file.touch()


def _wait_for(instance: AirflowInstance, dag_id: str) -> str:
    client = instance.client
    if any(dag["dag_id"] == dag_id for dag in client.dags()):
        # A parse that had begun before can be the first to end.
        client.wait_for_dag(dag_id, parses=1)
        parse_again(instance)
        client.wait_for_dag(dag_id, parses=1)
    else:
        client.wait_for_dag(dag_id)
    return dag_id


def write_atomically(file: Path, text: str) -> None:
    """Write a file that another process may read at any moment."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(text)
    fresh.replace(file)
