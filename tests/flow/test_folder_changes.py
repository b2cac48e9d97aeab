"""Folders whose files change between two loads."""

from __future__ import annotations

import pytest

from airflow_allma.flow import DeployVariables, FileCache, discovery, file_cache
from airflow_allma.loading import FLOW_CHECKS
from tests.support.artifact_files import (
    agent,
    definition,
    flow_of,
    put,
    write_artifacts,
)
from tests.support.folder_loads import flows, load, one_flow, shown, step, variables


@pytest.fixture
def cache(monkeypatch):
    """A cache that trusts all times, which otherwise takes a wait."""
    monkeypatch.setattr(discovery, "_SETTLING_NANOSECONDS", -(10**9))
    return FileCache(FLOW_CHECKS)


def checked(monkeypatch):
    """Return a list that receives the name of each file that is checked."""
    names = []
    check = file_cache.check_file

    def count(contents, *rest):
        names.append(contents.file.rpartition("/")[2])
        return check(contents, *rest)

    monkeypatch.setattr(file_cache, "check_file", count)
    return names


def test_only_flows_that_use_what_changed_are_checked_again(tmp_path, cache, monkeypatch):
    write_artifacts(tmp_path)
    load(tmp_path, cache)
    names = checked(monkeypatch)
    load(tmp_path, cache)
    assert names == []
    put(tmp_path, "price-it.step.json", stepDefinitions=[definition("price-it", literals={"total": 7})])
    loaded = load(tmp_path, cache)
    assert sorted(names) == ["orders.flow.json", "price-it.step.json"]
    assert flows(loaded)["orders"].steps["price"].literals == {"total": 7}


def test_a_definition_that_changes_reaches_the_flows_that_use_it(tmp_path, cache, monkeypatch):
    one_flow(tmp_path)
    put(tmp_path, "other.flow.json", flows=[flow_of("other", {"a": {"stepType": "NO_OP"}})])
    put(tmp_path, "base.step.json", stepDefinitions=[definition("base", literals={"x": 1})])
    put(tmp_path, "d.step.json", stepDefinitions=[{"id": "d", "stepDefinitionId": "base"}])
    load(tmp_path, cache)
    names = checked(monkeypatch)
    put(tmp_path, "base.step.json", stepDefinitions=[definition("base", literals={"x": 22})])
    assert flows(load(tmp_path, cache))["f"].steps["a"].literals == {"x": 22}
    assert sorted(names) == ["base.step.json", "f.flow.json"]
    (tmp_path / "base.step.json").unlink()
    loaded = load(tmp_path, cache)
    assert list(flows(loaded)) == ["other"]
    assert {name for name, *_ in shown(loaded)} == {"d.step.json", "f.flow.json"}
    put(tmp_path, "base.step.json", stepDefinitions=[definition("base", literals={"x": 3})])
    assert flows(load(tmp_path, cache))["f"].steps["a"].literals == {"x": 3}


def test_an_agent_that_changes_reaches_its_flows(tmp_path, cache, monkeypatch):
    for name in ("f", "other"):
        put(tmp_path, f"{name}.flow.json", flows=[flow_of(name, {"a": {"stepType": "NO_OP"}})])
    assert variables(tmp_path, cache=cache) == {}
    names = checked(monkeypatch)
    put(tmp_path, "a.agent.json", agents=[agent("a", "f", x=1)])
    assert variables(tmp_path, cache=cache) == {"x": 1}
    put(tmp_path, "a.agent.json", agents=[agent("a", "f", x=22)])
    assert variables(tmp_path, cache=cache) == {"x": 22}
    assert "other.flow.json" not in names
    put(tmp_path, "a.agent.json", agents=[agent("a", "f", enabled=False, x=22)])
    assert list(flows(load(tmp_path, cache))) == ["other"]
    (tmp_path / "a.agent.json").unlink()
    assert variables(tmp_path, cache=cache) == {}


def test_deploy_variables_that_change_reach_the_flows(tmp_path, cache):
    put(
        tmp_path,
        "f.flow.json",
        flows=[flow_of("f", {"a": {"stepType": "NO_OP"}}, flowVariables={"a": "{{stage}}"})],
    )
    assert variables(tmp_path, cache=cache) == {"a": "prod"}
    assert variables(tmp_path, cache=cache, deploy=DeployVariables({"stage": "test"})) == {"a": "test"}


def test_a_sub_flow_that_appears_or_goes_changes_what_is_said_about_its_users(tmp_path, cache):
    starts = step("START_FLOW_EXECUTION", flowDefinitionId="child")
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": starts})])

    def warned():
        return any("not a known flow" in message for *_, message in shown(load(tmp_path, cache)))

    assert warned()
    put(tmp_path, "child.flow.json", flows=[flow_of("child", {"a": {"stepType": "NO_OP"}})])
    assert not warned()
    (tmp_path / "child.flow.json").unlink()
    assert warned()
