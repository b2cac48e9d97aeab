"""The imports of task processes, which cost time in every task of a flow."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from demo.processes import clean_environment

pytestmark = pytest.mark.airflow

LOAD_PLUGINS = """
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
assert "allma" in {plugin.name for plugin in plugins_manager._get_plugins()[0]}
"""
IN_A_TASK = """
from airflow.sdk.execution_time import task_runner
task_runner.SUPERVISOR_COMMS = object()
"""
SERVICES = """
import logging
from airflow_allma.operators.airflow_services import build_services
from airflow_allma.configuration import load_settings
assert build_services(load_settings(), logging.getLogger()).store is not None
"""

SDK = {"mcp", "mcp_types", "httpx2"}
OF_MODELS = {"airflow_allma.engine.steps.llm_invocation", "google.auth", "json_repair"} | {
    f"airflow_allma.engine.llm.{name}"
    for name in (
        *("anthropic", "bedrock", "clients", "gemini", "lambda_model", "openai", "vertex"),
        *(
            "answer_cache",
            "candidates",
            "json_output",
            "media",
            "model_chain",
            "model_http",
            "prompt",
            "tools",
        ),
    )
}
"""What only steps that ask models need."""


def imported(source, tmp_path, **environment):
    """Return the names of the modules that a new process has imported, without those ``before``."""
    whole = f"before = set()\n{source}\nimport json, sys\nprint(json.dumps(list(set(sys.modules) - before)))"
    ran = subprocess.run(
        [sys.executable, "-c", whole],
        env=clean_environment({"AIRFLOW_HOME": str(tmp_path), **environment}),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(ran.stdout.splitlines()[-1]))


def test_a_process_that_forks_tasks_has_imported_what_flows_need(tmp_path):
    assert {"airflow_allma.engine.forking", "airflow_allma.dag_factory.build"} <= imported(
        LOAD_PLUGINS, tmp_path
    )


def test_an_invalid_setting_of_flows_does_not_disable_the_plugin_with_its_timetables(tmp_path):
    assert "airflow_allma.plugin" in imported(LOAD_PLUGINS, tmp_path, AIRFLOW__ALLMA__LOST_TASK_RETRIES="x")


def test_a_process_for_tasks_of_any_dag_does_not_import_the_engine(tmp_path):
    names = imported(IN_A_TASK + LOAD_PLUGINS, tmp_path)
    assert "airflow_allma.plugin" in names
    assert not {"airflow_allma.engine", "airflow_allma.dag_factory.build"} & names


def test_loading_a_flow_that_calls_tools_does_not_import_the_sdk_of_the_protocol(tmp_path):
    step = {"stepType": "MCP_CALL", "connection": "wiki", "toolName": "find"}
    flow = {"id": "tools", "startStepInstanceId": "a", "steps": {"a": step}}
    (tmp_path / "tools.json").write_text(json.dumps(flow))
    load = f"from pathlib import Path\nassert load_flows(Path({str(tmp_path)!r}))['tools'].get_task('a')\n"
    load = f"from airflow_allma.dag_factory import load_flows\n{load}"
    assert not SDK & imported(LOAD_PLUGINS + load + SERVICES, tmp_path)


def test_a_parse_of_flows_that_ask_models_does_not_import_their_clients(tmp_path):
    step = {"stepType": "LLM_INVOCATION", "llmProvider": "GEMINI", "modelId": "m", "promptTemplateId": "hi"}
    flow = {"id": "asks", "startStepInstanceId": "a", "steps": {"a": step}}
    (tmp_path / "asks.json").write_text(json.dumps(flow))
    (tmp_path / "hi.prompt.json").write_text(json.dumps({"id": "hi", "content": "Hello {{name}}"}))
    load = f"from pathlib import Path\nassert load_flows(Path({str(tmp_path)!r}))['asks'].get_task('a')\n"
    names = imported(f"{LOAD_PLUGINS}from airflow_allma.dag_factory import load_flows\n{load}", tmp_path)
    assert "airflow_allma.flow.steps.llm" in names
    assert not OF_MODELS & names


def test_the_first_call_of_a_step_that_asks_models_imports_them(tmp_path):
    handler = "from airflow_allma.engine.steps.llm_invocation import LlmInvocation"
    assert OF_MODELS - {"google.auth", "json_repair"} <= imported(handler, tmp_path)


def test_a_task_of_a_flow_that_asks_no_model_does_not_import_their_clients(tmp_path):
    (tmp_path / "calls.json").write_text(json.dumps(FLOW))
    names = imported(f"{LOAD_PLUGINS}{SERVICES}{RUN_IN_A_TASK.format(folder=str(tmp_path))}", tmp_path)
    # A later line of the source forgets what was imported before it.
    before = imported(f"{LOAD_PLUGINS}{SERVICES}", tmp_path)
    assert not OF_MODELS & (names | before)


def test_a_task_that_calls_no_aws_service_does_not_import_its_client(tmp_path):
    assert not {"boto3", "botocore", "urllib3"} & imported(SERVICES, tmp_path)


FLOW = {
    "id": "calls",
    "startStepInstanceId": "f",
    "steps": {
        "f": {
            "stepType": "PARALLEL_FORK_MANAGER",
            "itemsPath": "$.items",
            "parallelBranches": [{"branchId": "b", "stepInstanceId": "call"}],
        },
        "call": {
            "stepType": "API_CALL",
            "apiHttpMethod": "GET",
            "apiUrlTemplate": {"template": "http://127.0.0.1:9/{{currentItem.id}}"},
            "customConfig": {"timeoutMs": 1000, "headers": {"x-id": "{{currentItem.id}}"}},
            "onError": {"continueOnFailure": True},
        },
    },
}
RUN_IN_A_TASK = """
import sys
before = set(sys.modules)
import asyncio
from pathlib import Path
from airflow_allma.dag_factory import load_flows
from airflow_allma.engine import ForkRun, RunInfo, Services
dag = load_flows(Path({folder!r}))["calls"]
dag.get_template_env()
task = dag.get_task("f.b.call")
fork = task.flow.fork("f")

async def no_waiting(seconds):
    await asyncio.sleep(0)

async def main():
    services = Services(sleep=no_waiting)
    run = ForkRun(fork, {{"items": []}}, RunInfo.now("calls", 1, "run-1"), services)
    result = await run.branch(fork.branches[0], 0, {{"id": 7}})
    await services.close()
    return result

assert "127.0.0.1:9/7" in str(asyncio.run(main())), "it was to call"
"""


def test_a_forked_task_imports_nothing_more_to_build_its_dag_and_call_an_api(tmp_path):
    (tmp_path / "calls.json").write_text(json.dumps(FLOW))
    assert imported(LOAD_PLUGINS + RUN_IN_A_TASK.format(folder=str(tmp_path)), tmp_path) == set()
