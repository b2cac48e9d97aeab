"""Functions that build steps and flows and run them, and fakes for the services of the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_allma.engine import (
    FlowProgram,
    RunInfo,
    SegmentResult,
    Services,
    StepRecord,
    compile_flow,
    run_segment,
)
from airflow_allma.engine.http_fake import FakeHttpClient
from airflow_allma.flow import Flow, parse_flow
from airflow_allma.loading import FLOW_CHECKS

INFO = RunInfo("shop", 1, "run-1", "2026-03-01T00:00:00.000Z")
COMPOSE = "system/compose-object-from-input"

Json = dict[str, Any]


def noop(**fields: Any) -> Json:
    return {"stepType": "NO_OP", **fields}


def compose(**fields: Any) -> Json:
    """Return a step whose output is its input."""
    return {"stepType": "DATA_TRANSFORMATION", "moduleIdentifier": COMPOSE, **fields}


def call(url: str = "https://api.test/x", **fields: Any) -> Json:
    return {
        "stepType": "API_CALL",
        "apiHttpMethod": "GET",
        "apiUrlTemplate": {"template": url},
        **fields,
    }


def end(**fields: Any) -> Json:
    return {"stepType": "END_FLOW", **fields}


def fork(start: str = "work", items: str = "$.items", config: Json | None = None, **fields: Any) -> Json:
    """Return a fork with one branch, ``b``, unless ``fields`` has other ``parallelBranches``."""
    return {
        "stepType": "PARALLEL_FORK_MANAGER",
        "itemsPath": items,
        "parallelBranches": [{"branchId": "b", "stepInstanceId": start}],
        "aggregationConfig": config or {},
        **fields,
    }


def then(step: str, **fields: Any) -> Json:
    return {"defaultNextStepInstanceId": step, **fields}


def flow_of(steps: Mapping[str, Json], **fields: Any) -> Flow:
    """Return a checked flow that starts at its first step."""
    document = {"id": "shop", "startStepInstanceId": next(iter(steps)), "steps": dict(steps), **fields}
    return parse_flow(document, FLOW_CHECKS)


def program_of(steps: Mapping[str, Json], **fields: Any) -> FlowProgram:
    return compile_flow(flow_of(steps, **fields))


@dataclass
class Fakes:
    """Fakes of the services of a run, which record their calls."""

    http: FakeHttpClient = field(default_factory=FakeHttpClient)
    sleeps: list[float] = field(default_factory=list)
    records: list[StepRecord] = field(default_factory=list)

    def services(self, **overrides: Any) -> Services:
        return Services(
            **{
                "http": self.http,
                "sleep": self._sleep,
                "jitter": lambda: 0.0,
                "recorder": self.records.append,
                "log": logging.getLogger("airflow_allma.engine"),
                **overrides,
            }
        )

    async def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        await asyncio.sleep(0)

    def record(self, step_id: str) -> StepRecord:
        """Return the last record of a step."""
        return [one for one in self.records if one.step_id == step_id][-1]


@dataclass(frozen=True)
class FlowResult:
    """The result of a run and the fakes that it used."""

    result: SegmentResult
    fakes: Fakes

    @property
    def status(self) -> str:
        return self.result.status.value

    @property
    def error(self) -> Any:
        return self.result.error

    @property
    def context(self) -> Json:
        return self.result.state.context

    @property
    def outputs(self) -> Json:
        outputs: Json = self.context["steps_output"]
        return outputs

    @property
    def path(self) -> list[str]:
        return self.result.state.path


def run(
    steps: Mapping[str, Json] | FlowProgram,
    payload: Json | None = None,
    *,
    fakes: Fakes | None = None,
    flow: Json | None = None,
    last_try: bool | None = None,
    info: RunInfo = INFO,
    **services: Any,
) -> FlowResult:
    """Run a flow to its end and return its result.

    Args:
        steps: the flow's steps, the start first, or a program.
        payload: the run's payload.
        fakes: the fakes to use; new ones if None.
        flow: further fields of the flow.
        last_try: as ``run_segment``.
        info: the run.
        services: fields of ``Services`` that replace those of the fakes.
    """
    program = steps if isinstance(steps, FlowProgram) else program_of(steps, **(flow or {}))
    used_fakes = fakes or Fakes()

    async def main() -> SegmentResult:
        state = program.start_state(payload or {}, info.flow_execution_id)
        used = used_fakes.services(**services)
        try:
            return await run_segment(program, state, info, used, last_try=last_try)
        finally:
            await used.close()

    return FlowResult(asyncio.run(main()), used_fakes)
