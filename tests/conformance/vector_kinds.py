"""Functions that run each kind of vector: they return the result or NOTHING, or raise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from airflow_allma.engine import (
    Aggregator,
    BranchResult,
    BranchStatus,
    RunInfo,
    RunState,
    SegmentStatus,
    Services,
    compile_flow,
    run_segment,
)
from airflow_allma.engine.mappings import InputPlan, OutputPlan
from airflow_allma.engine.modules import run_module
from airflow_allma.engine.program import CompiledFork, Program
from airflow_allma.engine.step_execution import StepExecution, commit_output
from airflow_allma.exceptions import AllmaError
from airflow_allma.expressions import (
    NOTHING,
    compile_condition,
    compile_config,
    compile_context_mappings,
    compile_path,
    compile_template,
    copy_value,
)
from airflow_allma.flow import Flow, ParallelForkManagerStep, parse_flow
from airflow_allma.loading import FLOW_CHECKS

LOG = logging.getLogger("tests.conformance")
INFO = RunInfo("flow", 1, "00000000-0000-4000-8000-000000000000", "2026-01-01T00:00:00.000Z")


def flow_of(document: dict[str, Any]) -> Flow:
    return parse_flow(document, FLOW_CHECKS)


def run_path(given: dict[str, Any]) -> Any:
    return compile_path(given["path"]).find(given["data"])


def run_condition(given: dict[str, Any]) -> Any:
    return compile_condition(given["condition"]).matches(given["context"])


def run_input_mapping(given: dict[str, Any]) -> Any:
    return InputPlan(given["mappings"], {}).build(given["context"], INFO, _no_load, LOG)


def run_output_mapping(given: dict[str, Any]) -> Any:
    state = RunState(None, given["context"])
    before = copy_value(given["context"])
    OutputPlan("step", given["mappings"]).apply(
        state, given["output"], step_input={}, meta=NOTHING, whole=given["output"], load=_no_load, log=LOG
    )
    assert given["context"] == before, "a context is never changed in place"
    return state.context


def run_template(given: dict[str, Any]) -> Any:
    return compile_template(given["template"]).render(given["context"])


def run_config_rendering(given: dict[str, Any]) -> Any:
    return compile_config(given["config"]).render(given["context"])


def run_template_context(given: dict[str, Any]) -> Any:
    return compile_context_mappings(given["mappings"]).resolve(given["context"])


def run_next_step(given: dict[str, Any]) -> Any:
    document = given["step"]
    step_id = document["stepInstanceId"]
    targets = {one["nextStepInstanceId"] for one in document.get("transitions", [])}
    targets.add(document.get("defaultNextStepInstanceId"))
    others = {target: {"stepInstanceId": target, "stepType": "NO_OP"} for target in targets - {None, step_id}}
    flow = flow_of({"id": "f", "startStepInstanceId": step_id, "steps": {step_id: document, **others}})
    step = compile_flow(flow).steps[step_id]
    state = RunState(step_id, given["state"]["currentContextData"])
    commit_output(StepExecution(step, state, INFO, Services(), {}), {}, {})
    return NOTHING if state.next_step is None else state.next_step


def run_module_vector(given: dict[str, Any]) -> Any:
    return run_module(given["module"], given["input"])


def run_aggregation(given: dict[str, Any]) -> Any:
    step: dict[str, Any] = {
        "stepType": "PARALLEL_FORK_MANAGER",
        "itemsPath": "$.items",
        "parallelBranches": [],
        "aggregationConfig": given["config"],
    }
    if given["output_mappings"] is not None:
        step["outputMappings"] = given["output_mappings"]
    flow = flow_of({"id": "f", "startStepInstanceId": "fork", "steps": {"fork": step}})
    model = flow.steps["fork"]
    assert isinstance(model, ParallelForkManagerStep)
    fork = CompiledFork(model, Program({}, "fork", {}))
    results = [_aggregated(fork, index, branch) for index, branch in enumerate(given["branches"])]
    try:
        output = Aggregator(fork.config, fork.limits.fixed).aggregate(results)
    except AllmaError as error:
        return {"status": "FAILED", "error": getattr(error, "error_name", "Error"), "context": {}}
    state = RunState("fork", {})
    commit_output(
        StepExecution(compile_flow(flow).steps["fork"], state, INFO, Services(), {}), output, output
    )
    return {"status": "RUNNING", "error": None, "context": state.context}


def _aggregated(fork: CompiledFork, index: int, branch: dict[str, Any]) -> BranchResult:
    """Return the result of a branch as the engine reports it, from the output of its last step."""
    if "error" in branch:
        return BranchResult(0, index, branch["branchId"], BranchStatus.FAILED, error=branch["error"])
    whole = branch["output"]
    path = fork._data_path
    if path is not None:
        whole = path.find(whole)
        whole = None if whole is NOTHING else whole
    return BranchResult(0, index, branch["branchId"], output=whole)


def run_flow(given: dict[str, Any]) -> Any:
    return asyncio.run(_run_flow(given["flow"], given["payload"]))


async def _run_flow(document: dict[str, Any], payload: dict[str, Any]) -> dict[str, Any]:
    program = compile_flow(flow_of(document))
    info = RunInfo.now(program.flow.id, program.flow.version, INFO.flow_execution_id)

    async def no_sleep(_: float) -> None:
        return None

    services = Services(sleep=no_sleep)
    ended = await run_segment(program, program.start_state(payload, info.flow_execution_id), info, services)
    await services.close()
    return {
        "status": "COMPLETED" if ended.status is SegmentStatus.COMPLETED else ended.status.value,
        "error": ended.error["errorName"] if ended.error else None,
        "path": ended.state.path,
        "context": ended.state.context,
    }


def _no_load(pointer: Any) -> Any:
    raise AssertionError(f"vectors have no pointers, but this one was loaded: {pointer}")


KINDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "path": run_path,
    "condition": run_condition,
    "input_mapping": run_input_mapping,
    "output_mapping": run_output_mapping,
    "template": run_template,
    "config_rendering": run_config_rendering,
    "template_context": run_template_context,
    "next_step": run_next_step,
    "module": run_module_vector,
    "aggregation": run_aggregation,
    "flow": run_flow,
}
