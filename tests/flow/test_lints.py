"""Each line of `lint_cases.jsonl` is a flow and everything that must be said about it.

`steps` begin with the first step; `flow` has further fields. `expect` has the severity, the path and
a part of the message of each problem; without any, the flow is good and nothing may be said.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_allma.flow.diagnostics import Severity
from airflow_allma.flow.lints import LINTS
from airflow_allma.loading import load_flow_file

CASES = [json.loads(line) for line in (Path(__file__).parent / "lint_cases.jsonl").read_text().splitlines()]


def problems_of(case, folder):
    steps = case["steps"]
    flow = {"id": "x", "startStepInstanceId": next(iter(steps)), "steps": steps, **case.get("flow", {})}
    file = folder / "flow.json"
    file.write_text(json.dumps(flow, indent=1))
    return load_flow_file(file).problems, file.read_text().splitlines()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_each_mistake_is_a_located_problem_with_its_cure(case, tmp_path):
    problems, lines = problems_of(case, tmp_path)
    found = sorted((str(problem.severity), problem.path, problem.message) for problem in problems)
    expected = sorted(map(tuple, case["expect"]))
    assert [one[:2] for one in found] == [one[:2] for one in expected], found
    for (_, _, message), (_, _, words) in zip(found, expected, strict=True):
        assert words in message
    for problem in problems:
        assert 0 < problem.line <= len(lines)
        assert problem.column > 0


def test_every_lint_finds_something_in_the_cases(tmp_path):
    from airflow_allma.flow.lints.lint import FlowView
    from airflow_allma.flow.tree_walk import scopes
    from airflow_allma.loading import FLOW_CHECKS

    silent = {lint.__name__ for lint in LINTS}
    for case in CASES:
        flow = {
            "startStepInstanceId": next(iter(case["steps"])),
            "steps": case["steps"],
            **case.get("flow", {}),
        }
        view = FlowView(flow, scopes(flow), FLOW_CHECKS.reader)
        for lint in LINTS:
            if lint.__name__ in silent and list(lint(view)):
                silent.remove(lint.__name__)
    assert silent == set()


def test_the_lint_knows_every_error_of_this_package():
    from airflow_allma import exceptions
    from airflow_allma.flow.lints.error_lints import ERROR_NAMES

    kinds = [kind for kind in vars(exceptions).values() if isinstance(kind, type)]
    own = {kind.default_name for kind in kinds if issubclass(kind, exceptions.StepError)}
    assert own - {"Error"} - set(ERROR_NAMES) == set()


def test_the_modules_whose_outputs_are_known_exist():
    from airflow_allma.engine.modules.registry import MODULES
    from airflow_allma.flow.lints.outputs import OUTPUTS_OF_MODULES

    assert OUTPUTS_OF_MODULES.keys() - MODULES.keys() == set()


def test_lints_are_warnings(tmp_path):
    case = next(case for case in CASES if case["case"] == "a misspelled field of a completion action")
    problems, _ = problems_of(case, tmp_path)
    assert {problem.severity for problem in problems} == {Severity.WARNING}


@pytest.mark.parametrize(
    "agent", [{"id": "shop", "flowVariables": {"x": 1}}, {"id": "off", "enabled": False, "flowIds": []}]
)
def test_an_agent_that_names_no_flow_has_no_effect(tmp_path, agent):
    file = tmp_path / "export.json"
    file.write_text(json.dumps({"formatVersion": "1.0", "agents": [agent]}))
    (problem,) = load_flow_file(file).problems
    assert (problem.severity, problem.path, problem.line) == (Severity.WARNING, "$.agents[0]", 1)
    assert f"this has no effect: agent `{agent['id']}` names no flow" in problem.message
