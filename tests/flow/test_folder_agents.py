"""Agents and deploy variables of a folder."""

from __future__ import annotations

import pytest

from airflow_allma.flow import DeployVariables
from tests.support.artifact_files import (
    agent,
    flow_of,
    put,
)
from tests.support.folder_loads import flows, load, shown, variables


def test_variables_of_agents_are_below_the_flows_and_later_agents_win(tmp_path):
    own = {"steps": {"a": {"stepType": "NO_OP"}}, "flowVariables": {"both": "flow"}}
    put(tmp_path, "f.flow.json", flows=[{"id": "f", "startStepInstanceId": "a", **own}])
    put(tmp_path, "1.agent.json", agents=[agent("b", "f", both="b", two="b", deep={"b": 1})])
    put(tmp_path, "2.agent.json", agents=[agent("a", "f", two="a", one="a", deep={"a": 1})])
    put(tmp_path, "3.agent.json", agents=[agent("c", "f", enabled=False, one="off")])
    assert variables(tmp_path) == {"both": "flow", "two": "b", "one": "a", "deep": {"b": 1}}


def test_a_flow_whose_agents_are_all_disabled_does_not_run_and_says_so(tmp_path):
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": {"stepType": "NO_OP"}})])
    put(tmp_path, "a.agent.json", agents=[agent("a", "f", enabled=False), agent("b", "f", enabled=False)])
    loaded = load(tmp_path)
    assert loaded.flows == ()
    (problem,) = shown(loaded)
    assert problem[:3] == ("f.flow.json", "warning", "$.flows[0]")
    assert f"all of its agents are disabled: `a` in {tmp_path}/a.agent.json:" in problem[3]
    put(tmp_path, "a.agent.json", agents=[agent("a", "f", enabled=False), agent("b", "f")])
    assert list(flows(load(tmp_path))) == ["f"]


def test_an_agent_with_errors_stops_the_flows_that_it_names(tmp_path):
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": {"stepType": "NO_OP"}})])
    put(tmp_path, "g.flow.json", flows=[flow_of("g", {"a": {"stepType": "NO_OP"}})])
    put(tmp_path, "a.agent.json", agents=[agent("a", "f") | {"flowVariables": ["x"]}])
    loaded = load(tmp_path)
    assert list(flows(loaded)) == ["g"]
    assert {name for name, severity, *_ in shown(loaded) if severity == "error"} == {
        "f.flow.json",
        "a.agent.json",
    }
    assert any(
        "agent `a`, which has variables of this flow, has errors, in" in one[3] for one in shown(loaded)
    )


def test_an_agent_that_names_no_flow_is_a_warning(tmp_path):
    put(tmp_path, "a.agent.json", agents=[agent("a")])
    assert [one[:3] for one in shown(load(tmp_path))] == [("a.agent.json", "warning", "$.agents[0]")]


# Deploy variables


def test_placeholders_are_filled_in_flow_variables_alone(tmp_path):
    own = {"a": "{{stage}}/{{ stage }}", "b": [{"c": "x-{{stage}}"}], "{{stage}}": 1, "d": "{{n}}"}
    literal = {"stepType": "NO_OP", "literals": {"x": "{{stage}}"}}
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": literal}, flowVariables=own)])
    deploy = DeployVariables.from_setting('{"stage": "{{n}}", "n": 5}')
    loaded = load(tmp_path, deploy=deploy)
    assert flows(loaded)["f"].flow_variables == {
        "a": "{{n}}/{{n}}", "b": [{"c": "x-{{n}}"}], "{{stage}}": 1, "d": "5",
    }  # fmt: skip
    assert flows(loaded)["f"].steps["a"].literals == {"x": "{{stage}}"}
    assert loaded.flows[0].definition["flowVariables"] == own


def test_a_placeholder_without_a_value_is_a_located_warning(tmp_path):
    own = {"a": {"b": "x-{{stagee}}"}}
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": {"stepType": "NO_OP"}}, flowVariables=own)])
    put(tmp_path, "a.agent.json", agents=[agent("a", "f", c="{{region}}")])
    loaded = load(tmp_path)
    found = {(name, severity, path): message for name, severity, path, message in shown(loaded)}
    assert set(found) == {
        ("a.agent.json", "warning", "$.agents[0].flowVariables.c"),
        ("f.flow.json", "warning", "$.flows[0].flowVariables.a.b"),
    }
    assert all("has no value and stays as it is" in message for message in found.values())
    assert any("did you mean `stage`?" in message for message in found.values())
    assert flows(loaded)["f"].flow_variables == {"c": "{{region}}", "a": {"b": "x-{{stagee}}"}}


@pytest.mark.parametrize("setting", ["{", "[]", '{"a": null}', '{"a": {}}', '{" ": 1}', "\ud800"])
@pytest.mark.parametrize("of_agent", [True, False])
def test_a_setting_that_cannot_be_used_stops_the_flows_with_placeholders(tmp_path, setting, of_agent):
    deploy = DeployVariables.from_setting(setting)
    own = {} if of_agent else {"flowVariables": {"a": "{{stage}}"}}
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": {"stepType": "NO_OP"}}, **own)])
    put(tmp_path, "g.flow.json", flows=[flow_of("g", {"a": {"stepType": "NO_OP"}}, flowVariables={"a": "x"})])
    if of_agent:
        put(tmp_path, "a.agent.json", agents=[agent("a", "f", a="{{stage}}")])
    loaded = load(tmp_path, deploy=deploy)
    assert list(flows(loaded)) == ["g"]
    assert any("[allma] deploy_variables" in message for *_, message in shown(loaded))


def test_setting_values_are_text(tmp_path):
    deploy = DeployVariables.from_setting('{"a": true, "b": 1.5, "c": "x", " d ": 7}')
    assert deploy == DeployVariables({"a": "true", "b": "1.5", "c": "x", "d": "7"})
