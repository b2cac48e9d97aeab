"""JSON that contains a flow in a form that is not a flow file says what to change."""

from __future__ import annotations

import json

import pytest

from airflow_allma.flow import FileKind
from airflow_allma.loading import load_flow_file

FLOW = {"id": "x", "startStepInstanceId": "a", "steps": {"a": {"stepType": "NO_OP"}}}


@pytest.mark.parametrize(
    ("document", "cure"),
    [
        ({"flow": FLOW}, "ignored; the flow is inside `flow`, so move its fields to the top of the file"),
        ([FLOW], "ignored; a file contains one flow, not a list"),
        ({"flows": [FLOW]}, 'ignored; add `"formatVersion": "1.0"` next to `flows`'),
        ({"name": "package", "version": 1}, "ignored"),
        ([1], "ignored"),
    ],
)
def test_a_flow_inside_of_something_else_is_a_warning_with_its_cure(tmp_path, document, cure):
    file = tmp_path / "flow.json"
    file.write_text(json.dumps(document))
    loaded = load_flow_file(file)
    (problem,) = loaded.problems
    assert loaded.kind is FileKind.OTHER
    assert problem.message.endswith(cure)
