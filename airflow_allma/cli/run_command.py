"""``airflow-allma run``: a flow on the engine, without Airflow."""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import typer

from airflow_allma.cli.progress import Progress
from airflow_allma.cli.select_flow import select_flow
from airflow_allma.common.aws_clients import EnvironmentAws
from airflow_allma.engine import (
    EngineSettings,
    RunInfo,
    SegmentResult,
    SegmentStatus,
    Services,
    StepRecord,
    compile_flow,
    run_segment,
)
from airflow_allma.engine.masking import mask_secrets
from airflow_allma.exceptions import AllmaError, PermanentStepError
from airflow_allma.flow import Flow
from airflow_allma.storage import LocalStore, ObjectStore, RoutedStore, S3Store, encode_value
from airflow_allma.storage.keys import OffloadLocation

__all__ = ["UsageError", "open_store", "read_payload", "run_flow_file"]


class UsageError(AllmaError):
    """The command was called with something that it cannot use."""


def run_flow_file(path: Path, *, payload: str, store: str | None, trace: bool, flow_id: str | None) -> int:
    """Run a flow and print what came of it, one JSON object, to standard output; all else to standard error.

    Returns:
        The exit code: 0 COMPLETED, 1 FAILED, 2 the flow or the call is not valid.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        given = read_payload(payload)
        objects = open_store(store)
    except AllmaError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    source = select_flow(path, flow_id)
    if source is None:
        return 2
    try:
        ended = asyncio.run(_run(source.flow, given, objects, trace=trace))
    except AllmaError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    completed = ended.status is SegmentStatus.COMPLETED
    answer = {
        "status": "COMPLETED" if completed else "FAILED",
        "error": ended.error,
        "path": ended.state.path,
        "context": ended.state.context,
    }
    try:
        line = encode_value(answer)
    except AllmaError as error:
        completed = False
        shown = PermanentStepError(f"The run's data cannot be shown. {error}").as_dict()
        answer |= {"status": "FAILED", "error": shown, "context": {}}
        line = encode_value(answer)
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.flush()
    return 0 if completed else 1


def read_payload(given: str) -> dict[str, Any]:
    """The payload: a JSON object, or the name of a file that holds one.

    Raises:
        UsageError: it is neither.
    """
    text, named = given, "--payload"
    if not given.lstrip().startswith(("{", "[")):
        named = f"--payload {given}"
        try:
            # Editors on Windows begin a file with a byte order mark.
            text = Path(given).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{named} is neither a JSON object nor a file that can be read: {error}"
            ) from error
    try:
        payload = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"{named} is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise UsageError(
            f'{named} must be a JSON object such as {{"key": 1}}; it is {type(payload).__name__}'
        )
    return payload


def open_store(given: str | None, *, create: bool = True) -> ObjectStore:
    """The store that ``--store`` names; None: AWS, with the credentials of the environment.

    Args:
        given: the option.
        create: whether a folder that is not there is made.

    Raises:
        UsageError: it names no folder.
    """
    if given is None:
        return RoutedStore(S3Store(EnvironmentAws()), None)
    prefix = "file://"
    if not given.startswith(prefix) or not given.removeprefix(prefix).startswith("/"):
        raise UsageError(f"--store must be file:///folder; it is {given!r}")
    # As in all other file:// addresses, spaces may stand as %20.
    folder = Path(unquote(given.removeprefix(prefix)))
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.is_dir():
            raise UsageError(f"--store {given} names no folder.")
    except OSError as error:
        raise UsageError(f"--store {given} is no folder that can be used: {error}") from error
    return LocalStore(folder)


async def _run(flow: Flow, payload: dict[str, Any], store: ObjectStore, *, trace: bool) -> SegmentResult:
    program = compile_flow(flow)
    info = RunInfo.now(flow.id, flow.version, str(uuid.uuid4()))
    location = flow.airflow.offload_location
    with Progress() as progress:
        services = Services(
            store=store,
            aws=EnvironmentAws(),
            settings=EngineSettings(
                offload_location=OffloadLocation.parse(location) if location else None,
                branch_concurrency=flow.airflow.chunk_concurrency or EngineSettings().branch_concurrency,
            ),
            recorder=_trace if trace else None,
            on_branch_result=progress.branch_ended,
        )
        try:
            return await run_segment(
                program, program.start_state(payload, info.flow_execution_id), info, services
            )
        finally:
            await services.close()


def _trace(record: StepRecord) -> None:
    shown = {
        "step": record.step_id,
        "type": record.step_type,
        **({"branch": record.branch_id, "item": record.item_index} if record.branch_id is not None else {}),
        "input": record.input,
        "output": record.output,
        "error": record.error,
        "next": record.next_step,
        "seconds": round(record.seconds, 6),
        "tries": record.tries,
    }
    try:
        line = encode_value(mask_secrets(shown)).decode()
    except (AllmaError, RecursionError) as error:
        # A record that cannot be shown is no reason to fail the run.
        line = encode_value({"step": record.step_id, "notShown": str(error)}).decode()
    sys.stderr.write(line + "\n")
