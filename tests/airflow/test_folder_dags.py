"""A folder of artifacts as Dags: what flows use of other files, in the Dag processor and in tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_allma.dag_factory import file_index, flow_files, load_flows, report_problems
from airflow_allma.exceptions import FlowError
from airflow_allma.flow import discovery, file_cache
from tests.support.artifact_files import (
    ARTIFACTS,
    agent,
    definition,
    flow_of,
    prompt,
    put,
    using,
    write_artifacts,
)
from tests.support.cli import run_cli
from tests.support.flow_files import write

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("nothing_remembered")]

RESULTS = {
    "orders": {"text": "none", "by": "shop", "to": "orders-prod", "total": 9},
    "report": {"text": "report", "by": "shop", "to": "shared-prod"},
}
PAYLOAD = {"order": {"total": 9}}


@pytest.fixture(autouse=True)
def deployed(monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__DEPLOY_VARIABLES", '{"stage": "prod"}')


@pytest.mark.parametrize("flow_id", RESULTS)
def test_a_flow_runs_with_what_other_files_define_as_a_dag_and_on_the_command_line(
    tmp_path, run_dag, flow_id
):
    write_artifacts(tmp_path)
    problems = []
    dags = load_flows(tmp_path, on_problem=problems.append)
    assert (sorted(dags), problems) == (["orders", "report"], [])
    ended = run_dag(dags[flow_id], PAYLOAD)
    assert (ended.state, ended.xcom("note")) == ("success", RESULTS[flow_id])
    file = tmp_path / f"{flow_id}.flow.json"
    ran = run_cli("run", file, "--payload", '{"order": {"total": 9}}')
    assert ran.json["context"]["steps_output"]["note"] == RESULTS[flow_id]
    ran = run_cli("run", file, "--deploy", "stage=test", "--payload", '{"order": {"total": 9}}')
    assert ran.json["context"]["steps_output"]["note"]["to"] == RESULTS[flow_id]["to"].replace("prod", "test")


def test_mistakes_in_three_files_are_shown_and_the_other_flow_is_a_dag(tmp_path):
    write_artifacts(
        tmp_path,
        pick=definition("pick", moduleIdentifier="system/compose-object"),
        shop=agent("shop", "orders", "report2", "report", team="shop"),
        title=prompt("title", "{{#if text}}{{text}}"),
    )
    assert list(load_flows(tmp_path)) == ["report"]
    with pytest.raises(FlowError) as raised:
        report_problems(tmp_path)
    shown = str(raised.value)
    assert "4 flow files have errors" in shown
    for place in (
        "orders.flow.json:28:31: error: $.flows[0].steps.read.stepDefinitionId",
        "pick.step.json:8:27: error: $.stepDefinitions[0].moduleIdentifier",
        "shop.agent.json:8:9: error: $.agents[0].flowIds[1]",
        "title.prompt.json:6:18: error: $.promptTemplates[0].content",
    ):
        assert f"{tmp_path}/{place}" in shown, shown
    write_artifacts(tmp_path)
    report_problems(tmp_path)
    assert list(load_flows(tmp_path)) == ["orders", "report"]


# task processes


@pytest.fixture
def settled(monkeypatch):
    """Pretend that every file changed long ago, which otherwise takes a wait."""
    monkeypatch.setattr(discovery, "_SETTLING_NANOSECONDS", -(10**9))


@pytest.fixture
def read(monkeypatch, settled):
    """Return a list that receives the name of each file that is read."""
    names = []
    read_file = file_cache.read_file

    def count(path, *rest):
        names.append(Path(path).name)
        return read_file(path, *rest)

    monkeypatch.setattr(file_cache, "read_file", count)
    return names


NEEDED = {
    "orders": ["base-note", "note-it", "orders", "pick", "price-it", "shop"],
    "report": ["base-note", "note-it", "report", "shop"],
}


def in_task(folder, flow_id):
    """Load one flow like the process of a task, which remembers nothing."""
    flow_files._process_cache.cache_clear()
    return load_flows(folder, only=flow_id)


def step_of(dags, flow_id, step_id):
    return dags[flow_id].get_task(step_id).flow.flow.steps[step_id]


def variables_of(dags, flow_id):
    return next(iter(dags[flow_id].tasks)).flow.flow.flow_variables


@pytest.mark.parametrize("flow_id", NEEDED)
@pytest.mark.parametrize("listed_recently", [True, False])
def test_a_task_process_reads_only_what_its_flow_needs(tmp_path, read, monkeypatch, flow_id, listed_recently):
    monkeypatch.setattr(file_index, "LOOK_AGAIN_NANOSECONDS", 3600 * 10**9 if listed_recently else 0)
    write_artifacts(tmp_path)
    in_task(tmp_path, flow_id)
    read.clear()
    dags = in_task(tmp_path, flow_id)
    assert sorted({name.partition(".")[0] for name in read}) == NEEDED[flow_id]
    assert len(read) == len(NEEDED[flow_id])
    whole = load_flows(tmp_path)
    assert variables_of(dags, flow_id) == variables_of(whole, flow_id)
    assert step_of(dags, flow_id, "note") == step_of(whole, flow_id, "note")


@pytest.mark.parametrize("listed_recently", [True, False])
def test_a_task_sees_what_changed_in_files_that_its_flow_needs(
    tmp_path, settled, monkeypatch, listed_recently
):
    monkeypatch.setattr(file_index, "LOOK_AGAIN_NANOSECONDS", 3600 * 10**9 if listed_recently else 0)
    write_artifacts(tmp_path)
    in_task(tmp_path, "report")
    put(tmp_path, "shop.agent.json", agents=[agent("shop", "report", team="other")])
    put(tmp_path, "base-note.step.json", stepDefinitions=[definition("base-note", literals={"text": "new"})])
    dags = in_task(tmp_path, "report")
    assert variables_of(dags, "report") == {"team": "other"}
    orders = in_task(tmp_path, "orders")
    assert step_of(orders, "orders", "note").literals["text"] == "new"
    assert "team" not in variables_of(orders, "orders")
    (tmp_path / "shop.agent.json").unlink()
    assert variables_of(in_task(tmp_path, "report"), "report") == {}
    (tmp_path / "base-note.step.json").unlink()
    assert in_task(tmp_path, "report") == {}


def test_a_definition_that_moved_since_the_files_were_listed_is_found(tmp_path, settled, monkeypatch):
    monkeypatch.setattr(file_index, "LOOK_AGAIN_NANOSECONDS", 3600 * 10**9)
    write_artifacts(tmp_path)
    in_task(tmp_path, "report")
    (tmp_path / "deep").mkdir()
    (tmp_path / "base-note.step.json").rename(tmp_path / "deep/moved.json")
    assert list(in_task(tmp_path, "report")) == ["report"]


def test_a_new_agent_or_a_newer_definition_is_found_by_the_next_scan(tmp_path, settled, monkeypatch):
    monkeypatch.setattr(file_index, "LOOK_AGAIN_NANOSECONDS", 0)
    write_artifacts(tmp_path)
    in_task(tmp_path, "report")
    put(tmp_path, "x.agent.json", agents=[agent("x", "report", x=1)])
    newer = definition("base-note", version=2, literals={"text": "newer", "two": "2"})
    put(tmp_path, "x.step.json", stepDefinitions=[newer])
    dags = in_task(tmp_path, "report")
    assert variables_of(dags, "report")["x"] == 1
    assert step_of(dags, "report", "note").literals["two"] == "2"


@pytest.mark.parametrize("listed_recently", [True, False])
def test_what_a_flow_needs_can_be_in_another_folder_of_the_loader(
    tmp_path, read, monkeypatch, listed_recently
):
    monkeypatch.setattr(file_index, "LOOK_AGAIN_NANOSECONDS", 3600 * 10**9 if listed_recently else 0)
    folders = [tmp_path / "flows", tmp_path / "shared"]
    for folder in folders:
        folder.mkdir()
    write_artifacts(folders[0])
    for name in ("base-note.step.json", "note-it.step.json", "shop.agent.json"):
        (folders[0] / name).rename(folders[1] / name)
    newer = definition("pick", version=2, literals={"newer": "yes"})
    put(folders[1], "pick.step.json", stepDefinitions=[newer])
    in_task(folders, "orders")
    read.clear()
    dags = in_task(folders, "orders")
    assert sorted(name.partition(".")[0] for name in read) == sorted([*NEEDED["orders"], "pick"])
    assert step_of(dags, "orders", "read").literals == {"newer": "yes"}
    assert variables_of(dags, "orders")["team"] == "shop"


def test_a_flow_whose_agents_are_all_disabled_has_no_dag(tmp_path, settled):
    write_artifacts(tmp_path, shop=agent("shop", "report", enabled=False))
    assert list(load_flows(tmp_path)) == ["orders"]
    assert in_task(tmp_path, "report") == {}


def test_an_id_with_escapes_that_the_index_overlooks_is_found_nevertheless(tmp_path, settled):
    put(tmp_path, "d.step.json", stepDefinitions=[definition("größe")])
    steps = '{"a": {"step\\u0044efinitionId": "gr\\u00f6\\u00dfe"}}'
    write(tmp_path, "f.json", '{"id": "f", "startStepInstanceId": "a", "steps": ' + steps + "}")
    for _ in range(2):
        assert list(in_task(tmp_path, "f")) == ["f"]


@pytest.mark.parametrize("value", [None, 5, "x", ["x"], [5, None], [{"id": 5, "flowIds": 5}], {"id": "x"}])
def test_lists_of_other_shapes_are_indexed_without_an_error(tmp_path, settled, value):
    write_artifacts(tmp_path)
    for kind in ("flows", "stepDefinitions", "promptTemplates", "mcpConnections", "agents"):
        write(tmp_path, f"{kind}.json", {"formatVersion": "1.0", kind: value})
    assert list(in_task(tmp_path, "report")) == ["report"]


def test_a_thousand_files_are_indexed_once(tmp_path, read):
    for number in range(333):
        put(tmp_path, f"{number}.flow.json", flows=[flow_of(f"f{number}", {"a": using(f"d{number}")})])
        put(tmp_path, f"{number}.step.json", stepDefinitions=[definition(f"d{number}")])
        put(tmp_path, f"{number}.agent.json", agents=[agent(f"a{number}", f"f{number}", n=number)])
    in_task(tmp_path, "f7")
    read.clear()
    assert variables_of(in_task(tmp_path, "f9"), "f9") == {"n": 9}
    assert sorted(read) == ["9.agent.json", "9.flow.json", "9.step.json"]


def test_there_are_twelve_artifacts():
    kinds = [kind for kind, _ in ARTIFACTS.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "flows": 2, "stepDefinitions": 4, "promptTemplates": 3, "mcpConnections": 2, "agents": 1,
    }  # fmt: skip
