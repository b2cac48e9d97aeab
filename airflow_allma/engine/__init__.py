"""The engine: runs flows, or segments of them, without knowing where.

``compile_flow`` makes a flow ready, ``run_segment`` runs it; the rest are the pieces for callers who spread a
run over several processes. Nothing here knows Airflow.
"""

from __future__ import annotations

from airflow_allma.engine.aggregate_stream import collected_target, join_results
from airflow_allma.engine.aggregation import Aggregator
from airflow_allma.engine.forking import ForkRun, branch_state, run_fork, run_items
from airflow_allma.engine.items import ForkItems, ItemError, classify_items, label_of, resolve_items
from airflow_allma.engine.pointers import PointerCache, resolving
from airflow_allma.engine.program import (
    CompiledBranch,
    CompiledFork,
    CompiledStep,
    FlowProgram,
    Program,
    compile_flow,
)
from airflow_allma.engine.records import StepRecord
from airflow_allma.engine.results import BranchResult, BranchStatus
from airflow_allma.engine.runner import complete_step, fail_step, pass_step, run_segment
from airflow_allma.engine.services import EngineSettings, Services
from airflow_allma.engine.state import RunInfo, RunState, SegmentResult, SegmentStatus

__all__ = [
    "Aggregator",
    "BranchResult",
    "BranchStatus",
    "CompiledBranch",
    "CompiledFork",
    "CompiledStep",
    "EngineSettings",
    "FlowProgram",
    "ForkItems",
    "ForkRun",
    "ItemError",
    "PointerCache",
    "Program",
    "RunInfo",
    "RunState",
    "SegmentResult",
    "SegmentStatus",
    "Services",
    "StepRecord",
    "branch_state",
    "classify_items",
    "collected_target",
    "compile_flow",
    "complete_step",
    "fail_step",
    "join_results",
    "label_of",
    "pass_step",
    "resolve_items",
    "resolving",
    "run_fork",
    "run_items",
    "run_segment",
]
