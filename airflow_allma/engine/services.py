"""What the engine needs from outside: a store, AWS clients, an HTTP client, secrets, settings, a clock.

The engine never asks Airflow or the environment for any of it. Operators, the command line and tests each
pass in their own.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_allma.common.aws_clients import AwsClients
from airflow_allma.common.work_budget import DEFAULT_MAX_STEP_WORK
from airflow_allma.engine.flow_library import FlowLibrary
from airflow_allma.engine.flow_runs import RunStarter
from airflow_allma.engine.fork_load import ForkLoad
from airflow_allma.engine.http import AiohttpClient, HttpClient
from airflow_allma.engine.llm.model_services import ModelServices
from airflow_allma.engine.mcp.mcp_sessions import McpSessions
from airflow_allma.engine.own_modules import OwnModules
from airflow_allma.engine.pointer_cache import PointerCache
from airflow_allma.engine.records import StepRecord
from airflow_allma.engine.results import BranchResult
from airflow_allma.engine.secrets import Secrets
from airflow_allma.engine.suspension import Answers
from airflow_allma.engine.threads import CallThreads
from airflow_allma.storage import ObjectStore
from airflow_allma.storage.keys import OffloadLocation

if TYPE_CHECKING:
    from airflow_allma.engine.state import RunInfo
    from airflow_allma.engine.tracing import Tracer

__all__ = ["EngineSettings", "ForkRunner", "Services"]

_T = TypeVar("_T")

KIB: Final = 1024

ForkRunner = Callable[..., Awaitable[dict[str, Any]]]
"""Runs a whole fork: ``(fork, context, info, services, saved)`` -> the output, as ``run_fork`` does."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Limits of the engine.

    Attributes:
        offload_location: where large values are stored (``s3://bucket/prefix``, ``file:///folder``); None
            for nowhere.
        local_location: where lists and results of forks are stored without an offload location, but no step
            outputs; None for nowhere.
        output_offload_bytes: a step output with more compact JSON than this is offloaded; `COLLECT_ARRAY`
            results become a JSON Lines object.
        branch_concurrency: branch runs in flight in one process when the fork sets no `maxConcurrency`.
        transient_tries: tries in total for a TransientStepError, inside the task.
        transient_wait_seconds: delay before the first retry; doubles each time, plus up to a tenth of jitter.
        longest_wait_seconds: maximum of a single delay, also with a longer `Retry-After`.
        max_unpack_ratio: how many bytes a byte of a gzipped manifest may unpack to; 0 means no limit.
        step_timeout_seconds: time limit of one try of a step that waits for something, unless the step itself
            limits how long it waits; 0 means no limit.
        custom_module_prefixes: import path prefixes that `CUSTOM_MODULE` can name; empty means any module
            that is not part of Python, Airflow or what they require.
        max_step_work: units of work that one step can do, see ``common.work_budget``; 0 means no limit.
        max_context_bytes: maximum size of a run's data, in bytes of JSON; 0 means no limit.
        max_download_bytes: maximum size of a downloaded file; 0 means no limit.
        max_fork_depth: how deeply forks can be nested while a run executes; 0 means no limit.
        max_nested_branch_runs: branch runs of forks inside of forks in one process, over lists in the run's
            data; 0 means no limit.
        mcp_stdio: whether a connection of an MCP server may start a program.
    """

    offload_location: OffloadLocation | None = None
    output_offload_bytes: int = 10 * KIB
    branch_concurrency: int = 64
    transient_tries: int = 5
    transient_wait_seconds: float = 0.5
    longest_wait_seconds: float = 60.0
    max_unpack_ratio: int = 200
    step_timeout_seconds: float = 900.0
    custom_module_prefixes: tuple[str, ...] = ()
    max_step_work: int = DEFAULT_MAX_STEP_WORK
    max_context_bytes: int = 256 * KIB * KIB
    max_download_bytes: int = 5 * KIB**3
    max_fork_depth: int = 10
    max_nested_branch_runs: int = 1_000_000
    mcp_stdio: bool = False
    local_location: OffloadLocation | None = None

    @property
    def results_location(self) -> OffloadLocation | None:
        """Where lists and results of forks are stored; None for nowhere."""
        return self.offload_location or self.local_location


@dataclass(slots=True)
class Services:
    """The engine's seams; one object serves one process and one event loop at a time.

    Attributes:
        store: where pointers are read from; None if no pointer can be followed.
        aws: boto3 clients; None if no AWS module can run.
        http: the HTTP client of API calls.
        models: what model steps share: connections, limits, prices, failures and tokens.
        mcp: the sessions with MCP servers.
        own_modules: the modules that the installation adds.
        secrets: connections and Variables, and the masks of their values.
        settings: the limits.
        pointers: the content of pointers that this process has loaded, bounded.
        recorder: called once for each finished step execution, on the event loop; None for no records.
        records_failures_only: whether the recorder is called for failures only.
        tracer: keeps traces of items and paths; None for no traces.
        on_branch_result: called as each branch run of an in-process fork ends; None for no callback.
        on_checkpoint: called with ``$.reachedCheckpoint`` and the run as a run passes another checkpoint, on
            the event loop; None for no callback.
        fork_runner: runs the forks of the main path; None for this event loop.
        flows: the flows that steps can run in this process; None if there are none.
        runs: starts runs of other flows; None if that is not possible.
        sleep: waits the given seconds; tests pass in a fake.
        now: returns the time in seconds since the epoch; tests pass in a fake.
        jitter: returns numbers from 0 to 1; tests pass in a fake.
        answers: what has arrived for runs that wait.
        executor: runs the engine's own blocking calls; None for the event loop's default pool.
        threads: runs the blocking calls of steps.
        fork_load: counts the branch runs of forks inside of forks.
        log: the logger for warnings.
    """

    store: ObjectStore | None = None
    aws: AwsClients | None = None
    http: HttpClient = field(default_factory=AiohttpClient)
    models: ModelServices = field(default_factory=ModelServices)
    mcp: McpSessions = field(default_factory=McpSessions)
    own_modules: OwnModules = field(default_factory=OwnModules)
    secrets: Secrets = field(default_factory=Secrets)
    settings: EngineSettings = field(default_factory=EngineSettings)
    pointers: PointerCache = field(default_factory=PointerCache)
    recorder: Callable[[StepRecord], None] | None = None
    records_failures_only: bool = False
    tracer: Tracer | None = None
    on_branch_result: Callable[[BranchResult], None] | None = None
    on_checkpoint: Callable[[dict[str, Any], RunInfo], None] | None = None
    fork_runner: ForkRunner | None = None
    flows: FlowLibrary | None = None
    runs: RunStarter | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    answers: Answers = field(default_factory=Answers)
    executor: Executor | None = None
    threads: CallThreads = field(default_factory=CallThreads)
    fork_load: ForkLoad = field(default_factory=ForkLoad)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("airflow_allma.engine"))

    async def in_thread(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Run a blocking call without blocking the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, functools.partial(function, *args, **kwargs))

    async def close(self) -> None:
        """Release connections; the object can be used again afterwards."""
        try:
            await self.mcp.close()
        finally:
            await self.http.close()
