"""``airflow-allma run`` with flows that wait for events."""

from __future__ import annotations

import json

import pytest

from tests.support.cli import run_cli, write_file
from tests.support.engine import compose, fork, noop, then

WAIT = {
    "stepType": "WAIT_FOR_EXTERNAL_EVENT",
    "correlationKeyTemplate": "order={{id}}",
    "outputMappings": {"$.answer": "$."},
}


def flow_file(tmp_path, steps):
    document = {"id": "waits", "startStepInstanceId": next(iter(steps)), "steps": steps}
    return write_file(tmp_path, "waits.json", document)


def test_a_run_takes_its_event_from_the_option(tmp_path):
    file = flow_file(tmp_path, {"w": {**WAIT, **then("n")}, "n": noop()})
    ran = run_cli("run", file, "--payload", '{"id": 7}', "--event", 'order=7={"ok": true}')
    assert ran.code == 0
    assert json.loads(ran.out)["context"]["answer"] == {"ok": True}


def test_a_run_without_its_event_is_suspended_and_names_the_key(tmp_path):
    ran = run_cli("run", flow_file(tmp_path, {"w": WAIT}), "--payload", '{"id": 7}', "--event", 'x={"a": 1}')
    answer = json.loads(ran.out)
    assert (ran.code, answer["status"], answer["path"]) == (3, "SUSPENDED", [])
    assert [wait["key"] for wait in answer["waits"]] == ["order=7"]
    assert "step w waits for the event order=7" in ran.err
    assert "warning: nothing waited for the event x" in ran.err


def test_one_key_can_have_several_events(tmp_path):
    again = [{"condition": "$.answer.more == true", "nextStepInstanceId": "w"}]
    file = flow_file(tmp_path, {"w": {**WAIT, "transitions": again}})
    events = ["--event", 'order=1={"more": true}', "--event", 'order=1={"more": false}']
    assert json.loads(run_cli("run", file, "--payload", '{"id": 1}', *events).out)["path"] == ["w", "w"]


@pytest.mark.parametrize("chunks", [[], ["--chunks"]])
def test_items_of_a_fork_wait_too(tmp_path, chunks):
    steps = {
        "f": fork("w"),
        "w": {**WAIT, "correlationKeyTemplate": "item:{{currentItem}}", **then("v")},
        "v": compose(inputMappings={"v": "$.answer.v"}),
    }
    document = {
        "id": "waits",
        "startStepInstanceId": "f",
        "steps": steps,
        "airflow": {"maxInMemoryItems": 1},
    }
    file = write_file(tmp_path, "waits.json", document)
    events = [part for n in (2, 1) for part in ("--event", f'item:{n}={{"v": {n * 10}}}')]
    ran = run_cli("run", file, "--payload", '{"items": [1, 2]}', *chunks, *events)
    assert json.loads(ran.out)["context"]["steps_output"]["f"]["aggregatedData"] == [{"v": 10}, {"v": 20}]


@pytest.mark.parametrize("option", ["order", "=x", 'k={"a": 1', "k=[1]"])
def test_an_event_must_be_a_key_and_an_object(tmp_path, option):
    ran = run_cli("run", flow_file(tmp_path, {"w": WAIT}), "--event", option)
    assert ran.code == 2
    assert "--event" in ran.err
