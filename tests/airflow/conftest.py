"""What the tests of Airflow have in common."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.airflow.flows import flow
from tests.airflow.shop import Shop, open_shop
from tests.support.airflow import RunDag, RunResult

_numbers = itertools.count()


@pytest.fixture
def run(run_dag: RunDag) -> Callable[..., RunResult]:
    """Run a flow of these steps; the first one starts it."""
    from airflow_allma.dag_factory import build_dag
    from airflow_allma.flow import Flow

    def run_steps(
        steps: Mapping[str, Any], payload: Mapping[str, Any] | None = None, **more: Any
    ) -> RunResult:
        written = flow(f"run-{next(_numbers)}", dict(steps), **more)
        return run_dag(build_dag(Flow.model_validate(written)), payload)

    return run_steps


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A small API whose answers the test decides."""
    with open_shop() as opened:
        yield opened
