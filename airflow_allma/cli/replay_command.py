"""``airflow-allma replay``: one item of a run again, on this machine."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import typer

from airflow_allma.cli.cli_secrets import allowed_notifiers, allowed_secrets, external_modules
from airflow_allma.cli.event_option import EventOption
from airflow_allma.cli.folder_flows import folder_flows
from airflow_allma.cli.json_options import UsageError, read_object
from airflow_allma.cli.run_command import open_services
from airflow_allma.cli.stored_run_option import open_stored_fork
from airflow_allma.engine import (
    BranchResult,
    BranchStatus,
    CompiledBranch,
    CompiledFork,
    ForkRun,
    RunInfo,
    compile_flow,
)
from airflow_allma.exceptions import AllmaError, ItemNotFoundError
from airflow_allma.flow import DeployVariables, FlowSource
from airflow_allma.flow.expression_fields import Root
from airflow_allma.flow.lints import FlowView
from airflow_allma.flow.lints.flow_names import first_name
from airflow_allma.flow.state_names import STATE_NAMES
from airflow_allma.flow.tree_walk import scopes
from airflow_allma.inspection import ForkReader, ForkView, item_value
from airflow_allma.inspection.stored_runs import StoredFork
from airflow_allma.loading import FLOW_CHECKS, load_flow_files
from airflow_allma.storage.decoding import decode_line

__all__ = ["Replay", "replay_item"]

_MAX_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Replay:
    """The arguments of the command.

    Attributes:
        run: the run or its folder, see ``open_stored_fork``.
        fork: the fork's step id.
        index: the item.
        branch: the branch; None for the first that failed, otherwise the first that ran.
        flows: the folder of flows, or the flow's file.
        context: the option ``--context``.
        item: the option ``--item``.
        store: the option ``--store``.
        deploy: the values of placeholders in flow variables.
    """

    run: str
    fork: str
    index: int
    branch: str | None
    flows: Path
    context: str | None
    item: str | None
    store: str | None
    deploy: DeployVariables


def replay_item(options: Replay, *, trace: bool) -> int:
    """Run the item's branch again and print ``{"status", "output" or "error", "recorded"}``.

    Args:
        options: the arguments.
        trace: whether every step is written to standard error.

    Returns:
        The exit code: 0 if it ended well or is skipped, 1 if it failed, 2 if the call is not valid or what is
        recorded is not enough, 3 if it waits for an event.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        stored = open_stored_fork(options.run, options.fork, options.store)
        status, branch_id = _recorded(stored.view, options)
        item = _item(stored.view, options)
        source = _flow(stored, options)
        fork, branch = _branch(source, options.fork, branch_id)
        context = _context(source, fork, branch, options)
        work = _Work(fork, branch, item, context)
        result = asyncio.run(_run(stored, source, work, options, trace=trace))
    except AllmaError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    if result is None:
        typer.echo("error: the item waits for an event, which a replay does not deliver", err=True)
        return 3
    answer: dict[str, Any] = {
        "index": options.index,
        "branch": branch.branch_id,
        "status": result.status.value,
        "recorded": status,
    }
    if result.status is BranchStatus.OK:
        answer["output"] = result.output
    elif result.error is not None:
        answer["error"] = result.error
    typer.echo(json.dumps(answer, ensure_ascii=False))
    return 1 if result.status is BranchStatus.FAILED else 0


@dataclass(frozen=True, slots=True)
class _Work:
    """What runs: a branch of a fork for an item, and the data at the fork."""

    fork: CompiledFork
    branch: CompiledBranch
    item: Any
    context: dict[str, Any]


def _recorded(view: ForkView, options: Replay) -> tuple[str | None, str | None]:
    """Return status and branch of the run of the item that is repeated; None if it has no result."""
    reader = ForkReader(view)
    position = reader.require_item(options.index)
    lines = reader.results({position.chunk: [position.item]}, 0)[position.chunk].get(position.item, [])
    if options.branch is not None:
        lines = [line for line in lines if line.branch == options.branch]
    ranks = {"failed": 0, "ok": 1}
    lines = sorted(lines, key=lambda line: ranks.get(line.status, 2))
    return (lines[0].status, lines[0].branch) if lines else (None, options.branch)


def _item(view: ForkView, options: Replay) -> Any:
    if options.item is not None:
        return read_object(options.item, "--item")
    try:
        return decode_line(b"".join(item_value(view, options.index, "input")))
    except ItemNotFoundError as error:
        raise UsageError(
            f"{error} It was part of a list in the run's data, which is not stored with results. "
            "Pass it with --item"
        ) from error


def _flow(stored: StoredFork, options: Replay) -> FlowSource:
    loaded = load_flow_files(
        [options.flows],
        allowed_secrets(),
        allowed_notifiers(),
        deploy=options.deploy,
        external_modules=external_modules(),
    )
    flows = {source.flow.id: source for source in loaded.flows}
    if stored.plan is None:
        found = [source for source in flows.values() if options.fork in source.flow.steps]
        if len(found) != 1:
            raise UsageError(
                f"{options.flows} has {len(found)} valid flows with a step {options.fork!r}, and the run "
                "does not say which is its own. Pass the flow's file with --flows"
            )
        return found[0]
    flow_id, version = stored.plan.flow_id, stored.plan.flow_version
    source = flows.get(flow_id)
    if source is None:
        known = ", ".join(sorted(flows)[:_MAX_NAMED]) or "none"
        raise UsageError(
            f"{options.flows} has no valid flow {flow_id!r}, of which this is a run; valid flows: {known}. "
            "Pass the folder of flows with --flows"
        )
    if source.flow.version != version:
        typer.echo(
            f"note: version {source.flow.version} of {flow_id} runs now; the run was of version {version}",
            err=True,
        )
    return source


def _branch(source: FlowSource, fork_id: str, branch_id: str | None) -> tuple[CompiledFork, CompiledBranch]:
    step = compile_flow(source.flow).steps.get(fork_id)
    fork = step.fork if step is not None else None
    if fork is None or not fork.branches:
        raise UsageError(
            f"Flow {source.flow.id!r} has no fork {fork_id!r} with branches in its main path any more"
        )
    for branch in fork.branches:
        if branch_id in {branch.branch_id, None}:
            return fork, branch
    known = ", ".join(branch.branch_id for branch in fork.branches)
    raise UsageError(f"Fork {fork_id!r} has no branch {branch_id!r}; it has {known}")


def _context(
    source: FlowSource, fork: CompiledFork, branch: CompiledBranch, options: Replay
) -> dict[str, Any]:
    """Return the data at the fork.

    Raises:
        UsageError: the branch reads what is not recorded.
    """
    given = {} if options.context is None else read_object(options.context, "--context")
    if isinstance(given.get("context"), dict) and {"status", "path"} <= given.keys():
        given = given["context"]  # what `airflow-allma run` printed
    missing = sorted(set(_missing(source, fork, branch, given)))
    if missing:
        raise UsageError(
            f"Branch {branch.branch_id!r} reads {', '.join(missing[:_MAX_NAMED])} of the data at the fork, "
            "which is not recorded with its items. Pass that data with --context, such as the context that "
            "`airflow-allma run` prints"
        )
    variables = given.get("flow_variables")
    return {
        "initialContextData": {},
        "steps_output": {},
        **given,
        "flow_variables": {
            **source.flow.flow_variables,
            "flowExecutionId": "replay",
            **(variables if isinstance(variables, Mapping) else {}),
        },
    }


def _missing(
    source: FlowSource, fork: CompiledFork, branch: CompiledBranch, given: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the names that a branch reads and that neither it nor the given data has."""
    if FLOW_CHECKS.reader is None:
        return
    view = FlowView(source.definition, scopes(source.definition), FLOW_CHECKS.reader)
    steps = branch.reachable if not branch.is_sub_flow else frozenset()
    written = {
        first_name(target.removeprefix("$").removeprefix("."))
        for step in view.steps
        if step.id in steps
        for target in view.names.targets.get(step.path, ())
    }
    own = ("parallelBranches", branch.index)
    outputs = given.get("steps_output")
    for read in view.reads:
        step, name = read.step, read.names[0]
        # An output is the step's own, and what an item template names is in its items.
        if read.in_block or step is None or read.expression.root is not Root.CONTEXT:
            continue
        is_own = step.id == fork.step_id and own == tuple(read.path[len(step.path) : len(step.path) + 2])
        if not is_own and step.id not in steps:
            continue
        if name == "steps_output":
            other = read.names[1] if read.names[1:] else ""
            if other and other not in steps and not (isinstance(outputs, Mapping) and other in outputs):
                yield f"$.steps_output.{other}"
        elif name not in {"currentItem", "flow_variables", *STATE_NAMES, *written, *given} and (
            name not in view.names.inputs_of(step)
        ):
            yield f"$.{name}"


async def _run(
    stored: StoredFork, source: FlowSource, work: _Work, options: Replay, *, trace: bool
) -> BranchResult | None:
    """Return the result; None if the branch run waits for an event."""
    flow = source.flow
    run_id = "replay" if stored.plan is None else stored.plan.run_id
    info = RunInfo.now(flow.id, flow.version, run_id, enable_execution_logs=flow.enable_execution_logs)
    # What it stores must not replace what the run has stored.
    info = msgspec.structs.replace(info, stored_under=(flow.id, f"replay-{uuid.uuid4()}"))
    work.context["flow_variables"]["flowExecutionId"] = run_id
    flows = folder_flows(options.flows, options.deploy)
    services, _ = open_services(flow, stored.view.store, flows, EventOption.read(()), trace=trace)
    try:
        run = ForkRun(work.fork, work.context, info, services)
        result = await run.branch(work.branch, options.index, work.item)
        return result if isinstance(result, BranchResult) else None
    finally:
        await services.close()
