"""What expressions read from ``steps_output``, and from a step's own output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import quoted
from airflow_allma.flow.expression_fields import Kind, Root
from airflow_allma.flow.lints.lint import FlowView, Read, Warnings, lint, warning
from airflow_allma.flow.tree_walk import LocatedStep

__all__ = ["OUTPUTS_OF_MODULES", "output_sources", "outputs_of_steps"]

_MAX_NAMES: Final = 8
_ERROR: Final = frozenset({"errorName", "errorMessage", "errorDetails", "isRetryable", "errorCause"})
_CALLS: Final = frozenset({"API_CALL", "POLL_EXTERNAL_API"})
_COMPOSE: Final = "system/compose-object-from-input"
_OUTPUTS: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(_CALLS, frozenset({"status", "headers", "data"})),
    "EMAIL": frozenset({"sesMessageId", "renderedEmail"}),
    "FILE_DOWNLOAD": frozenset({"filePointer", "content", "contentType", "contentLength"}),
    "MCP_CALL": frozenset({"result"}),
    "PARALLEL_FORK_MANAGER": frozenset(
        {"aggregatedData", "aggregationSkipped", "branchCount", "failedBranchCount"}
    ),
    "SNS_PUBLISH": frozenset({"snsMessageId"}),
    "SQS_SEND": frozenset({"sqsMessageId"}),
}
"""Step type -> the names in its output, for types whose output always has the same."""
_STARTED: Final = frozenset({"startedFlowExecutionId", "dagId", "runId", "sqsMessageId"})
"""The names in the output of a step that starts a run and does not wait for it."""
OUTPUTS_OF_MODULES: Final[Mapping[str, frozenset[str]]] = {
    "system/array-aggregator": frozenset({"result"}),
    "system/date-time-calculator": frozenset({"result"}),
    "system/ddb-query-to-s3-manifest": frozenset({"manifest", "itemCount", "itemsOffloaded"}),
    "system/dynamodb-data-loader": frozenset({"content"}),
    "system/dynamodb-query-and-update": frozenset({"updatedItemCount", "items"}),
    "system/dynamodb-update-item": frozenset({"updatedAttributes"}),
    "system/flatten-array": frozenset({"result"}),
    "system/generate-array": frozenset({"array"}),
    "system/generate-uuid": frozenset({"uuid"}),
    "system/join-data": frozenset({"result", "rowCount"}),
    "system/s3-data-loader": frozenset({"content"}),
    "system/s3-data-saver": frozenset({"s3Uri", "bucket", "key", "eTag", "versionId"}),
    "system/s3-list-files": frozenset({"files", "fileCount"}),
    "system/sqs-get-queue-attributes": frozenset({"attributes"}),
    "system/sqs-receive-messages": frozenset({"messages", "messageCount"}),
}
"""Module -> the names in its output, for modules whose output always has the same."""
_MODULE_KINDS: Final = frozenset({"DATA_LOAD", "DATA_SAVE", "DATA_TRANSFORMATION"})
_SAME_IN_ANSWERS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("body", "content", "json", "payload", "response", "result"), "data"),
    **dict.fromkeys(("code", "httpStatus", "statusCode", "status_code"), "status"),
}
"""What an answer has in other systems -> what it is called here."""
_INSIDE: Final = {**dict.fromkeys(_CALLS, "data"), "PARALLEL_FORK_MANAGER": "aggregatedData"}
_CONTEXT: Final = frozenset({"currentItem", "flow_variables", "initialContextData", "steps_output"})


@lint(names=("steps_output",))
def outputs_of_steps(view: FlowView) -> Warnings:
    """Yield what is read from ``steps_output`` although no step can have put it there."""
    by_id: dict[str, list[LocatedStep]] = {}
    for step in view.steps:
        by_id.setdefault(step.id, []).append(step)
    for read in view.reads:
        if read.expression.root is not Root.CONTEXT or read.in_block:
            continue
        if read.names[0] != "steps_output" or not read.names[1:] or view.names.writes_all_outputs:
            continue
        name = read.names[1]
        message = None
        if name not in view.names.outputs and name != "length":
            message = _why_unset(view, read, name, by_id)
        if message is None and len(by_id.get(name, ())) == 1:
            message = _wrong_member(view, read, by_id[name][0])
        if message is not None:
            yield warning(read.path, message)


def _why_unset(
    view: FlowView, read: Read, name: str, by_id: Mapping[str, Sequence[LocatedStep]]
) -> str | None:
    steps = by_id.get(name)
    if not steps:
        if guess := nearest(name, (*by_id, *view.names.outputs)):
            return f"{quoted(name)} is not a step, so it has no output; did you mean {quoted(guess)}?"
        names = ", ".join(quoted(step_id) for step_id in list(by_id)[:_MAX_NAMES])
        more = ", ..." if len(by_id) > _MAX_NAMES else ""
        return f"{quoted(name)} is not a step, so it has no output; the steps are {names}{more}"
    kept = [step for step in steps if step.step.get("outputMappings") is None and step.kind != "END_FLOW"]
    if not kept:
        return _where_else(view, name, steps[0])
    return _why_not_before(view, read, name, kept)


def _where_else(view: FlowView, name: str, step: LocatedStep) -> str:
    if step.kind == "END_FLOW":
        return f"step {quoted(name)} is an END_FLOW, which has no output"
    targets = ", ".join(map(quoted, view.names.targets.get(step.path, ())[:_MAX_NAMES]))
    own = quoted(f"$.steps_output.{name}")
    if not targets:
        return (
            f"step {quoted(name)} keeps no output, because its `outputMappings` are empty; remove them, "
            f"or map {own} there"
        )
    return (
        f"the `outputMappings` of step {quoted(name)} put its output elsewhere: {targets}; read it there, "
        f"or map {own} too"
    )


def _why_not_before(view: FlowView, read: Read, name: str, kept: Sequence[LocatedStep]) -> str | None:
    reader, order = read.step, view.order
    if reader is None or not order.has_start or reader.path not in order.reachable:
        return None
    if any(order.precedes(step.path, reader.path) for step in kept):
        return None
    if any(step.path == reader.path for step in kept):
        # The transitions of a step see its output already.
        if read.expression.field == "transitions":
            return None
        return f"step {quoted(name)} has no output before it has run"
    for fork in order.steps:
        if fork.kind != "PARALLEL_FORK_MANAGER" or not order.precedes(fork.path, reader.path):
            continue
        if any(order.precedes(fork.path, step.path) and _in_branch(view, fork, step) for step in kept):
            results = quoted(f"$.steps_output.{fork.id}.aggregatedData")
            return (
                f"step {quoted(name)} runs in a branch of {quoted(fork.id)}, and what it sets stays there; "
                f"the results of all branches are at {results}"
            )
    return (
        f"step {quoted(name)} never runs before this one; change the order of the steps, or read another one"
    )


def _in_branch(view: FlowView, fork: LocatedStep, step: LocatedStep) -> bool:
    order = view.order
    return step.path in order.reached_from([edge.target for edge in order.edges[fork.path] if edge.is_branch])


def _wrong_member(view: FlowView, read: Read, step: LocatedStep) -> str | None:
    """Return what is wrong with a name that the output of a step never has, such as a response's body."""
    mapped: set[str | None] = view.names.outputs.get(step.id, set())
    known = _output_of(view, step)
    if known is None or None in mapped or step.step.get("outputMappings") is not None:
        return None
    if len(read.names) == 2:
        return _one_object(read, step)
    known |= {name for name in mapped if name is not None}
    return None if read.names[2] in known else _no_member(read, step, known)


def _output_of(view: FlowView, step: LocatedStep) -> set[str] | None:
    """Return the names in a step's output; None if they cannot be known."""
    if step.runs_own_module:
        return None
    handler = step.step.get("onError")
    errors = _ERROR if isinstance(handler, dict) and handler.get("continueOnFailure") else frozenset()
    default = view.flow.get("defaultStepConfig")
    if handler is None and isinstance(default, dict) and default.get("defaultErrorHandler"):
        errors = _ERROR
    if (always := _always_in(step)) is not None:
        return {*always, *errors}
    module = step.step.get("moduleIdentifier")
    if step.kind in _MODULE_KINDS and isinstance(module, str) and module in OUTPUTS_OF_MODULES:
        return {*OUTPUTS_OF_MODULES[module], *errors}
    inputs = view.names.inputs_of(step)
    if step.kind == "NO_OP":
        return {*inputs, "message", *errors}
    if step.step.get("moduleIdentifier") == _COMPOSE and step.kind in {"DATA_TRANSFORMATION", "DATA_LOAD"}:
        config = step.step.get("customConfig")
        if isinstance(default, dict) and default.get("defaultCustomConfig"):
            return None
        return {*inputs, *(config if isinstance(config, dict) else ()), *errors}
    return None


def _no_member(read: Read, step: LocatedStep, known: set[str]) -> str:
    member = read.names[2]
    message = f"the output of step {quoted(step.id)} has no {quoted(member)}"
    if step.kind in _CALLS and (meant := _SAME_IN_ANSWERS.get(member)):
        return f"{message}; it is {quoted('.'.join((step.id, meant, *read.names[3:])))}"
    if member == "error" and known & _ERROR:
        name = quoted(f"{step.id}.errorName")
        return f"{message}; the error of a step has `errorName` and `errorMessage`: {name}"
    if step.kind in _CALLS:
        return f"{message}; the body of the response is in `data`: {quoted(f'{step.id}.data.{member}')}"
    if step.kind == "PARALLEL_FORK_MANAGER":
        return f"{message}; the results are in `aggregatedData`"
    if guess := nearest(member, known):
        return f"{message}; did you mean {quoted(guess)}?"
    has = ", ".join(quoted(one) for one in sorted(known - _ERROR)[:_MAX_NAMES])
    return f"{message}; it has {has}" if has else f"{message}; the step has no input, so its output is empty"


def _one_object(read: Read, step: LocatedStep) -> str | None:
    """Return what is wrong with items that are the output of a step as a whole: the branches run once."""
    inside = _INSIDE.get(step.kind)
    source = read.expression.source.strip()
    if read.expression.field != "itemsPath" or inside is None or not source.endswith(step.id):
        return None
    return (
        f"the output of step {quoted(step.id)} is one object, so the branches run once; the list is in "
        f"{quoted(f'{source}.{inside}')}"
    )


@lint(fields=("outputMappings", "outputValidation"))
def output_sources(view: FlowView) -> Warnings:
    """Yield sources of output mappings, and required fields, that the step's output cannot have."""
    for read in view.reads:
        if read.expression.root is not Root.OUTPUT or read.step is None:
            continue
        name, step = read.names[0], read.step
        inputs = view.names.inputs_of(step)
        if name in inputs or read.expression.kind is not Kind.PATH:
            continue
        known: Any = None if step.runs_own_module else _always_in(step)
        if known is not None and name not in known | _ERROR | {"_meta"}:
            advice = _where_in_output(step.kind, name, read.expression.source, known)
            yield warning(read.path, f"the output of {step.kind} has no {quoted(name)}; {advice}")
        elif known is None and name in _CONTEXT and not _has_a_context(step):
            yield warning(
                read.path,
                f"paths here begin at the step's output, which has no {quoted(name)}; "
                "to keep a value of the context, map it in `inputMappings` first",
            )


def _always_in(step: LocatedStep) -> frozenset[str] | None:
    """Return the names in a step's output if its type and mode decide them."""
    return _STARTED if _starts_run(step.step, step.kind) else _OUTPUTS.get(step.kind)


def _starts_run(step: Mapping[str, Any], kind: str) -> bool:
    """Return whether a step starts a run that it does not wait for."""
    options, config = step.get("airflow"), step.get("customConfig")
    if isinstance(options, dict) and options.get("ownRun") is True:
        return False
    if kind == "START_SUB_FLOW":
        return step.get("subFlowExecutionMode") == "ASYNC"
    waits = isinstance(config, dict) and config.get("sync") is True
    return kind == "START_FLOW_EXECUTION" and not waits


def _has_a_context(step: LocatedStep) -> bool:
    """Return whether the output can have the names of a context: that of a sub-flow is its context."""
    return step.kind in {"NO_OP", "START_FLOW_EXECUTION", "START_SUB_FLOW"}


def _where_in_output(kind: str, name: str, source: str, known: frozenset[str]) -> str:
    """Return what to write in place of a source that a step of this type does not have."""
    if kind in _CALLS and name not in _CONTEXT:
        return f"the body of the response is in `data`: {quoted('$.data' + source[1:])}"
    inside = _INSIDE.get(kind)
    if inside is None:
        return f"it has {', '.join(quoted(one) for one in sorted(known))}"
    return f"paths here begin at the step's output: `$.{inside}`"
