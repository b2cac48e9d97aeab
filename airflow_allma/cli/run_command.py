"""``airflow-allma run``: a flow on the engine, without Airflow."""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from airflow_allma.cli.cli_secrets import external_modules, open_secrets
from airflow_allma.cli.environment_settings import (
    boolean_setting,
    environment_setting,
    environment_variable,
    model_settings,
)
from airflow_allma.cli.event_option import EventOption
from airflow_allma.cli.folder_flows import folder_flows
from airflow_allma.cli.json_options import UsageError
from airflow_allma.cli.progress import Progress
from airflow_allma.cli.queued_runs import QueuedRuns
from airflow_allma.cli.run_end import run_completion_actions
from airflow_allma.cli.run_result import print_answer, print_result
from airflow_allma.cli.select_flow import select_flow
from airflow_allma.cli.start_option import StartOption
from airflow_allma.common.aws_clients import EnvironmentAws
from airflow_allma.common.printable import printable
from airflow_allma.distributed.local_run import ChunkedForkRunner
from airflow_allma.engine import (
    EngineSettings,
    FlowLibrary,
    RunInfo,
    SegmentResult,
    SegmentStatus,
    Services,
    StepRecord,
    compile_flow,
)
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.llm.model_services import ModelServices
from airflow_allma.engine.masking import mask_secrets
from airflow_allma.engine.own_modules import OwnModules
from airflow_allma.engine.secrets import Secrets
from airflow_allma.engine.threads import CallThreads
from airflow_allma.engine.tracing import Tracer
from airflow_allma.exceptions import AllmaError, StorageConfigurationError
from airflow_allma.flow import DeployVariables, Flow
from airflow_allma.settings import ENGINE_LIMITS, OPTIONS, AllmaSettings
from airflow_allma.storage import LocalStore, ObjectStore, encode_value
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.opening import open_folder, open_store

__all__ = ["open_services", "open_store_option", "run_flow_file"]


def run_flow_file(
    path: Path,
    *,
    start: Callable[[], StartOption],
    events: Sequence[str],
    store: str | None,
    trace: bool,
    chunks: bool,
    pretty: bool,
    flow_id: str | None,
    deploy: DeployVariables,
) -> int:
    """Run a flow and print its result, one JSON object, to standard output; the rest goes to standard error.

    Args:
        path: the flow's file.
        start: reads the options that say where the run starts and with which data.
        events: the options ``--event``.
        store: the option ``--store``.
        trace: whether every step is written to standard error.
        chunks: whether forks run in chunks where Airflow would.
        pretty: whether the result is indented.
        flow_id: which flow of an export with several.
        deploy: the values of placeholders in flow variables.

    Returns:
        The exit code: 0 COMPLETED, 1 FAILED, 2 the flow or the call is not valid, 3 SUSPENDED.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        started_at = start()
        event_option = EventOption.read(events)
        objects = open_store_option(store)
    except AllmaError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    source = select_flow(path, flow_id, deploy)
    if source is None:
        return 2
    try:
        flows = folder_flows(path, deploy)
        result = asyncio.run(
            _run(source.flow, started_at, event_option, objects, flows, trace=trace, chunks=chunks)
        )
    except AllmaError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    except (MemoryError, RecursionError) as error:
        # Outside of any step: the steps' own are errors of their step.
        failed = step_error_from(error, doing="The run").as_dict()
        return print_answer({"status": "FAILED", "error": failed, "path": [], "context": {}}, pretty=pretty)
    for key in event_option.unused():
        typer.echo(f"warning: nothing waited for the event {printable(key)}", err=True)
    return print_result(result, step=started_at.step, pretty=pretty)


def open_store_option(option: str | None, *, create: bool = True) -> LocalStore | None:
    """Return the store for ``--store``; None without the option.

    Args:
        option: the option.
        create: whether a missing folder is created.

    Raises:
        UsageError: it is not a folder.
    """
    if option is None:
        return None
    try:
        store = open_folder(option)
    except StorageConfigurationError as error:
        raise UsageError(f"--store must be file:///folder; it is {option!r}") from error
    folder = store.root
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.is_dir():
            raise UsageError(f"--store {option} is not a folder.")
    except OSError as error:
        raise UsageError(f"--store {option} cannot be used as a folder: {error}") from error
    return store


async def _run(
    flow: Flow,
    start: StartOption,
    events: EventOption,
    store: LocalStore | None,
    flows: FlowLibrary,
    *,
    trace: bool,
    chunks: bool,
) -> SegmentResult:
    program = compile_flow(flow)
    info = RunInfo.now(
        flow.id, flow.version, str(uuid.uuid4()), enable_execution_logs=flow.enable_execution_logs
    )
    with Progress() as progress:
        services, started = open_services(flow, store, flows, events, trace=trace)
        services.on_branch_result = progress.branch_ended
        if chunks:
            services.fork_runner = ChunkedForkRunner(AllmaSettings.without_airflow(flow.airflow))
            services.tracer = _open_tracer(services.secrets)
        try:
            result = await start.run(program, info, services, events)
            if start.step is None and result.status is not SegmentStatus.SUSPENDED:
                await run_completion_actions(flow, result, info, services)
            await started.run_all()
            return result
        finally:
            for line in services.models.account.lines():
                typer.echo(f"tokens: {line}", err=True)
            await services.close()


def open_services(
    flow: Flow, store: ObjectStore | None, flows: FlowLibrary, events: EventOption, *, trace: bool
) -> tuple[Services, QueuedRuns]:
    """Return what steps can use on the command line, and the runs that they will have started.

    Args:
        flow: the flow.
        store: the store; None for AWS.
        flows: the flows that its steps can run.
        events: the events for which it can wait.
        trace: whether every step is written to standard error.

    Raises:
        UsageError: a setting in the environment is not valid.
        StorageConfigurationError: the flow's offload location is not allowed.
    """
    location = OffloadLocation.from_setting(flow.airflow.offload_location)
    concurrency = flow.airflow.chunk_concurrency or EngineSettings().branch_concurrency
    aws = EnvironmentAws(concurrency)
    started = QueuedRuns(events)
    services = Services(
        store=store or open_store(aws, location),
        aws=aws,
        models=ModelServices(**model_settings()),
        own_modules=OwnModules(external_modules()),
        secrets=open_secrets(),
        settings=EngineSettings(
            offload_location=location,
            branch_concurrency=concurrency,
            mcp_stdio=boolean_setting("mcp_stdio"),
            **_limits(),
        ),
        threads=CallThreads(concurrency),
        recorder=_trace if trace else None,
        flows=flows,
        runs=started,
    )
    started.services = services
    return services, started


def _limits() -> dict[str, Any]:
    """Return the limits of steps, by setting: those of the environment, or the defaults.

    Raises:
        UsageError: one of them is not a whole number.
    """
    return {name: _whole_number(name) for name in ENGINE_LIMITS}


def _whole_number(name: str) -> int:
    value = environment_setting(name)
    try:
        return int(value.strip() or OPTIONS[name].default)
    except ValueError:
        variable = environment_variable(name)
        raise UsageError(f"{variable} must be a whole number; it is {value[:40]!r}") from None


def _open_tracer(secrets: Secrets) -> Tracer | None:
    """Return what keeps the traces of items in chunks."""
    items = environment_setting("trace_items") or OPTIONS["trace_items"].default
    log = logging.getLogger("airflow_allma.engine")
    return Tracer.of_settings(items, _whole_number("trace_bytes"), secrets.masks, log)


def _trace(record: StepRecord) -> None:
    printed = {
        "step": record.step_id,
        **({"flow": record.flow_id} if record.flow_id is not None else {}),
        "type": record.step_type,
        **({"branch": record.branch_id, "item": record.item_index} if record.branch_id is not None else {}),
        "input": record.input,
        "output": record.output,
        "error": record.error,
        "next": record.next_step,
        "seconds": round(record.seconds, 6),
        "tries": record.tries,
        **({"calls": record.calls.lines()} if record.calls.count else {}),
        **({"reachedCheckpoint": record.checkpoint} if record.checkpoint is not None else {}),
    }
    try:
        line = encode_value(mask_secrets(printed)).decode()
    except (AllmaError, RecursionError) as error:
        # A record that cannot be printed must not fail the run.
        line = encode_value({"step": record.step_id, "notShown": str(error)}).decode()
    sys.stderr.write(line + "\n")
