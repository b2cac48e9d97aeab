"""Functions that flows name: none can end the process, and those of the platform are refused."""

from __future__ import annotations

import sys

import pytest

from airflow_allma.engine import EngineSettings
from airflow_allma.engine.custom_aggregators import load_custom_aggregator
from airflow_allma.engine.foreign_packages import is_platform_module
from airflow_allma.exceptions import PermanentStepError
from tests.support.engine import compose, fork, noop, run, then

SOURCES = {
    "import sys; sys.exit(3)": "cannot be imported: SystemExit: 3",
    "raise KeyboardInterrupt": "cannot be imported: KeyboardInterrupt",
    "exit()": "cannot be imported: SystemExit",
    "raise MemoryError": "cannot be imported: MemoryError",
    "def f(results): raise SystemExit('bye')": "raised SystemExit: bye",
    "def f(results): raise KeyboardInterrupt": "raised KeyboardInterrupt",
    "import sys\ndef f(results):\n    list(results)\n    sys.exit()": "raised SystemExit",
    "def f(results):\n    return f(results)": "raised RecursionError",
}


def aggregating(name, **fields):
    config = {"strategy": "CUSTOM_MODULE", "customModuleIdentifier": f"{name}:f"}
    return {"fan": fork(config=config, **fields), "work": compose(), "after": noop()}


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """Write a module and return its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source):
        name = f"foreign_{abs(hash((request.node.name, source)))}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    before = set(sys.modules)
    yield write
    for name in set(sys.modules) - before:
        if name.startswith("foreign_"):
            del sys.modules[name]


@pytest.mark.parametrize("source", SOURCES)
def test_foreign_code_that_would_end_the_process_fails_the_step(module, source):
    ran = run(aggregating(module(source)), {"items": [1]})
    assert (ran.status, ran.error["errorName"]) == ("FAILED", "PermanentStepError")
    assert SOURCES[source] in ran.error["errorMessage"]


@pytest.mark.parametrize("source", SOURCES)
def test_the_flow_continues_after_it_if_the_step_says_so(module, source):
    steps = aggregating(module(source), **then("after", onError={"continueOnFailure": True}))
    ran = run(steps, {"items": [1]})
    assert (ran.status, ran.path) == ("COMPLETED", ["fan", "after"])


PLATFORM = [
    "airflow.utils.db:resetdb",
    "pip:main",
    "pip._internal.cli.main:main",
    "test.support:run_unittest",
    "setuptools:setup",
    "boto3:client",
    "yaml:load",
    "airflow_allma.cli:main",
    "__main__:main",
]


@pytest.mark.parametrize("identifier", PLATFORM)
def test_functions_of_the_platform_are_refused_without_prefixes(identifier):
    before = set(sys.modules)
    with pytest.raises(PermanentStepError, match=r"is not allowed.*custom_module_prefixes allows more"):
        load_custom_aggregator(identifier)
    assert identifier.partition(":")[0] in before or identifier.partition(":")[0] not in sys.modules


def test_prefixes_can_allow_a_function_of_the_platform():
    assert load_custom_aggregator("yaml:load", ("yaml",)).__name__ == "load"


def test_installed_packages_that_airflow_does_not_need_are_allowed():
    assert not is_platform_module("hypothesis.strategies")
    assert not is_platform_module("tests.support.aggregators")
    assert not is_platform_module("no_such_package.module")


def test_a_module_on_the_python_path_is_allowed(module):
    name = module("def f(results):\n    return len(list(results))")
    ran = run(aggregating(name), {"items": [1, 2]}, settings=EngineSettings())
    assert ran.outputs["fan"] == {"aggregatedData": 2}
