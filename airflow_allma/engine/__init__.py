"""The engine: runs flows, or segments of them, wherever it is called. It does not import Airflow.

``compile_flow`` prepares a flow and ``run_segment`` runs it; the other names serve callers that spread a run
over several processes.
"""

from __future__ import annotations

from airflow_allma.engine.aggregate_stream import JoinedResults, aggregate_target, join_results
from airflow_allma.engine.aggregation import Aggregator
from airflow_allma.engine.compile import CompiledFlows, compile_flow
from airflow_allma.engine.flow_library import FlowLibrary, find_flow
from airflow_allma.engine.flow_program import FlowProgram
from airflow_allma.engine.fork_run import ForkRun, branch_state
from airflow_allma.engine.forking import run_fork, run_items
from airflow_allma.engine.items import (
    ForkItems,
    ItemError,
    classify_items,
    find_items,
    label_of,
    list_in_context,
    own_label,
    resolve_items,
)
from airflow_allma.engine.pointer_cache import PointerCache
from airflow_allma.engine.pointer_loading import evaluate
from airflow_allma.engine.program import CompiledBranch, CompiledFork, CompiledStep, Program
from airflow_allma.engine.records import StepRecord
from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.engine.runner import run_segment
from airflow_allma.engine.services import EngineSettings, ForkRunner, Services
from airflow_allma.engine.side_effects import unrepeatable_steps
from airflow_allma.engine.state import RunInfo, RunParent, RunState, SegmentResult, SegmentStatus
from airflow_allma.engine.step_runner import (
    complete_step,
    fail_step,
    pass_checkpoint,
    repeat_step,
    skip_step,
    start_step,
)

__all__ = [
    "Aggregator",
    "BranchResult",
    "BranchStatus",
    "CompiledBranch",
    "CompiledFlows",
    "CompiledFork",
    "CompiledStep",
    "EngineSettings",
    "FlowLibrary",
    "FlowProgram",
    "ForkItems",
    "ForkRun",
    "ForkRunner",
    "ItemError",
    "JoinedResults",
    "PointerCache",
    "Program",
    "RunInfo",
    "RunParent",
    "RunState",
    "SegmentResult",
    "SegmentStatus",
    "Services",
    "StepRecord",
    "aggregate_target",
    "branch_state",
    "classify_items",
    "compile_flow",
    "complete_step",
    "evaluate",
    "fail_step",
    "find_flow",
    "find_items",
    "join_results",
    "label_of",
    "list_in_context",
    "own_label",
    "pass_checkpoint",
    "repeat_step",
    "resolve_items",
    "run_fork",
    "run_items",
    "run_segment",
    "skip_step",
    "start_step",
    "unrepeatable_steps",
]
