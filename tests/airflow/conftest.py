"""Fixtures of the Airflow tests."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from airflow_allma.dag_factory import build_dag, flow_files
from airflow_allma.flow import Flow
from airflow_allma.operators import airflow_services
from airflow_allma.storage.object_store import ObjectStore
from tests.airflow.flows import flow
from tests.airflow.shop import Shop, open_shop
from tests.support.airflow import RunDag, RunResult
from tests.support.existing_runs import set_dag
from tests.support.moto import REGION, EndpointClients

_numbers = itertools.count()


@pytest.fixture
def run(run_dag: RunDag) -> Callable[..., RunResult]:
    """Return a function that runs a flow of these steps, from the first one."""
    from airflow_allma.dag_factory import build_dag
    from airflow_allma.flow import Flow

    def run_steps(
        steps: Mapping[str, Any], payload: Mapping[str, Any] | None = None, **more: Any
    ) -> RunResult:
        written = flow(f"run-{next(_numbers)}", dict(steps), **more)
        return run_dag(build_dag(Flow.model_validate(written)), payload)

    return run_steps


@pytest.fixture
def deploy_child(run_dag: RunDag) -> Callable[..., Any]:
    """Return a function that puts the Dag of a flow, which others run, into the database; it has run once."""

    def deploy_child(steps: dict[str, Any], payload: Any = None, **more: Any) -> Any:
        dag = build_dag(Flow.model_validate(flow(f"child-{next(_numbers)}", steps, **more)))
        run_dag(dag, payload)
        set_dag(dag.dag_id, is_paused=False)
        return dag

    return deploy_child


@pytest.fixture
def nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the flow files that this process and other processes have read."""
    flow_files._process_cache.cache_clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path.parent))
    yield
    flow_files._process_cache.cache_clear()


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A small API whose responses the test defines."""
    with open_shop() as opened:
        yield opened


@pytest.fixture
def use_store(monkeypatch: pytest.MonkeyPatch) -> Callable[[ObjectStore], ObjectStore]:
    """Return a function that replaces the store that all tasks use."""

    def use(store: ObjectStore) -> ObjectStore:
        monkeypatch.setattr(airflow_services, "open_store", lambda *_: store)
        return store

    return use


@pytest.fixture
def flushed_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write small result parts, so that few items fill many of them."""
    monkeypatch.setenv("AIRFLOW__ALLMA__RESULT_PART_BYTES", "200")


@pytest.fixture
def bucket(moto_endpoint: str) -> str:
    """A new bucket in the local S3."""
    name = f"tests-{uuid4().hex[:8]}"
    s3 = EndpointClients(moto_endpoint).client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name
