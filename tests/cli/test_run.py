from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from airflow_allma.cli.json_options import UsageError, read_object
from airflow_allma.cli.progress import Progress
from airflow_allma.engine import BranchResult, BranchStatus
from tests.support.cli import flow_document, run_cli, write_file
from tests.support.engine import call, compose, fork, noop, then

ECHO = flow_document({"a": compose(inputMappings={"got": "$.initialContextData"})})


@pytest.fixture
def echo(tmp_path):
    return write_file(tmp_path, "echo.json", ECHO)


def test_the_output_is_status_error_path_and_context(echo):
    result = run_cli("run", echo, "--payload", '{"n": 1}')
    assert (result.code, list(result.json)) == (0, ["status", "error", "path", "context"])
    answer = result.json
    assert (answer["status"], answer["error"], answer["path"]) == ("COMPLETED", None, ["a"])
    assert answer["context"]["steps_output"]["a"] == {"got": {"n": 1}}
    assert answer["context"]["n"] == 1
    assert result.err == ""


def test_without_a_payload_it_is_an_empty_object(echo):
    assert run_cli("run", echo).json["context"]["initialContextData"] == {}


@pytest.mark.parametrize("start", ["", "\ufeff", "  \n"])
def test_a_payload_can_come_from_a_file(echo, tmp_path, start):
    payload = write_file(tmp_path, "payload.json", start + '{"name": "Zoë 🎈", "n": 1}')
    assert run_cli("run", echo, "--payload", payload).json["context"]["name"] == "Zoë 🎈"


def test_a_payload_of_json_lines_names_the_option_that_reads_them(echo, tmp_path):
    rows = write_file(tmp_path, "rows.jsonl", '{"id": 1}\n{"id": 2}\n')
    result = run_cli("run", echo, "--payload", rows)
    assert (result.code, result.out) == (2, "")
    assert "it is JSON Lines" in result.err
    assert "--store file:///folder" in result.err


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("{", "--payload is not JSON"),
        ("{'bill': 7}", "names and strings have double quotes"),
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
def test_a_payload_that_is_not_an_object_exits_with_2_and_says_so(echo, payload, message):
    result = run_cli("run", echo, "--payload", payload)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert message in result.err


def test_a_payload_file_must_contain_an_object(echo, tmp_path):
    for text in ("[]", "5", "not json", ""):
        assert run_cli("run", echo, "--payload", write_file(tmp_path, "p.json", text)).code == 2
    (tmp_path / "p.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"p\.json"):
        read_object(str(tmp_path / "p.json"), "--payload")


@pytest.mark.parametrize("number", [2**63, 2**64, 10**30, -(10**30), 0.1])
def test_numbers_are_not_changed(echo, number):
    result = run_cli("run", echo, "--payload", json.dumps({"n": number}))
    assert result.json["context"]["n"] == number


@pytest.mark.parametrize("depth", [50, 400])
def test_a_deep_payload_is_not_changed(echo, depth):
    result = run_cli("run", echo, "--payload", '{"a":' * depth + "1" + "}" * depth)
    assert result.code == 0
    assert result.out.count('"a"') >= depth


def test_data_too_deep_to_print_is_a_failure_and_still_one_json_object(tmp_path):
    steps = {
        "wrap": compose(
            inputMappings={"deep": "$.deep"},
            outputMappings={"$.deep": "$"},
            transitions=[
                {"condition": "$.list.length < 2000", "nextStepInstanceId": "wrap", "maxTransitions": 300},
            ],
        )
    }
    # A payload that can just be read: wrapping a number until it is too deep would take 5 seconds.
    payload = '{"list": [1], "deep": ' + '{"deep": ' * 800 + "1" + "}" * 801
    result = run_cli("run", write_file(tmp_path, "deep.json", flow_document(steps)), "--payload", payload)
    assert result.code == 1
    assert result.json["status"] == "FAILED"
    assert result.json["error"]["errorName"] == "PermanentStepError"
    # Not the error of a loop that went on too long, which has the same name.
    assert "JSON" in result.json["error"]["errorMessage"]


def test_a_failed_run_exits_with_1_and_prints_its_error(tmp_path):
    document = flow_document({"a": compose(outputValidation={"requiredFields": ["$.x"]})})
    result = run_cli("run", write_file(tmp_path, "f.json", document))
    assert result.code == 1
    assert result.json["status"] == "FAILED"
    assert result.json["error"]["errorName"] == "ContentBasedRetryableError"
    assert result.json["error"]["errorDetails"]["failedStepInstanceId"] == "a"


@pytest.mark.parametrize(
    "text", ["{", '{"id": "f"}', '{"id": "f", "startStepInstanceId": "x", "steps": {}}', "{}"]
)
def test_a_flow_that_is_not_valid_exits_with_2_and_prints_nothing(tmp_path, text):
    file = write_file(tmp_path, "broken.json", text)
    result = run_cli("run", file)
    assert (result.code, result.out) == (2, "")
    assert str(file) in result.err


def export(*flows):
    return {"formatVersion": "1.0", "exportedAt": "2026-01-01T00:00:00Z", "flows": list(flows)}


def test_a_flow_of_an_export_with_several_flows_can_be_selected(tmp_path):
    other = flow_document({"b": noop()}, id="other")
    broken = flow_document({"c": noop(**then("gone"))}, id="broken")
    file = write_file(tmp_path, "export.json", export(ECHO, other))
    unclear = run_cli("run", file)
    assert (unclear.code, unclear.out) == (2, "")
    assert "choose one with --flow: other, shop" in unclear.err
    assert run_cli("run", file, "--flow", "other").json["path"] == ["b"]
    unknown = run_cli("run", file, "--flow", "nobody")
    assert unknown.code == 2
    assert "no valid flow 'nobody'; valid flows: other, shop" in unknown.err
    file = write_file(tmp_path, "export.json", export(ECHO, broken))
    assert run_cli("run", file, "--flow", "shop").code == 0
    assert run_cli("run", file, "--flow", "broken").code == 2
    assert run_cli("run", file).code == 2


def test_a_file_without_a_flow_that_runs_offers_no_choice(tmp_path):
    result = run_cli("run", write_file(tmp_path, "export.json", export({**ECHO, "isPublished": False})))
    assert result.code == 2
    assert result.err.endswith("export.json: no flow that runs\n")


def test_a_trace_is_one_line_per_step_without_secrets(tmp_path):
    steps = {
        "fan": fork(**then("end")),
        "work": compose(inputMappings={"apiKey": "$.key", "n": "$.currentItem"}),
        "end": {"stepType": "END_FLOW"},
    }
    file = write_file(tmp_path, "f.json", flow_document(steps))
    result = run_cli("run", file, "--trace", "--payload", '{"key": "s3cr3t", "items": [5]}')
    work, fan, end = map(json.loads, result.err.splitlines())
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
    assert "s3cr3t" not in result.err


@pytest.fixture
def empty_site():
    """The URL of a server that answers 404 to everything."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_trace_names_what_a_step_did_outside(tmp_path, empty_site):
    steps = {
        "call": {
            "stepType": "API_CALL",
            "apiHttpMethod": "GET",
            "apiUrlTemplate": {"template": f"{empty_site}/none?token={{{{initialContextData.key}}}}"},
            "onError": {"continueOnFailure": True},
        }
    }
    file = write_file(tmp_path, "f.json", flow_document(steps))
    result = run_cli("run", file, "--trace", "--payload", '{"key": "s3cr3t"}')
    line = result.err.splitlines()[-1]
    (call,) = json.loads(line)["calls"]
    assert call.startswith(f"404 from GET {empty_site}/none?token=*** in ")
    assert "s3cr3t" not in line


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
    file = write_file(tmp_path, "f.json", flow_document(steps, flowVariables={"day": "monday"}))
    payload = json.dumps({"items": {"bucket": "in", "key": "users.jsonl"}})
    store = f"file://{tmp_path}/my%20store"
    result = run_cli("run", file, "--payload", payload, "--store", store)
    assert result.json["status"] == "COMPLETED", result.json["error"]
    saved = json.loads((tmp_path / "my store/out/monday/found.json").read_text())
    assert saved == result.json["context"]["steps_output"]["fan"]["aggregatedData"]
    assert [saved[0], saved[2]] == [{"user": 1}, {"user": 3}]
    assert saved[1]["error"]["errorDetails"]["lineNumber"] == 2


def test_an_offload_location_of_the_flow_is_used(tmp_path):
    steps = {"a": compose(literals={"text": "x" * 20_000})}
    document = flow_document(steps, airflow={"offloadLocation": "s3://large/out"})
    result = run_cli("run", write_file(tmp_path, "f.json", document), "--store", f"file://{tmp_path}/store")
    pointer = result.json["context"]["steps_output"]["a"]["_s3_output_pointer"]
    assert json.loads((tmp_path / "store/large" / pointer["key"]).read_text()) == {"text": "x" * 20_000}


@pytest.mark.parametrize("options", [[], ["--store"]], ids=["without --store", "with --store"])
def test_a_percent_encoded_folder_is_an_offload_location(tmp_path, options):
    location = f"file://{tmp_path}/a%20b"
    document = flow_document(
        {"a": compose(literals={"text": "x" * 20_000})}, airflow={"offloadLocation": location}
    )
    arguments = [*options, location] if options else []
    result = run_cli("run", write_file(tmp_path, "f.json", document), *arguments)
    assert result.code == 0, result.json["error"]
    pointer = result.json["context"]["steps_output"]["a"]["_s3_output_pointer"]
    assert pointer["key"].startswith(f"{tmp_path}/a b/".removeprefix("/"))
    assert json.loads(Path("/", pointer["key"]).read_text()) == {"text": "x" * 20_000}


def test_a_store_must_be_a_folder(echo, tmp_path):
    file = write_file(tmp_path, "file", "x")
    for store in ("folder", "s3://bucket", "file://relative", f"file://{file}", f"file://{file}/below"):
        result = run_cli("run", echo, "--store", store)
        assert (result.code, result.out) == (2, ""), store
        assert "--store" in result.err


def test_standard_output_is_one_json_object_whatever_is_logged(tmp_path):
    steps = {
        "a": compose(literals={"x": 1}, outputMappings={"$.y": "$.no.such"}, **then("b")),
        "b": call("http://127.0.0.1:9/{{x}}", onError={"continueOnFailure": True}, outputMappings={}),
    }
    steps["b"]["apiUrlTemplate"]["template"] = "not a url"
    file = write_file(tmp_path, "f.json", flow_document(steps))
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
    ("payload", "code", "message"),
    [
        ('{"n": 1}', 0, ""),
        ("{}", 2, "$: 'n' is a required property"),
        ('{"n": "x"}', 2, "$.n: 'x' is not of type 'integer'"),
        ('{"n": 1, "m": 1}', 2, "'m' was unexpected"),
    ],
)
def test_a_payload_that_does_not_fit_the_flows_schema_is_refused(tmp_path, payload, code, message):
    schema = {"required": ["n"], "additionalProperties": False, "properties": {"n": {"type": "integer"}}}
    file = write_file(tmp_path, "form.json", {**ECHO, "airflow": {"inputSchema": schema}})
    result = run_cli("run", file, "--payload", payload)
    assert result.code == code
    assert message in result.err
    assert (result.out == "") == (code != 0)


def test_a_run_ends_with_its_actions_whose_failures_change_nothing(tmp_path, empty_site):
    late = {"actionType": "LOG_ONLY", "executeOnStatus": "FAILED", "payloadTemplate": {"late": "$.n"}}
    actions = [
        {"actionType": "API_CALL", "target": f"{empty_site}/none", "apiHttpMethod": "GET"},
        {"actionType": "LOG_ONLY", "payloadTemplate": {"state": "$.status"}},
        late,
    ]
    document = {**flow_document({"a": noop()}), "onCompletionActions": actions}
    file = write_file(tmp_path, "flow.json", document)
    result = run_cli("run", file, "--trace")
    assert (result.code, result.json["status"]) == (0, "COMPLETED")
    assert "onCompletionActions[0] (API_CALL) failed: 404" in result.err
    assert 'onCompletionActions[1]: {"state":"COMPLETED"}' in result.err
    assert '"step":"onCompletionActions[1]"' in result.err
    assert "onCompletionActions[2]" not in result.err
    assert "onCompletionActions" not in run_cli("run", file, "--step", "a").err
