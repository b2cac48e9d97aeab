from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_allma.cli.progress import Progress
from airflow_allma.cli.run_command import UsageError, read_payload
from airflow_allma.engine import BranchResult, BranchStatus
from tests.support.cli import Called, flow_document, written
from tests.support.engine import call, compose, fork, noop, then

ECHO = flow_document({"a": compose(inputMappings={"got": "$.initialContextData"})})


@pytest.fixture
def echo(tmp_path):
    return written(tmp_path, "echo.json", ECHO)


def test_the_answer_is_status_error_path_and_context(echo):
    called = Called("run", echo, "--payload", '{"n": 1}')
    assert (called.code, list(called.answer)) == (0, ["status", "error", "path", "context"])
    answer = called.answer
    assert (answer["status"], answer["error"], answer["path"]) == ("COMPLETED", None, ["a"])
    assert answer["context"]["steps_output"]["a"] == {"got": {"n": 1}}
    assert answer["context"]["n"] == 1
    assert called.err == ""


def test_without_a_payload_it_is_an_empty_object(echo):
    assert Called("run", echo).answer["context"]["initialContextData"] == {}


@pytest.mark.parametrize("start", ["", "\ufeff", "  \n"])
def test_a_payload_may_come_from_a_file(echo, tmp_path, start):
    payload = written(tmp_path, "payload.json", start + '{"name": "Zoë 🎈", "n": 1}')
    assert Called("run", echo, "--payload", payload).answer["context"]["name"] == "Zoë 🎈"


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ("{", "--payload is not JSON"),
        ('{"a": NaN}', "--payload is not JSON"),
        ('{"a": "\\ud800"}', "--payload is not JSON"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "--payload is not JSON"),
        ("[1]", "must be a JSON object such as"),
        ("5", "--payload 5 is neither a JSON object nor a file that can be read"),
        ("no/such.json", "neither a JSON object nor a file that can be read"),
        ("a\0b", "neither a JSON object nor a file that can be read"),
        ("", "neither a JSON object nor a file that can be read"),
    ],
)
def test_a_payload_that_is_no_object_exits_with_2_and_says_so(echo, payload, said):
    called = Called("run", echo, "--payload", payload)
    assert (called.code, called.out) == (2, "")
    assert called.err.startswith("error: ")
    assert said in called.err


def test_a_payload_file_must_hold_an_object(echo, tmp_path):
    for text in ("[]", "5", "not json", ""):
        assert Called("run", echo, "--payload", written(tmp_path, "p.json", text)).code == 2
    (tmp_path / "p.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"p\.json"):
        read_payload(str(tmp_path / "p.json"))


@pytest.mark.parametrize("number", [2**63, 2**64, 10**30, -(10**30), 0.1])
def test_numbers_come_out_as_they_went_in(echo, number):
    called = Called("run", echo, "--payload", json.dumps({"n": number}))
    assert called.answer["context"]["n"] == number


@pytest.mark.parametrize("depth", [50, 400])
def test_a_deep_payload_comes_through(echo, depth):
    called = Called("run", echo, "--payload", '{"a":' * depth + "1" + "}" * depth)
    assert called.code == 0
    assert called.out.count('"a"') >= depth


def test_data_too_deep_to_be_shown_is_a_failure_and_still_one_json_object(tmp_path):
    steps = {
        "wrap": compose(
            inputMappings={"deep": "$.deep"},
            outputMappings={"$.deep": "$"},
            transitions=[
                {"condition": "$.list.length < 2000", "nextStepInstanceId": "wrap", "maxTransitions": 1200},
            ],
        )
    }
    called = Called("run", written(tmp_path, "deep.json", flow_document(steps)), "--payload", '{"list": [1]}')
    assert called.code == 1
    assert called.answer["status"] == "FAILED"
    assert called.answer["error"]["errorName"] == "PermanentStepError"


def test_a_failed_run_exits_with_1_and_prints_its_error(tmp_path):
    document = flow_document({"a": compose(outputValidation={"requiredFields": ["$.x"]})})
    called = Called("run", written(tmp_path, "f.json", document))
    assert called.code == 1
    assert called.answer["status"] == "FAILED"
    assert called.answer["error"]["errorName"] == "ContentBasedRetryableError"
    assert called.answer["error"]["errorDetails"]["failedStepInstanceId"] == "a"


@pytest.mark.parametrize(
    "text", ["{", '{"id": "f"}', '{"id": "f", "startStepInstanceId": "x", "steps": {}}', "{}"]
)
def test_a_flow_that_is_not_valid_exits_with_2_and_prints_nothing(tmp_path, text):
    file = written(tmp_path, "broken.json", text)
    called = Called("run", file)
    assert (called.code, called.out) == (2, "")
    assert str(file) in called.err


def export(*flows):
    return {"formatVersion": "1.0", "exportedAt": "2026-01-01T00:00:00Z", "flows": list(flows)}


def test_of_an_export_of_several_flows_one_is_chosen(tmp_path):
    other = flow_document({"b": noop()}, id="other")
    broken = flow_document({"c": noop(**then("gone"))}, id="broken")
    file = written(tmp_path, "export.json", export(ECHO, other))
    unclear = Called("run", file)
    assert (unclear.code, unclear.out) == (2, "")
    assert "choose one with --flow: other, shop" in unclear.err
    assert Called("run", file, "--flow", "other").answer["path"] == ["b"]
    unknown = Called("run", file, "--flow", "nobody")
    assert unknown.code == 2
    assert "no valid flow 'nobody'; valid flows: other, shop" in unknown.err
    file = written(tmp_path, "export.json", export(ECHO, broken))
    assert Called("run", file, "--flow", "shop").code == 0
    assert Called("run", file, "--flow", "broken").code == 2
    assert Called("run", file).code == 2


def test_a_trace_is_a_line_for_each_step_without_secrets(tmp_path):
    steps = {
        "fan": fork(**then("end")),
        "work": compose(inputMappings={"apiKey": "$.key", "n": "$.currentItem"}),
        "end": {"stepType": "END_FLOW"},
    }
    file = written(tmp_path, "f.json", flow_document(steps))
    called = Called("run", file, "--trace", "--payload", '{"key": "s3cr3t", "items": [5]}')
    work, fan, end = map(json.loads, called.err.splitlines())
    assert (work["step"], work["branch"], work["item"], work["input"]) == (
        "work", "b", 0, {"apiKey": "***", "n": 5},
    )  # fmt: skip
    assert (work["type"], work["next"], work["error"], work["tries"]) == (
        "DATA_TRANSFORMATION",
        None,
        None,
        1,
    )
    assert (fan["step"], fan["next"], "branch" in fan, end["step"]) == ("fan", "end", False, "end")
    assert "s3cr3t" not in called.err


SAVER = {
    "stepType": "DATA_SAVE",
    "moduleIdentifier": "system/s3-data-saver",
    "customConfig": {"destinationS3UriTemplate": "s3://out/{{flow_variables.day}}/found.json"},
    "inputMappings": {"contentToSave": "$.steps_output.fan.aggregatedData"},
}


def test_a_manifest_in_a_folder_is_read_and_results_are_saved_there(tmp_path):
    bucket = tmp_path / "my store" / "in"
    bucket.mkdir(parents=True)
    (bucket / "users.jsonl").write_text('{"id": 1}\nnot json\n{"id": 3}\n')
    steps = {
        "fan": fork(config={"failOnBranchError": False}, **then("save")),
        "work": compose(inputMappings={"user": "$.currentItem.id"}),
        "save": SAVER,
    }
    file = written(tmp_path, "f.json", flow_document(steps, flowVariables={"day": "monday"}))
    payload = json.dumps({"items": {"bucket": "in", "key": "users.jsonl"}})
    store = f"file://{tmp_path}/my%20store"
    called = Called("run", file, "--payload", payload, "--store", store)
    assert called.answer["status"] == "COMPLETED", called.answer["error"]
    saved = json.loads((tmp_path / "my store/out/monday/found.json").read_text())
    assert saved == called.answer["context"]["steps_output"]["fan"]["aggregatedData"]
    assert [saved[0], saved[2]] == [{"user": 1}, {"user": 3}]
    assert saved[1]["error"]["errorDetails"]["lineNumber"] == 2


def test_an_offload_location_of_the_flow_is_used(tmp_path):
    steps = {"a": compose(literals={"text": "x" * 20_000})}
    document = flow_document(steps, airflow={"offloadLocation": "s3://large/out"})
    called = Called("run", written(tmp_path, "f.json", document), "--store", f"file://{tmp_path}/store")
    pointer = called.answer["context"]["steps_output"]["a"]["_s3_output_pointer"]
    assert json.loads((tmp_path / "store/large" / pointer["key"]).read_text()) == {"text": "x" * 20_000}


@pytest.mark.parametrize("options", [[], ["--store"]], ids=["without --store", "with --store"])
def test_a_percent_encoded_folder_is_an_offload_location(tmp_path, options):
    location = f"file://{tmp_path}/a%20b"
    document = flow_document(
        {"a": compose(literals={"text": "x" * 20_000})}, airflow={"offloadLocation": location}
    )
    arguments = [*options, location] if options else []
    called = Called("run", written(tmp_path, "f.json", document), *arguments)
    assert called.code == 0, called.answer["error"]
    pointer = called.answer["context"]["steps_output"]["a"]["_s3_output_pointer"]
    assert pointer["key"].startswith(f"{tmp_path}/a b/".removeprefix("/"))
    assert json.loads(Path("/", pointer["key"]).read_text()) == {"text": "x" * 20_000}


def test_a_store_must_be_a_folder(echo, tmp_path):
    file = written(tmp_path, "file", "x")
    for store in ("folder", "s3://bucket", "file://relative", f"file://{file}", f"file://{file}/below"):
        called = Called("run", echo, "--store", store)
        assert (called.code, called.out) == (2, ""), store
        assert "--store" in called.err


def test_standard_output_is_one_json_object_whatever_is_logged(tmp_path):
    steps = {
        "a": compose(literals={"x": 1}, outputMappings={"$.y": "$.no.such"}, **then("b")),
        "b": call("http://127.0.0.1:9/{{x}}", onError={"continueOnFailure": True}, outputMappings={}),
    }
    steps["b"]["apiUrlTemplate"]["template"] = "not a url"
    file = written(tmp_path, "f.json", flow_document(steps))
    answer = subprocess.run(
        [sys.executable, "-m", "airflow_allma", "run", str(file), "--trace"],
        capture_output=True,
        check=False,
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count(b"\n") == 1
    assert json.loads(answer.stdout)["status"] == "COMPLETED"
    assert b"WARNING: $.no.such finds nothing in the output of step a" in answer.stderr


class Screen:
    """A standard error that may be a terminal."""

    def __init__(self, *, terminal):
        self.terminal = terminal
        self.text = ""

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text

    def flush(self):
        return None


@pytest.mark.parametrize(
    ("terminal", "seconds", "shown"), [(True, 0.7, True), (True, 0.1, False), (False, 0.7, False)]
)
def test_a_progress_bar_is_for_terminals_and_long_forks(monkeypatch, terminal, seconds, shown):
    screen = Screen(terminal=terminal)
    clock = iter(seconds * tick for tick in range(100))
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr("airflow_allma.cli.progress.monotonic", lambda: next(clock))
    with Progress() as progress:
        for index in range(6):
            status = BranchStatus.FAILED if index == 4 else BranchStatus.OK
            progress.branch_ended(BranchResult(index, 0, "b", status))
    assert ("branch runs" in screen.text) is shown
    assert ("6" in screen.text.rsplit("\r", 1)[-1]) is shown
    assert ("failed=1" in screen.text) is shown


@pytest.mark.parametrize(
    ("payload", "code", "said"),
    [
        ('{"n": 1}', 0, ""),
        ("{}", 2, "$: 'n' is a required property"),
        ('{"n": "x"}', 2, "$.n: 'x' is not of type 'integer'"),
        ('{"n": 1, "m": 1}', 2, "'m' was unexpected"),
    ],
)
def test_a_payload_that_does_not_fit_the_flows_schema_is_refused(tmp_path, payload, code, said):
    schema = {"required": ["n"], "additionalProperties": False, "properties": {"n": {"type": "integer"}}}
    file = written(tmp_path, "form.json", {**ECHO, "airflow": {"inputSchema": schema}})
    called = Called("run", file, "--payload", payload)
    assert called.code == code
    assert said in called.err
    assert (called.out == "") == (code != 0)
