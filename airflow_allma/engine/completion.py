"""The actions after a run: each runs as a step would, by the same handlers, over the run's final data.

An action never changes the run. It has an id that is the same in every try, which travels with the request or
the message, so that a receiver can tell a repetition from a second action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from time import perf_counter
from typing import Any, Final

import msgspec

from airflow_allma.common.aws_names import queue_url_of_arn
from airflow_allma.common.printable import printable, shortened
from airflow_allma.common.work_budget import begin_step
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.mappings import mentions_state
from airflow_allma.engine.pointer_loading import evaluate
from airflow_allma.engine.program import CompiledStep, Program
from airflow_allma.engine.retry import call_with_retries
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunInfo, RunState, state_view
from airflow_allma.engine.step_execution import StepExecution, without_meta
from airflow_allma.engine.steps import HANDLERS
from airflow_allma.exceptions import StepError
from airflow_allma.expressions import compile_condition, compile_context_mappings, compile_template
from airflow_allma.expressions.js_values import to_string
from airflow_allma.expressions.targets import member_path
from airflow_allma.flow import (
    ApiCallStep,
    ApiUrlTemplate,
    CompletionAction,
    CompletionActionType,
    CustomLambdaInvokeStep,
    ExecuteOnStatus,
    Flow,
    NoOpStep,
    SnsPublishStep,
    SqsSendStep,
    Step,
    StepType,
)
from airflow_allma.flow.completion_actions import action_name, data_save_step

__all__ = [
    "ActionResult",
    "ActionStatus",
    "FinalStatus",
    "RunEnd",
    "completion_actions",
    "run_action",
    "shown_payload",
]

ID_HEADER: Final = "Idempotency-Key"
"""The header, and the attribute of a message, with the action's id."""

_MAX_LOGGED: Final = 8_000


class FinalStatus(StrEnum):
    """How a run ended, as ``$.status`` says it."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    """It took longer than ``airflow.runTimeoutSeconds``."""
    CANCELLED = "CANCELLED"
    """Somebody marked it, or one of its tasks, as failed."""


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The end of a run.

    Attributes:
        status: how it ended.
        time: when, ISO 8601 in UTC.
        number: which end of the run this is: 0, and one more for each time that the run was cleared.
        error: the four fields of the error with which it failed; None if there is none.
    """

    status: FinalStatus
    time: str
    number: int = 0
    error: Mapping[str, Any] | None = None

    @property
    def view(self) -> dict[str, Any]:
        """What expressions see of it."""
        error = {} if self.error is None else {"errorInfo": dict(self.error)}
        return {"status": self.status.value, "endTime": self.time, **error}


class ActionStatus(StrEnum):
    """What became of an action."""

    DONE = "DONE"
    SKIPPED = "SKIPPED"
    """It is not for this end: another status, or its condition is false."""
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class ActionResult:
    """The result of one action.

    Attributes:
        name: the action, ``onCompletionActions[0]``.
        kind: its type.
        status: what became of it.
        reason: why it was skipped.
        payload: what its ``payloadTemplate`` made.
        output: what its handler returned.
        error: with FAILED, the error.
    """

    name: str
    kind: CompletionActionType
    status: ActionStatus
    reason: str = ""
    payload: Mapping[str, Any] | None = None
    output: Any = None
    error: StepError | None = None


class _CompiledAction:
    """An action that is ready to run.

    Args:
        action: the action.
        index: its index in the flow.
    """

    def __init__(self, action: CompletionAction, index: int) -> None:
        self.action = action
        self.index = index
        self.name = action_name(index)
        self.matches = compile_condition(action.condition).matches if action.condition else None
        self.payload = _paths(action.payload_template)
        self.attributes = _paths(action.message_attributes_template)
        self.needs_state = any(
            map(
                mentions_state,
                (
                    action.condition or "",
                    *action.payload_template.values(),
                    *action.message_attributes_template.values(),
                ),
            )
        )
        kind = _KINDS[action.action_type]
        step = kind.step(action, index)
        self.step: CompiledStep = Program({self.name: step}, self.name, HANDLERS).steps[self.name]
        self.input_of = kind.input_of


def _paths(paths: Mapping[str, str]) -> Any:
    return compile_context_mappings({name: {"sourceJsonPath": path} for name, path in paths.items()})


def completion_actions(flow: Flow) -> tuple[_CompiledAction, ...]:
    """Compile the actions of a flow that was validated when it was loaded."""
    return tuple(_CompiledAction(action, index) for index, action in enumerate(flow.on_completion_actions))


async def run_action(
    action: _CompiledAction, state: RunState, info: RunInfo, end: RunEnd, services: Services
) -> ActionResult:
    """Run one action; whatever fails is part of the result.

    Transient errors are retried as those of steps are.

    Args:
        action: one of ``completion_actions``.
        state: the run's final state; it is not changed.
        info: the run.
        end: how it ended.
        services: what the action can use.
    """
    result = ActionResult(action.name, action.action.action_type, ActionStatus.SKIPPED)
    wanted = action.action.execute_on_status
    if wanted is not ExecuteOnStatus.ANY and wanted.value != _status_class(end):
        return replace(result, reason=f"executeOnStatus is {wanted.value}, and the run is {end.status.value}")
    final = state.copy()
    final.ended = end.view
    execution = StepExecution(action.step, final, info, services, started=perf_counter())
    payload: dict[str, Any] = {}
    try:
        begin_step(services.settings.max_step_work, action.name)
        root = state.context
        if action.needs_state:
            root = {**state_view(info, state.context, None, final), **state.context}
        load = services.pointers.load
        if action.matches is not None and not await evaluate(services, action.matches, root, load):
            return replace(result, reason=f"its condition, {action.action.condition}, is false")
        payload = await evaluate(services, action.payload.resolve, root, load)
        attributes = await evaluate(services, action.attributes.resolve, root, load)
        sent = _Sent(_action_id(info, end, action.index), info, action.action, payload, attributes)
        execution.step_input = action.input_of(sent)
        if action.action.action_type is CompletionActionType.LOG_ONLY:
            services.log.info("%s: %s", action.name, shown_payload(payload, services))
        output = await call_with_retries(execution, last_try=True)
    except Exception as raised:  # noqa: BLE001 - like the error of a step
        error = services.secrets.mask_error(step_error_from(raised))
        execution.record(error.as_dict())
        return replace(result, status=ActionStatus.FAILED, payload=payload, error=error)
    if isinstance(output, dict):
        final.last_meta = output.get("_meta")
        output = without_meta(output)
    final.last_output = output
    final.next_step = None
    execution.record()
    return replace(result, status=ActionStatus.DONE, payload=payload, output=output)


def _status_class(end: RunEnd) -> str:
    completed = end.status is FinalStatus.COMPLETED
    return (ExecuteOnStatus.COMPLETED if completed else ExecuteOnStatus.FAILED).value


def _action_id(info: RunInfo, end: RunEnd, index: int) -> str:
    return f"{info.flow_execution_id}-{end.number}-{index}"


def shown_payload(payload: Mapping[str, Any], services: Services) -> str:
    """Return a payload as JSON on one line, shortened, with secrets masked."""
    text = msgspec.json.encode(services.secrets.masks.json(dict(payload))).decode(errors="replace")
    return shortened(printable(text), _MAX_LOGGED)


# What each type of action is as a step


@dataclass(frozen=True, slots=True)
class _Sent:
    """What an action sends.

    Attributes:
        action_id: the action's id, the same in every try.
        info: the run.
        action: the action.
        payload: what its ``payloadTemplate`` made.
        attributes: what its ``messageAttributesTemplate`` made.
    """

    action_id: str
    info: RunInfo
    action: CompletionAction
    payload: dict[str, Any]
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _ActionKind:
    """A type of action as a step: the step's model, and its input."""

    step: Callable[[CompletionAction, int], Step]
    input_of: Callable[[_Sent], dict[str, Any]]


def _log_step(action: CompletionAction, index: int) -> Step:
    del action
    return NoOpStep(step_type=StepType.NO_OP, step_instance_id=action_name(index))


def _api_call(action: CompletionAction, index: int) -> Step:
    # As in the original of the language, the target is not a template: placeholders become empty.
    url = compile_template(action.target or "").render({})
    config = {"requestBodyPath": "$.payload"} if action.payload_template else {}
    return ApiCallStep(
        step_type=StepType.API_CALL,
        step_instance_id=action_name(index),
        api_http_method=action.api_http_method,
        api_url_template=ApiUrlTemplate(template=url, context_mappings={}),
        api_headers_template={ID_HEADER: "$.actionId"},
        connection=action.connection,
        custom_config=config,
    )


def _lambda(action: CompletionAction, index: int) -> Step:
    paths = {name: member_path("$.payload", name) for name in action.payload_template}
    return CustomLambdaInvokeStep(
        step_type=StepType.CUSTOM_LAMBDA_INVOKE,
        step_instance_id=action_name(index),
        lambda_function_arn_template=action.target,
        payload_template={"idempotencyKey": "$.actionId", **paths},
        custom_config={"invocationType": "Event"},
    )


def _topic(action: CompletionAction, index: int) -> Step:
    return SnsPublishStep(
        step_type=StepType.SNS_PUBLISH, step_instance_id=action_name(index), topic_arn=action.target
    )


def _queue(action: CompletionAction, index: int) -> Step:
    return SqsSendStep(
        step_type=StepType.SQS_SEND,
        step_instance_id=action_name(index),
        queue_url=queue_url_of_arn(action.target or "") or action.target,
    )


def _request_input(sent: _Sent) -> dict[str, Any]:
    return {"actionId": sent.action_id, "payload": sent.payload}


def _message_input(sent: _Sent) -> dict[str, Any]:
    attributes = {ID_HEADER: {"DataType": "String", "StringValue": sent.action_id}}
    attributes |= dict(_message_attributes(sent.attributes))
    message: dict[str, Any] = {"payload": sent.payload, "messageAttributes": attributes}
    if (sent.action.target or "").endswith(".fifo"):
        message["messageGroupId"] = sent.info.flow_execution_id
        message["messageDeduplicationId"] = sent.action_id
    return message


def _message_attributes(values: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in values.items():
        if isinstance(value, bool) or value is None or value == "":
            kind, written = "String", to_string(value)
        elif isinstance(value, int | float):
            kind, written = "Number", to_string(value)
        elif isinstance(value, list):
            kind, written = "String.Array", msgspec.json.encode(value).decode()
        else:
            kind = "String"
            written = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        # A service takes no empty attribute.
        if written:
            yield name, {"DataType": kind, "StringValue": written}


_KINDS: Final[Mapping[CompletionActionType, _ActionKind]] = {
    CompletionActionType.LOG_ONLY: _ActionKind(_log_step, lambda sent: dict(sent.payload)),
    CompletionActionType.API_CALL: _ActionKind(_api_call, _request_input),
    CompletionActionType.SNS_SEND: _ActionKind(_topic, _message_input),
    CompletionActionType.SQS_SEND: _ActionKind(_queue, _message_input),
    CompletionActionType.CUSTOM_LAMBDA_INVOKE: _ActionKind(_lambda, _request_input),
    CompletionActionType.DATA_SAVE: _ActionKind(
        data_save_step, lambda sent: {"idempotencyKey": sent.action_id, **sent.payload}
    ),
}
