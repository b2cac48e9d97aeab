"""Runs of their own on a real scheduler: parents give their slots back, and links lead to the runs."""

from __future__ import annotations

import pytest

from tests.support.own_run_flows import OwnRuns, own_run_flows

pytestmark = pytest.mark.scheduler


def test_parents_that_wait_for_runs_of_their_own_end_and_link_them(airflow_client, deploy):
    for one in own_run_flows("ownruns"):
        deploy(one)
    runs = OwnRuns(airflow_client, "ownruns", count=2, items=2)
    runs.wait(120)
    runs.check()
