"""``airflow-allma run``, ``validate``, ``plan`` and ``graph`` with flows that run other flows."""

from __future__ import annotations

import json

import pytest

from tests.support.cli import flow_document, run_cli, write_file
from tests.support.engine import compose, fork, noop, then
from tests.support.sub_flows import start_flow, sub_flow

VAT = {"rate": compose(inputMappings={"net": "$.net"}, outputMappings={"$.vat": "$"})}
SUB = sub_flow("vat", inputMappings={"net": "$.total"}, outputMappings={"$.result": "$.vat.net"})


@pytest.fixture
def parent(tmp_path):
    write_file(tmp_path, "vat.json", flow_document(VAT, id="vat"))
    return write_file(tmp_path, "parent.json", flow_document({"sub": SUB}, id="parent"))


def test_a_flow_of_the_same_folder_runs(parent):
    ran = run_cli("run", parent, "--payload", '{"total": 5}')
    assert (ran.code, ran.json["context"]["result"]) == (0, 5)


def test_a_flow_of_the_same_export_runs(tmp_path):
    flows = [flow_document(VAT, id="vat"), flow_document({"sub": SUB}, id="parent")]
    export = {"formatVersion": "1.0", "exportedAt": "2026-01-01T00:00:00Z", "flows": flows}
    file = write_file(tmp_path, "export.json", export)
    ran = run_cli("run", file, "--flow", "parent", "--payload", '{"total": 5}')
    assert ran.json["context"]["result"] == 5


@pytest.mark.parametrize("option", [(), ("--chunks",)])
def test_branches_that_are_sub_flows_run(tmp_path, option):
    write_file(tmp_path, "vat.json", flow_document(VAT, id="vat"))
    branch = {"branchId": "b", "stepType": "START_SUB_FLOW", "subFlowDefinitionId": "vat"}
    branch["inputMappings"] = {"net": "$.currentItem"}
    each = fork(parallelBranches=[branch], config={"dataPath": "$.vat.net"})
    file = write_file(tmp_path, "each.json", flow_document({"each": each}, id="each"))
    payload = json.dumps({"items": list(range(30))})
    ran = run_cli("run", file, "--payload", payload, "--store", (tmp_path / "store").as_uri(), *option)
    assert ran.json["context"]["steps_output"]["each"]["aggregatedData"] == list(range(30))


def test_each_version_of_a_flow_can_run(tmp_path):
    for version, published in ((1, True), (2, True), (3, False)):
        steps = {"a": compose(literals={"v": version}, outputMappings={"$.v": "$.v"})}
        write_file(
            tmp_path,
            f"child{version}.json",
            flow_document(steps, id="child", version=version, isPublished=published),
        )
    found = {}
    for version in ("LATEST_PUBLISHED", "1", "3"):
        step = sub_flow("child", subFlowVersion=version)
        file = write_file(tmp_path, "parent.json", flow_document({"sub": step}, id="parent"))
        found[version] = run_cli("run", file).json["context"]["steps_output"]["sub"]["v"]
    assert found == {"LATEST_PUBLISHED": 2, "1": 1, "3": 3}


WRONG = {
    "unknown": ({"flow": "vatt"}, "'vatt' is not a known flow. Did you mean 'vat'?"),
    "no such version": ({"flow": "vat", "v": "7"}, "Flow 'vat' has no version '7'; it has 1."),
    "not published": ({"flow": "draft"}, "No version of flow 'draft' is published."),
    "with errors": ({"flow": "broken"}, "Flow 'broken' has errors, in "),
    "no version": ({"flow": "vat", "v": "new"}, "`flowVersion` must be a version such as `3`"),
}


@pytest.mark.parametrize(("payload", "message"), WRONG.values(), ids=WRONG)
def test_a_flow_that_is_named_when_the_step_runs_has_to_exist(tmp_path, payload, message):
    write_file(tmp_path, "vat.json", flow_document(VAT, id="vat"))
    write_file(tmp_path, "draft.json", flow_document(VAT, id="draft", isPublished=False))
    write_file(tmp_path, "broken.json", flow_document({"a": noop(**then("nowhere"))}, id="broken"))
    step = start_flow("{{flow}}", flowVersion="{{default v '1'}}" if "v" in payload else "LATEST_PUBLISHED")
    file = write_file(tmp_path, "parent.json", flow_document({"sub": step}, id="parent"))
    error = run_cli("run", file, "--payload", json.dumps(payload)).json["error"]
    assert error["errorMessage"].startswith(message)


def test_a_trace_names_the_flow_of_a_step(parent):
    ran = run_cli("run", parent, "--payload", '{"total": 5}', "--trace")
    records = [json.loads(line) for line in ran.err.splitlines() if line.startswith("{")]
    assert [(record["step"], record.get("flow")) for record in records] == [("rate", "vat"), ("sub", None)]


@pytest.mark.parametrize("command", ["validate", "plan", "graph"])
def test_the_other_commands_know_sub_flows(parent, command):
    ran = run_cli(command, parent)
    assert ran.code == 0, ran.err
    assert command == "validate" or "sub" in ran.out


@pytest.mark.parametrize("option", [(), ("--chunks",)])
def test_sub_flows_that_wait_take_their_events(tmp_path, option):
    wait = {"stepType": "WAIT_FOR_EXTERNAL_EVENT", "correlationKeyTemplate": "order-{{id}}"}
    write_file(tmp_path, "approve.json", flow_document({"wait": wait}, id="approve"))
    branch = {"branchId": "b", "stepType": "START_SUB_FLOW", "subFlowDefinitionId": "approve"}
    branch["inputMappings"] = {"id": "$.currentItem"}
    each = fork(parallelBranches=[branch], config={"dataPath": "$.steps_output.wait.by"})
    file = write_file(tmp_path, "each.json", flow_document({"each": each}, id="each"))
    events = [argument for item in (2, 1) for argument in ("--event", f'order-{item}={{"by": {item}}}')]
    store = (tmp_path / "store").as_uri()
    ran = run_cli("run", file, "--payload", '{"items": [1, 2]}', *events, "--store", store, *option)
    assert ran.json["context"]["steps_output"]["each"]["aggregatedData"] == [1, 2]
