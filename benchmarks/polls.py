"""What many polls in one chunk take: each item polls a job of its own until its third call.

The API is in the same process, so its work is included. The shortest time possible is two intervals of five
seconds. Reported are the seconds, those of the processor, and the most calls in flight beside the fork's
``maxConcurrency``.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from aiohttp import web

from airflow_allma.distributed.local_run import ChunkedForkRunner
from airflow_allma.engine import RunInfo, Services, compile_flow, run_segment
from airflow_allma.flow import AirflowOptions, parse_flow
from airflow_allma.loading import FLOW_CHECKS
from airflow_allma.settings import AllmaSettings
from airflow_allma.storage import MemoryStore
from benchmarks.measure import Measure

CALLS = 3
INTERVAL = 5


def polling_flow(url: str, concurrency: int) -> dict[str, Any]:
    """Return a flow that polls one job for each item."""
    return {
        "id": "polls",
        "startStepInstanceId": "fan",
        "steps": {
            "fan": {
                "stepType": "PARALLEL_FORK_MANAGER",
                "itemsPath": "$.initialContextData.items",
                "parallelBranches": [{"branchId": "b", "stepInstanceId": "job"}],
                "aggregationConfig": {"maxConcurrency": concurrency},
            },
            "job": {
                "stepType": "POLL_EXTERNAL_API",
                "apiCallDefinition": {
                    "apiHttpMethod": "GET",
                    "apiUrlTemplate": {"template": url + "/jobs/{{currentItem}}"},
                },
                "pollingConfig": {"intervalSeconds": INTERVAL, "maxAttempts": 10},
                "exitConditions": {"successCondition": "$.done", "failureCondition": "$.error"},
            },
        },
    }


class Jobs:
    """An API of jobs, each of which is done at its third call."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.most = self._in_flight = 0

    async def answer(self, request: web.Request) -> web.Response:
        job = request.match_info["job"]
        self.calls[job] += 1
        self._in_flight += 1
        self.most = max(self.most, self._in_flight)
        await asyncio.sleep(0.005)
        self._in_flight -= 1
        return web.json_response({"done": self.calls[job] >= CALLS})


async def _run(items: int, concurrency: int) -> tuple[int, Jobs]:
    jobs = Jobs()
    app = web.Application()
    app.router.add_get("/jobs/{job}", jobs.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    program = compile_flow(parse_flow(polling_flow(f"http://127.0.0.1:{port}", concurrency), FLOW_CHECKS))
    info = RunInfo.now("polls", 1, "run-1")
    settings = AllmaSettings.without_airflow(AirflowOptions(max_in_memory_items=10, max_chunks=1))
    services = Services(store=MemoryStore(), fork_runner=ChunkedForkRunner(settings))
    state = program.start_state({"items": list(range(items))}, "run-1")
    try:
        ended = await run_segment(program, state, info, services, stays=True)
    finally:
        await services.close()
        await runner.cleanup()
    return len(ended.state.context["steps_output"]["fan"]["aggregatedData"]), jobs


def run(items: int = 1000, concurrency: int = 20) -> dict[str, Measure]:
    """Run it once.

    Args:
        items: how many jobs are polled.
        concurrency: the fork's ``maxConcurrency``.
    """
    started, processor = time.monotonic(), time.process_time()
    results, jobs = asyncio.run(_run(items, concurrency))
    if (results, sum(jobs.calls.values())) != (items, items * CALLS):
        raise RuntimeError(f"{results} results of {items} items after {sum(jobs.calls.values())} calls")
    return {
        "seconds": Measure(time.monotonic() - started, "s", (CALLS - 1) * INTERVAL),
        "cpu": Measure(time.process_time() - processor, "s"),
        "in_flight": Measure(jobs.most, "calls", concurrency),
    }
