"""Recorded flows contain mappings that find nothing: what a lint says of them is true of their runs."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from airflow_allma.flow.validation import check_flow
from airflow_allma.loading import FLOW_CHECKS
from tests.conformance.vector_kinds import run_flow

VECTORS = Path(__file__).parent / "vectors" / "flow.jsonl"


def mappings_that_find_nothing(flow):
    """Yield the paths of input mappings that a lint warns about."""
    for diagnostic in check_flow(flow, checks=FLOW_CHECKS).diagnostics:
        if len(diagnostic.path) == 4 and diagnostic.path[2] == "inputMappings":
            yield diagnostic.path


def test_a_flow_runs_the_same_without_the_mappings_that_a_lint_says_find_nothing():
    removed = 0
    for line in VECTORS.read_text().splitlines():
        given = json.loads(line)["given"]
        without = copy.deepcopy(given)
        for _, step, field, target in mappings_that_find_nothing(given["flow"]):
            del without["flow"]["steps"][step][field][target]
            removed += 1
        if without != given:
            assert run_flow(without) == run_flow(given)
    assert removed > 20
