"""``airflow-allma run`` has the limits of a task, and always answers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.cli import flow_document, run_cli, write_file
from tests.support.engine import fork, noop

LOOP = flow_document({"a": noop(literals={"x": "{{#each n}}{{#each ../n}}{{/each}}{{/each}}"})})


@pytest.fixture
def loop(tmp_path):
    return write_file(tmp_path, "loop.json", LOOP)


@pytest.mark.parametrize(("value", "status"), [("500", "FAILED"), ("0", "COMPLETED"), ("", "COMPLETED")])
def test_the_environment_sets_the_limits(loop, monkeypatch, value, status):
    monkeypatch.setenv("AIRFLOW__ALLMA__MAX_STEP_WORK", value)
    answer = run_cli("run", loop, "--payload", json.dumps({"n": [0] * 50})).json
    assert answer["status"] == status
    if status == "FAILED":
        assert "[allma] max_step_work = 500" in answer["error"]["errorMessage"]


def test_a_limit_that_is_not_a_number_exits_with_2_and_names_the_variable(loop, monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__MAX_FORK_DEPTH", "many")
    result = run_cli("run", loop)
    assert result.code == 2
    assert "AIRFLOW__ALLMA__MAX_FORK_DEPTH must be a whole number; it is 'many'" in result.err


@pytest.mark.parametrize("source", ["import sys; sys.exit(3)", "raise KeyboardInterrupt"])
def test_a_module_that_ends_the_process_on_import_does_not_end_the_run(tmp_path, source):
    (tmp_path / "evilexit.py").write_text(source)
    steps = {
        "f": fork("w", "$.m", {"strategy": "CUSTOM_MODULE", "customModuleIdentifier": "evilexit:f"}),
        "w": noop(),
    }
    flow = write_file(tmp_path, "flow.json", flow_document(steps))
    ran = subprocess.run(
        [sys.executable, "-m", "airflow_allma", "run", flow, "--payload", '{"m": [1]}'],
        env={"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}", "PATH": ""},
        capture_output=True,
        check=False,
    )
    answer = json.loads(ran.stdout)
    assert (ran.returncode, answer["status"]) == (1, "FAILED")
    assert "evilexit:f' cannot be imported" in answer["error"]["errorMessage"]


def test_a_run_without_memory_is_a_failed_answer(tmp_path):
    resource = pytest.importorskip("resource")
    steps = {f"s{n}": noop(literals={"x": "{{x}}" * 300}) for n in range(4)}
    for number in range(3):
        steps[f"s{number}"]["defaultNextStepInstanceId"] = f"s{number + 1}"
        steps[f"s{number}"]["outputMappings"] = {"$.x": "$.x"}
    flow = write_file(tmp_path, "flow.json", flow_document(steps))
    limit = 1_500_000_000
    ran = subprocess.run(
        [sys.executable, "-m", "airflow_allma", "run", flow, "--payload", '{"x": "lol"}'],
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "", "AIRFLOW__ALLMA__MAX_STEP_WORK": "0"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        check=False,
    )
    answer = json.loads(ran.stdout)
    assert (ran.returncode, answer["status"]) == (1, "FAILED")
    assert "no memory left" in answer["error"]["errorMessage"]
    assert answer["error"]["errorDetails"]["failedStepInstanceId"] == "s3"
