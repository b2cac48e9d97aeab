"""The extra cost of the first flow in a process, paid before tasks are forked from the process."""

from __future__ import annotations

import logging
from typing import Any, Final

__all__ = ["prewarm"]

_COMPOSE: Final[dict[str, Any]] = {
    "stepType": "DATA_TRANSFORMATION",
    "moduleIdentifier": "system/compose-object-from-input",
}
_FLOW: Final[dict[str, Any]] = {
    "id": "allma-warm-up",
    "startStepInstanceId": "fork",
    "steps": {
        "fork": {
            "stepType": "PARALLEL_FORK_MANAGER",
            "itemsPath": "$.initialContextData.items",
            "parallelBranches": [{"branchId": "each", "stepInstanceId": "first"}],
            "defaultNextStepInstanceId": "last",
        },
        "first": {
            **_COMPOSE,
            "inputMappings": {"item": "$.currentItem.id"},
            "literals": {
                "name": "{{currentItem.name}}",
                "fixed": {"text": "x", "number": 1, "real": 0.5, "yes": True, "none": None, "list": []},
            },
            "defaultNextStepInstanceId": "second",
        },
        "second": {**_COMPOSE, "inputMappings": {"item": "$.steps_output.first.item"}},
        "last": {"stepType": "NO_OP"},
    },
}


def prewarm() -> None:
    """Build the Dag of a small flow and run one of its branches, in memory only.

    This imports what libraries import when they are first used, and fills the caches of pydantic, Airflow and
    this package. A process that is forked afterwards has all that; otherwise each task of a flow pays for it.
    """
    from airflow_allma.dag_factory.build import build_dag
    from airflow_allma.engine import ForkRun, RunInfo, Services, compile_flow
    from airflow_allma.flow import parse_flow
    from airflow_allma.loading import FLOW_CHECKS
    from airflow_allma.operators.flow_operator import LABEL_TEMPLATE

    flow = parse_flow(_FLOW, FLOW_CHECKS)
    # Jinja makes its lexer when it compiles its first template.
    build_dag(flow).get_template_env().from_string(LABEL_TEMPLATE)
    program = compile_flow(flow)
    fork = program.steps["fork"].fork
    if fork is not None:
        info = RunInfo.now(flow.id, flow.version, flow.id)
        services = Services(log=logging.getLogger("airflow_allma.engine"))
        ForkRun(fork, program.start_state({}, flow.id).context, info, services).branch_inline(
            fork.branches[0], 0, {"id": 1, "name": "x"}
        )
