"""The normalization of flows, before the models see them: different ways to write a flow become one.

Works on JSON values and never fails: a value of the wrong shape is passed on unchanged, for the models to
reject. Arguments are never changed; what differs is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

__all__ = [
    "ALIASES",
    "MAPPING_FIELDS",
    "MESSAGING",
    "START_FIELDS",
    "builtin_definition",
    "dotted_mappings",
    "implied_order",
    "normalize_flow",
    "own_steps",
    "type_of",
]

Json = Any

# One documented step type means two; its module decides.
MESSAGING = "MESSAGING"
_MESSAGING_TYPES = {"system/sqs-send": "SQS_SEND", "system/sns-publish": "SNS_PUBLISH"}
# The documentation of step types also uses the name of the completion action.
_OTHER_NAMES = {"SNS_SEND": "SNS_PUBLISH"}
ALIASES = (MESSAGING, *_OTHER_NAMES)
"""The step types that are other names of one."""

# Module -> the step type of the built-in step definition with that name.
_MODULE_TYPES = {
    "dynamodb-data-loader": "DATA_LOAD",
    "ddb-query-to-s3-manifest": "DATA_LOAD",
    "s3-data-loader": "DATA_LOAD",
    "s3-list-files": "DATA_LOAD",
    "sqs-get-queue-attributes": "DATA_LOAD",
    "sqs-receive-messages": "DATA_LOAD",
    "dynamodb-update-item": "DATA_SAVE",
    "dynamodb-query-and-update": "DATA_SAVE",
    "s3-data-saver": "DATA_SAVE",
    "array-aggregator": "DATA_TRANSFORMATION",
    "compose-object-from-input": "DATA_TRANSFORMATION",
    "date-time-calculator": "DATA_TRANSFORMATION",
    "flatten-array": "DATA_TRANSFORMATION",
    "generate-array": "DATA_TRANSFORMATION",
    "generate-uuid": "DATA_TRANSFORMATION",
    "join-data": "DATA_TRANSFORMATION",
    "file-download": "FILE_DOWNLOAD",
    "start-flow-execution": "START_FLOW_EXECUTION",
    "sqs-send": "SQS_SEND",
    "sns-publish": "SNS_PUBLISH",
}
# Built-in step definitions without a module -> their step type.
_PLAIN_TYPES = {
    "api-call": "API_CALL",
    "custom-lambda-invoke": "CUSTOM_LAMBDA_INVOKE",
    "email-send": "EMAIL",
    "email-start-point": "EMAIL_START_POINT",
    "end-flow": "END_FLOW",
    "llm-invocation": "LLM_INVOCATION",
    "mcp-call": "MCP_CALL",
    "noop": "NO_OP",
    "parallel-fork-manager": "PARALLEL_FORK_MANAGER",
    "poll-external-api": "POLL_EXTERNAL_API",
    "schedule-start-point": "SCHEDULE_START_POINT",
    "start-sub-flow": "START_SUB_FLOW",
    "wait-for-external-event": "WAIT_FOR_EXTERNAL_EVENT",
}
START_FIELDS = ("stepInstanceId", "startStepInstanceId", "startStep")
"""The fields of a branch that name its first step."""

_DEFINITION_PREFIX = "system-"

# The types whose handler reads customConfig; in all others its defaults would have no effect.
_TAKES_CUSTOM_CONFIG = frozenset(
    {
        "API_CALL",
        "CUSTOM_LAMBDA_INVOKE",
        "CUSTOM_LOGIC",
        "DATA_LOAD",
        "DATA_SAVE",
        "DATA_TRANSFORMATION",
        "FILE_DOWNLOAD",
        "LLM_INVOCATION",
        "SNS_PUBLISH",
        "SQS_SEND",
        "START_FLOW_EXECUTION",
    }
)


def builtin_definition(definition_id: str) -> dict[str, Json] | None:
    """Return the fields of a built-in step definition (``system-<name>``); None if it does not exist."""
    name = definition_id.removeprefix(_DEFINITION_PREFIX)
    if name == definition_id:
        return None
    if name in _MODULE_TYPES:
        return {"stepType": _MODULE_TYPES[name], "moduleIdentifier": f"system/{name}"}
    return {"stepType": _PLAIN_TYPES[name]} if name in _PLAIN_TYPES else None


def type_of(step: Mapping[str, Json]) -> Json:
    """Return a step's type, with the documented aliases resolved as far as its module allows."""
    kind = step.get("stepType")
    if kind != MESSAGING:
        return _OTHER_NAMES.get(kind, kind) if isinstance(kind, str) else kind
    module = step.get("moduleIdentifier")
    return _MESSAGING_TYPES.get(module, kind) if isinstance(module, str) else kind


def own_steps(steps: Json) -> Iterator[tuple[str, str | int, Json]]:
    """Yield the steps of a map or a list as (step id, key or index, step).

    A list's step without an id gets its index as the id, so that the error about it can be located.
    """
    if isinstance(steps, dict):
        yield from ((key, key, step) for key, step in steps.items())
    elif isinstance(steps, list | tuple):
        for index, step in enumerate(steps):
            own_id = step.get("stepInstanceId") if isinstance(step, dict) else None
            yield (own_id if isinstance(own_id, str) else str(index)), index, step


def implied_order(steps: Json) -> dict[str, str]:
    """Return step id -> id of the next step, for a branch's list of steps in which none names another.

    Steps that name each other, and the steps of a map, imply no order.
    """
    if not isinstance(steps, list | tuple) or any(_names_a_step(step) for step in steps):
        return {}
    listed = [(step_id, step) for step_id, _, step in own_steps(steps)]
    return {
        step_id: following
        for (step_id, step), (following, _) in pairwise(listed)
        if isinstance(step, dict) and type_of(step) != "END_FLOW"
    }


def _names_a_step(step: Json) -> bool:
    if not isinstance(step, dict):
        return False
    on_error, branches = step.get("onError"), step.get("parallelBranches")
    return bool(
        step.get("defaultNextStepInstanceId")
        or step.get("transitions")
        or (isinstance(on_error, dict) and on_error.get("fallbackStepInstanceId"))
        or (isinstance(branches, list | tuple) and any(map(_starts_outside, branches)))
    )


def _starts_outside(branch: Json) -> bool:
    """Return whether a branch starts at a step around it, not at one of its own."""
    return (
        isinstance(branch, dict)
        and branch.get("steps") is None
        and any(branch.get(field) for field in START_FIELDS)
    )


def dotted_mappings(flow: dict[str, Json]) -> dict[str, Json]:
    """Return the flow with objects of paths in input mappings in their dotted form.

    ``{"a.b": {":x": "$.y"}}`` is ``{"a.b.:x": "$.y"}``, in steps and in branches.
    """
    steps = _with_dotted(flow.get("steps"), _dotted_step)
    return flow if steps is flow.get("steps") else {**flow, "steps": steps}


MAPPING_FIELDS = frozenset({"inputMappings", "inputMappingsToSubFlow"})
"""The fields with dotted targets and the paths to their values."""


def _with_dotted(owners: Json, convert: Callable[[dict[str, Json]], dict[str, Json]]) -> Json:
    """Return a map or a list of steps or branches, the same one if nothing has to be converted."""
    if isinstance(owners, dict):
        converted = {
            key: convert(owner) if isinstance(owner, dict) else owner for key, owner in owners.items()
        }
        return converted if any(converted[key] is not owners[key] for key in owners) else owners
    if isinstance(owners, list | tuple):
        members = [convert(owner) if isinstance(owner, dict) else owner for owner in owners]
        return members if any(new is not old for new, old in zip(members, owners, strict=True)) else owners
    return owners


def _dotted_step(step: dict[str, Json]) -> dict[str, Json]:
    dotted = _dotted_fields(step)
    branches = step.get("parallelBranches")
    if isinstance(branches, list | tuple):
        converted = _with_dotted(branches, _dotted_branch)
        return dotted if converted is branches else {**dotted, "parallelBranches": converted}
    return dotted


def _dotted_branch(branch: dict[str, Json]) -> dict[str, Json]:
    dotted = _dotted_fields(branch)
    steps = _with_dotted(branch.get("steps"), _dotted_step)
    return dotted if steps is branch.get("steps") else {**dotted, "steps": steps}


def _dotted_fields(owner: dict[str, Json]) -> dict[str, Json]:
    for field in sorted(MAPPING_FIELDS):
        mappings = owner.get(field)
        if isinstance(mappings, dict) and any(isinstance(source, dict) for source in mappings.values()):
            owner = {**owner, field: dict(_leaves(mappings))}
    return owner


def _leaves(mappings: dict[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    for target, source in mappings.items():
        if isinstance(source, dict):
            yield from _leaves(source, f"{prefix}{target}.")
        else:
            yield f"{prefix}{target}", source


def normalize_flow(flow: dict[str, Json]) -> dict[str, Json]:
    """Return the flow with ids filled in, aliases resolved, lists of steps as maps and defaults applied."""
    if not isinstance(flow.get("steps"), dict):
        return flow
    flow = dotted_mappings(flow)
    defaults = flow.get("defaultStepConfig")
    return {**flow, "steps": _steps(flow["steps"], defaults if isinstance(defaults, dict) else {})}


def _steps(steps: Json, defaults: Mapping[str, Json]) -> Json:
    by_id = {step_id: (key, step) for step_id, key, step in own_steps(steps)}
    return {
        step_id: _step(step_id if isinstance(key, str) else None, step, defaults, by_id)
        for step_id, (key, step) in by_id.items()
    }


def _step(key: str | None, step: Json, defaults: Mapping[str, Json], scope: Mapping[str, Json]) -> Json:
    if not isinstance(step, dict):
        return step
    filled = dict(step)
    definition = filled.get("stepDefinitionId")
    if isinstance(definition, str):
        filled = {**(builtin_definition(definition) or {}), **filled}
    if filled.get("stepInstanceId") is None and key is not None:
        filled["stepInstanceId"] = key
    if "stepType" in filled:
        filled["stepType"] = type_of(filled)
    if defaults:
        _apply_defaults(filled, defaults, scope)
    branches = filled.get("parallelBranches")
    if isinstance(branches, list | tuple):
        filled["parallelBranches"] = [_branch(branch, defaults) for branch in branches]
    return filled


def _branch(branch: Json, defaults: Mapping[str, Json]) -> Json:
    if not isinstance(branch, dict) or not isinstance(branch.get("steps"), dict | list | tuple):
        return branch
    steps = _steps(branch["steps"], defaults)
    for step_id, following in implied_order(branch["steps"]).items():
        if isinstance(steps[step_id], dict):
            steps[step_id]["defaultNextStepInstanceId"] = following
    return {**branch, "steps": steps}


def _apply_defaults(step: dict[str, Json], defaults: Mapping[str, Json], scope: Mapping[str, Json]) -> None:
    kind = step.get("stepType")
    if isinstance(kind, str) and kind in _TAKES_CUSTOM_CONFIG:
        _fill_fields(step, "customConfig", defaults.get("defaultCustomConfig"))
    if kind == "LLM_INVOCATION":
        _fill_fields(step, "inferenceParameters", defaults.get("defaultInferenceParameters"))
    handler = defaults.get("defaultErrorHandler")
    if isinstance(handler, dict) and step.get("onError") is None:
        fallback = handler.get("fallbackStepInstanceId")
        # The fallback step must not fall back on itself without end, and no branch leaves its own steps.
        usable = isinstance(fallback, str) and fallback != step.get("stepInstanceId") and fallback in scope
        step["onError"] = (
            handler if usable else {k: v for k, v in handler.items() if k != "fallbackStepInstanceId"}
        )


def _fill_fields(step: dict[str, Json], field: str, defaults: Json) -> None:
    own = step.get(field)
    if isinstance(defaults, dict) and isinstance(own, dict | None):
        step[field] = {**defaults, **(own or {})}
