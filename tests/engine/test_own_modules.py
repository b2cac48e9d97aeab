from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from airflow_allma.engine.http_fake import json_response
from airflow_allma.storage import MemoryStore, Pointer
from tests.support.engine import Fakes, compose, fork, program_of, run, then
from tests.support.own_modules import CALL, forget, install, own, problems, run_external

CODE = """
import asyncio
import datetime
import sys

from airflow_allma import ContentBasedRetryableError, PermanentStepError, TransientStepError

calls = []

def echo(inputs, call):
    calls.append(inputs)
    return {"in": inputs, "step": call.step_id, "item": call.item_index, "branch": call.branch_id,
            "config": dict(call.config), "module": call.module_identifier}

async def later(inputs, call):
    await asyncio.sleep(0.001)
    return {"in": inputs, "run": call.flow_execution_id}

class Callable:
    async def __call__(self, inputs, call):
        return {"async": True}

an_object = Callable()

def value(inputs, call):
    return eval(inputs["python"])

def fail(inputs, call):
    raise eval(inputs["error"])

async def fail_later(inputs, call):
    raise eval(inputs["error"])

def transient(inputs, call):
    calls.append(inputs)
    if len(calls) < 3:
        raise TransientStepError("not yet")
    return {"tries": len(calls)}

def spoil(inputs, call):
    inputs.clear()
    call.context()["kept"] = "spoiled"
    loaded = call.load({"_s3_output_pointer": {"bucket": "b", "key": "k"}})
    return {"seen": call.context()["kept"], "loaded": loaded, "plain": call.load({"a": 1})}

def no_arguments():
    return {}

def generator(inputs, call):
    yield 1

not_callable = 7
"""
TARGETS = (
    "echo",
    "later",
    "an_object",
    "value",
    "fail",
    "fail_later",
    "transient",
    "spoil",
    "no_arguments",
    "generator",
    "not_callable",
    "missing",
)


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """A package whose modules are ``acme/<name of the function>``."""
    install(tmp_path / "site", "acme_tests", CODE, {f"acme/{name}": name for name in TARGETS})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield tmp_path / "site"
    forget("acme_tests")


@pytest.mark.parametrize(
    "kind", ["CUSTOM_LOGIC", "DATA_LOAD", "DATA_SAVE", "DATA_TRANSFORMATION", "API_CALL"]
)
def test_a_module_gets_its_config_below_its_input_on_each_type(acme, kind):
    del acme
    step = own(
        "acme/echo",
        kind,
        customConfig={"a": "{{x}}", "b": "$.list", "c": 3},
        inputMappings={"c": "$.x"},
        literals={"d": "{{c}}!"},
        **(CALL if kind == "API_CALL" else {}),
    )
    ran = run({"own": step}, {"x": "1", "list": [1]})
    assert ran.outputs["own"] == {
        "in": {"a": "1", "b": [1], "c": "1", "d": "1!"},
        "step": "own",
        "item": None,
        "branch": None,
        "config": {"a": "1", "b": [1], "c": 3},
        "module": "acme/echo",
    }


@pytest.mark.parametrize(
    ("name", "expected"), [("later", {"in": {"a": 1}, "run": "run-1"}), ("an_object", {"async": True})]
)
def test_coroutines_run_on_the_event_loop(acme, name, expected):
    del acme
    assert run({"own": own(f"acme/{name}", literals={"a": 1})}).outputs["own"] == expected


def test_a_module_cannot_change_the_runs_data_and_can_load_pointers(acme):
    del acme
    store = MemoryStore()
    store.write(Pointer("b", "k"), b'{"big": 1}', content_type="application/json")
    ran = run({"own": own("acme/spoil")}, {"kept": "kept"}, store=store)
    assert ran.context["kept"] == "kept"
    assert ran.outputs["own"] == {"seen": "kept", "loaded": {"big": 1}, "plain": {"a": 1}}


@pytest.mark.parametrize(
    ("python", "output"),
    [
        ("None", {}),
        ("{}", {}),
        ("[1, (2, 3)]", [1, [2, 3]]),
        ("'text'", "text"),
        ("{'when': datetime.date(2026, 3, 1)}", {"when": "2026-03-01"}),
    ],
)
def test_an_output_becomes_json(acme, python, output):
    del acme
    ran = run({"own": own("acme/value", literals={"python": python}, outputMappings={"$.got": "$"})})
    assert ran.status == "COMPLETED", ran.error
    assert ran.context["got"] == output


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("object()", "is not JSON"),
        ("{1: {2: lambda: 0}}", "is not JSON"),
        ("'\\ud800'", "is not JSON"),
        ("(i for i in [1])", "is not JSON"),
    ],
)
def test_an_output_that_is_not_json_is_a_permanent_error(acme, python, message):
    del acme
    ran = run({"own": own("acme/value", literals={"python": python})})
    assert ran.error["errorName"] == "PermanentStepError"
    assert message in ran.error["errorMessage"]
    assert "acme/value" in ran.error["errorMessage"]


@pytest.mark.parametrize("name", ["fail", "fail_later"])
@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            "ValueError('no such person')",
            "PermanentStepError",
            "Module 'acme/{name}' failed: ValueError: no such person",
        ),
        ("SystemExit(3)", "PermanentStepError", "failed: SystemExit: 3"),
        ("KeyboardInterrupt()", "PermanentStepError", "failed: KeyboardInterrupt"),
        ("ImportError('numpy')", "PermanentStepError", "failed: ImportError: numpy"),
        ("asyncio.CancelledError()", "PermanentStepError", "failed: CancelledError"),
        ("PermanentStepError('said so', error_name='Mine')", "Mine", "said so"),
        ("TransientStepError('later')", "TransientStepError", "later"),
        ("ContentBasedRetryableError('bad text')", "ContentBasedRetryableError", "bad text"),
    ],
)
def test_what_a_module_raises_is_an_error_of_the_step(acme, name, error, kind, message):
    del acme
    ran = run({"own": own(f"acme/{name}", literals={"error": error})})
    assert ran.error["errorName"] == kind
    assert message.format(name=name) in ran.error["errorMessage"]
    assert ran.error["errorDetails"]["failedStepInstanceId"] == "own"


def test_a_transient_error_is_tried_again(acme):
    del acme
    assert run({"own": own("acme/transient")}).outputs["own"] == {"tries": 3}


def test_a_module_runs_for_each_item_of_a_fork(acme):
    del acme
    steps = {"each": fork("own", items="$.n"), "own": own("acme/echo", inputMappings={"n": "$.currentItem"})}
    rows = run(steps, {"n": list(range(50))}).outputs["each"]["aggregatedData"]
    assert [(row["in"]["n"], row["item"], row["branch"]) for row in rows] == [(n, n, "b") for n in range(50)]


@pytest.mark.parametrize(
    ("kind", "effects"),
    [("CUSTOM_LOGIC", True), ("DATA_SAVE", True), ("DATA_LOAD", False), ("DATA_TRANSFORMATION", False)],
)
def test_only_types_that_read_or_compute_run_again_by_themselves(acme, kind, effects):
    del acme
    assert program_of({"own": own("acme/echo", kind)}).steps["own"].handler.has_side_effects is effects


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (own("acme/no_arguments"), "takes (); it must take (input, call)"),
        (own("acme/generator"), "is a generator"),
        (own("acme/not_callable"), "is not a callable (input, call)"),
        (own("acme/missing"), "cannot be imported: acme_tests:missing of package acme_tests: AttributeError"),
        (own("acme/ecko"), "module 'acme/ecko' does not exist; did you mean 'acme/echo'?"),
        (own("s3-data-loader", "DATA_LOAD"), "did you mean 'system/s3-data-loader'?"),
        (own("systems/s3-data-loader", "DATA_LOAD"), "did you mean 'system/s3-data-loader'?"),
        (own("other/thing"), "or add it to [allma] external_modules"),
        (own("system/s3-data-loader"), "cannot run in a CUSTOM_LOGIC step; set stepType to DATA_LOAD"),
        (own("system/s3-data-loadr"), "did you mean 'system/s3-data-loader'?"),
    ],
)
def test_what_cannot_be_called_is_a_located_error_at_load(acme, tmp_path, step, message):
    del acme
    ((path, found),) = problems(tmp_path, step)
    assert path == "$.steps.own.moduleIdentifier"
    assert message in found


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_a_package_that_cannot_be_imported_breaks_only_the_flows_that_use_it(
    acme, tmp_path, monkeypatch, code, message
):
    del acme
    install(tmp_path / "broken", "acme_broken", code, {"acme/broken": "f"})
    monkeypatch.syspath_prepend(str(tmp_path / "broken"))
    ((path, found),) = problems(tmp_path, own("acme/broken"))
    assert path == "$.steps.own.moduleIdentifier"
    assert f"cannot be imported: acme_broken:f of package acme_broken: {message}" in found
    assert problems(tmp_path, own("acme/echo")) == []
    forget("acme_broken")


def test_nothing_is_imported_for_flows_that_name_no_such_module(acme, tmp_path):
    del acme
    assert problems(tmp_path, compose()) == []
    assert "acme_tests" not in sys.modules


def test_an_id_that_two_packages_register_is_an_error(acme, tmp_path, monkeypatch):
    del acme
    install(tmp_path / "second", "acme_second", "def f(a, b): ...", {"acme/echo": "f"})
    monkeypatch.syspath_prepend(str(tmp_path / "second"))
    ((_, found),) = problems(tmp_path, own("acme/echo"))
    assert "registered more than once: acme_second:f (acme_second), acme_tests:echo (acme_tests)" in found


def test_entry_points_that_are_not_valid_break_only_the_flows_that_use_them(acme, tmp_path):
    install(acme, "acme_broken", "", {})
    with (acme / "acme_broken-1.0.dist-info" / "entry_points.txt").open("a") as stream:
        stream.write("no equals sign\n")
    ((_, found),) = problems(tmp_path, own("acme/echo"))
    assert "the entry_points.txt of one is not valid" in found
    assert problems(tmp_path, compose()) == []


def test_an_item_whose_module_is_cancelled_is_not_lost(acme):
    del acme
    steps = {
        "each": fork("own"),
        "own": own("acme/fail_later", literals={"error": "asyncio.CancelledError()"}),
    }
    ran = run(steps, {"items": [1, 2]})
    assert "2 of 2 branch runs failed" in ran.error["errorMessage"]


def test_no_package_can_replace_a_module_of_the_language(tmp_path, monkeypatch):
    install(tmp_path / "site", "acme_evil", "def f(a, b): return {}", {"system/generate-array": "f"})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    step = own("system/generate-array", "DATA_TRANSFORMATION", literals={"count": 1})
    assert run({"own": step}).outputs["own"] == {"array": [0]}


def test_the_setting_comes_before_entry_points(acme):
    del acme
    fakes = Fakes()
    fakes.http.route("POST", "https://a.test/x", json_response({"outputData": {"from": "http"}}))
    ran = run_external(own("acme/echo"), {"acme/echo": "https://a.test/x"}, fakes=fakes)
    assert ran.outputs["own"] == {"from": "http"}


# The template package in docs


def test_the_template_package_installs_and_its_modules_run(tmp_path, monkeypatch, repository):
    # Building leaves files behind.
    copy = shutil.copytree(repository / "docs" / "own-module-template", tmp_path / "template")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            "--quiet",
            "--offline",
            "--no-deps",
            "--no-build-isolation",
            "--target",
            str(tmp_path / "site"),
            str(copy),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    steps = {
        "score": own(
            "acme/risk-score",
            customConfig={"limit": 50},
            inputMappings={"age": "$.person.age"},
            **then("look"),
        ),
        "look": own(
            "acme/look-up",
            "DATA_LOAD",
            customConfig={"table": {"7": "Ada"}},
            inputMappings={"id": "$.person.id"},
        ),
    }
    ran = run(steps, {"person": {"age": 40, "id": 7}})
    assert ran.outputs == {"score": {"score": 80, "band": "high"}, "look": {"name": "Ada"}}
    failed = run(steps, {"person": {"age": "forty"}})
    assert failed.error["errorMessage"] == "age must be a whole number; it is str."
    forget("acme_modules")
