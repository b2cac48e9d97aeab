"""Where each field of the language belongs, for fields that are found somewhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from airflow_allma.flow.models import AirflowOptions, DefaultStepConfig, Flow
from airflow_allma.flow.steps import (
    STEP_MODELS,
    AggregationConfig,
    ApiCallDefinition,
    ApiUrlTemplate,
    ContentRetry,
    Delay,
    ExitConditions,
    ForkAirflowOptions,
    OnError,
    OutputValidation,
    ParallelBranch,
    PollingConfig,
    Retries,
    Step,
    StepType,
    Transition,
)

__all__ = ["Place", "fields_of", "home_of"]


class Place(Enum):
    """Where a field was found."""

    FLOW = auto()
    """At the top of the flow."""
    AIRFLOW = auto()
    """In the flow's ``airflow`` object, or that of a fork."""
    DEFAULTS = auto()
    """In the flow's ``defaultStepConfig``."""
    STEP = auto()
    """In a step."""
    IN_STEP = auto()
    """In an object of a step: ``onError``, ``aggregationConfig``, a transition, a branch, ..."""


def fields_of(model: Any) -> frozenset[str]:
    """Return the names of a model's fields as JSON has them."""
    return frozenset(field.alias or name for name, field in model.model_fields.items())


@dataclass(frozen=True, slots=True)
class _Home:
    """Where some fields belong.

    Attributes:
        fields: the fields.
        of_flow: what to write at the top of the flow; empty if the home is not there.
        of_step: what to write in a step.
        kind: the type of that step; empty for every type.
    """

    fields: frozenset[str]
    of_flow: str = ""
    of_step: str = ""
    kind: str = ""


# Names that describe whatever they are in: people and tools write them anywhere.
_ANYWHERE: Final = frozenset(
    {
        "$schema",
        "authoringSource",
        "createdAt",
        "description",
        "displayName",
        "fill",
        "icon",
        "id",
        "label",
        "name",
        "order",
        "position",
        "publishedAt",
        "tags",
        "updatedAt",
        "version",
    }
)
_FORK: Final = "PARALLEL_FORK_MANAGER"
_SCHEDULE: Final = "airflow.schedule"

_STEPS_OWN: Final = fields_of(Step)
# Names that belong to other types alone, such as `to` and `payload`, are too common to be taken for those.
_KNOWN_BY_NAME: Final = (StepType.API_CALL, StepType.PARALLEL_FORK_MANAGER, StepType.SCHEDULE_START_POINT)
_HOMES: Final = (
    _Home(_STEPS_OWN | {"stepType"}, of_step="{field}"),
    *(
        _Home(fields_of(STEP_MODELS[kind]) - _STEPS_OWN - {"airflow"}, of_step="{field}", kind=str(kind))
        for kind in _KNOWN_BY_NAME
    ),
    _Home(fields_of(OnError), of_step="onError.{field}"),
    _Home(fields_of(Retries) | fields_of(ContentRetry), of_step="onError.retries.{field}"),
    _Home(fields_of(ForkAirflowOptions), of_step="airflow.{field}", kind=_FORK),
    _Home(fields_of(AirflowOptions), of_flow="airflow.{field}"),
    _Home(fields_of(AggregationConfig), of_step="aggregationConfig.{field}", kind=_FORK),
    _Home(fields_of(ParallelBranch) - {"airflow"}, of_step="parallelBranches[].{field}", kind=_FORK),
    _Home(fields_of(Transition), of_step="transitions[].{field}"),
    _Home(fields_of(Delay), of_step="delay.{field}"),
    _Home(fields_of(OutputValidation), of_step="outputValidation.{field}"),
    _Home(fields_of(ApiUrlTemplate), of_step="apiUrlTemplate.{field}", kind="API_CALL"),
    _Home(frozenset({"requestBodyPath", "timeoutMs"}), of_step="customConfig.{field}", kind="API_CALL"),
    _Home(fields_of(DefaultStepConfig), of_flow="defaultStepConfig.{field}"),
    _Home(fields_of(Flow), of_flow="{field}"),
)
_HANDLER: Final = "defaultStepConfig.defaultErrorHandler"
_DEFAULTS: Final[Mapping[str, str]] = {
    **{field: f"{_HANDLER}.{field}" for field in fields_of(OnError)},
    **{field: f"{_HANDLER}.retries.{field}" for field in fields_of(Retries)},
    **dict.fromkeys(("onError", "errorHandler"), _HANDLER),
    **dict.fromkeys(("customConfig", "config"), "defaultStepConfig.defaultCustomConfig"),
    **dict.fromkeys(("timeoutMs", "requestBodyPath"), "defaultStepConfig.defaultCustomConfig.{field}"),
    "inferenceParameters": "defaultStepConfig.defaultInferenceParameters",
}
"""Field that is found in ``defaultStepConfig`` -> where it belongs, if there is such a default."""

_OTHER_SCHEDULES: Final = ("cron", "scheduleInterval", "schedule_interval")
_SCHEDULES: Final = frozenset({"schedule", *_OTHER_SCHEDULES})

# What people write who know other systems -> what it is called here.
_OTHER_NAMES: Final[Mapping[str, _Home]] = {
    **dict.fromkeys(_OTHER_SCHEDULES, _Home(frozenset(), _SCHEDULE)),
    **dict.fromkeys(("dagId", "dag_id", "flowId"), _Home(frozenset(), "id")),
    **dict.fromkeys(
        ("start", "startAt", "StartAt", "startStep", "startStepId"), _Home(frozenset(), "startStepInstanceId")
    ),
    "variables": _Home(frozenset(), "flowVariables"),
    "body": _Home(frozenset(), of_step="requestBodyTemplate", kind="API_CALL"),
    "branches": _Home(frozenset(), of_step="parallelBranches", kind=_FORK),
    "concurrency": _Home(frozenset(), of_step="aggregationConfig.maxConcurrency", kind=_FORK),
    "headers": _Home(frozenset(), of_step="apiStaticHeaders", kind="API_CALL"),
    "httpMethod": _Home(frozenset(), of_step="apiHttpMethod", kind="API_CALL"),
    "items": _Home(frozenset(), of_step="itemsPath", kind=_FORK),
    "method": _Home(frozenset(), of_step="apiHttpMethod", kind="API_CALL"),
    "module": _Home(frozenset(), of_step="moduleIdentifier"),
    "timeout": _Home(frozenset(), of_step="customConfig.timeoutMs", kind="API_CALL"),
    "url": _Home(frozenset(), of_step="apiUrlTemplate.template", kind="API_CALL"),
    **dict.fromkeys(
        ("next", "Next", "nextStep", "nextStepInstanceId"),
        _Home(frozenset(), of_step="defaultNextStepInstanceId"),
    ),
    **dict.fromkeys(("retry", "Retry", "maxRetries"), _Home(frozenset(), of_step="onError.retries")),
    **dict.fromkeys(("catch", "Catch", "onFailure"), _Home(frozenset(), of_step="onError")),
    **dict.fromkeys(("input", "inputs"), _Home(frozenset(), of_step="inputMappings")),
    **dict.fromkeys(("output", "outputs"), _Home(frozenset(), of_step="outputMappings")),
    **dict.fromkeys(("config", "parameters"), _Home(frozenset(), of_step="customConfig")),
    "type": _Home(frozenset(), of_step="stepType"),
}
_CONNECTION_IDS: Final = (
    "conn_id",
    "connId",
    "connection_id",
    "connectionId",
    "http_conn_id",
    "smtp_conn_id",
)
# Type of step -> what people write in it who know other systems or other types -> where that belongs.
_OTHER_NAMES_OF: Final[Mapping[str, Mapping[str, str]]] = {
    "API_CALL": dict.fromkeys(_CONNECTION_IDS, "connection"),
    "CUSTOM_LAMBDA_INVOKE": {
        **{
            name: f"customConfig.{name}"
            for name in ("hydrateInputFromS3", "invocationType", "logType", "qualifier")
        },
        **dict.fromkeys(("function", "functionArn", "functionName"), "lambdaFunctionArnTemplate"),
    },
    "EMAIL": {
        **dict.fromkeys(_CONNECTION_IDS, "connection"),
        **dict.fromkeys(("bodyTemplate", "html", "htmlBody", "html_content"), "body"),
        **dict.fromkeys(("from_email", "sender"), "from"),
        **dict.fromkeys(("recipient", "recipients", "toAddresses"), "to"),
        "files": "attachments",
        "headers": "customHeaders",
    },
    "FILE_DOWNLOAD": {
        **dict.fromkeys(_CONNECTION_IDS, "connection"),
        **dict.fromkeys(("apiUrlTemplate", "source", "sourceUrl", "url"), "sourceUrlTemplate"),
        **dict.fromkeys(("apiHeadersTemplate", "apiStaticHeaders", "headers"), "headersTemplate"),
        **dict.fromkeys(("apiHttpMethod", "httpMethod"), "method"),
        **dict.fromkeys(("bucket", "bucketName"), "destinationBucket"),
        **dict.fromkeys(("destinationKey", "key"), "destinationKeyTemplate"),
        **dict.fromkeys(("timeout", "timeoutMs"), "customConfig.timeoutMs"),
        **dict.fromkeys(("verify", "verifySsl"), "customConfig.verifySsl"),
    },
    "MCP_CALL": {
        **dict.fromkeys((*_CONNECTION_IDS, "mcp_conn_id"), "connection"),
        **dict.fromkeys(("mcpConnection", "server", "serverId"), "mcpConnectionId"),
        **dict.fromkeys(("arguments", "toolArguments", "toolInput"), "inputMappings"),
        **dict.fromkeys(("timeout", "timeoutMs"), "customConfig.timeoutMs"),
        **dict.fromkeys(("tool", "tool_name"), "toolName"),
    },
    "POLL_EXTERNAL_API": {
        **{field: f"apiCallDefinition.{field}" for field in fields_of(ApiCallDefinition)},
        **{field: f"pollingConfig.{field}" for field in fields_of(PollingConfig)},
        **{field: f"exitConditions.{field}" for field in fields_of(ExitConditions)},
        **dict.fromkeys(_CONNECTION_IDS, "apiCallDefinition.connection"),
        **dict.fromkeys(("body", "requestBody"), "apiCallDefinition.requestBodyTemplate"),
        **dict.fromkeys(("headers",), "apiCallDefinition.apiStaticHeaders"),
        **dict.fromkeys(("httpMethod", "method"), "apiCallDefinition.apiHttpMethod"),
        **dict.fromkeys(("interval", "poke_interval", "poll_interval"), "pollingConfig.intervalSeconds"),
        **dict.fromkeys(("timeout", "timeoutMs"), "customConfig.timeoutMs"),
        "url": "apiCallDefinition.apiUrlTemplate.template",
    },
    "START_FLOW_EXECUTION": {
        **dict.fromkeys(("sync", "wait_for_completion"), "customConfig.sync"),
        **dict.fromkeys(("subFlowDefinitionId", "trigger_dag_id"), "flowDefinitionId"),
        **dict.fromkeys(("conf", "inputMappingsToSubFlow"), "inputMappings"),
        "ownRun": "airflow.ownRun",
        "subFlowVersion": "flowVersion",
    },
    "START_SUB_FLOW": {
        "flowVersion": "subFlowVersion",
        "ownRun": "airflow.ownRun",
    },
    "WAIT_FOR_EXTERNAL_EVENT": {
        **dict.fromkeys(("message", "prompt", "promptMessage"), "promptUserMessageTemplate"),
        **dict.fromkeys(("timeout", "timeoutSeconds"), "maxWaitTimeSeconds"),
    },
    "SNS_PUBLISH": {
        **dict.fromkeys(("body", "message", "messageBody"), "payload"),
        **dict.fromkeys(("target_arn", "topic"), "topicArn"),
    },
    "SQS_SEND": {
        **dict.fromkeys(("body", "message", "messageBody"), "payload"),
        **dict.fromkeys(("queue", "sqs_queue"), "queueUrl"),
    },
}
_OF_START_POINT: Final = _Home(frozenset(), of_step="scheduleExpression", kind="SCHEDULE_START_POINT")
_STEPS_BEFORE: Final = frozenset({"after", "dependsOn", "depends_on", "previous", "runAfter", "upstream"})


def home_of(field: str, place: Place, kind: str = "") -> str | None:
    """Return where a field belongs that was found in a place where it has no meaning.

    Args:
        field: the name that was found.
        place: where.
        kind: the type of the step that it was found in; empty outside of steps.

    Returns:
        "at `airflow.schedule`", for example; None for a name that belongs nowhere, or anywhere.
    """
    if field in _ANYWHERE:
        return None
    if place is Place.DEFAULTS and field in _DEFAULTS:
        return f"at `{_DEFAULTS[field].format(field=field)}`"
    if place is Place.STEP and field in _STEPS_BEFORE:
        return "the other way round: `defaultNextStepInstanceId` of the step before names this one"
    if place is Place.STEP and (other := _OTHER_NAMES_OF.get(kind, {}).get(field)):
        return f"at `{other}`"
    named = _OTHER_NAMES.get(field) if place in {Place.FLOW, Place.STEP} else None
    if kind == _OF_START_POINT.kind and field in _SCHEDULES:
        named = _OF_START_POINT
    if named is not None and named.kind in {"", kind}:
        return _written(named, field, place, kind)
    homes = [home for home in _HOMES if field in home.fields]
    for home in sorted(homes, key=lambda home: home.kind not in {"", kind}):
        if (where := _written(home, field, place, kind)) is not None:
            return where
    return None


def _written(home: _Home, field: str, place: Place, kind: str) -> str | None:
    if home.of_flow:
        written = home.of_flow.format(field=field)
        if place is Place.DEFAULTS:
            return f"at the top of the flow: `{written}`"
        if place is Place.FLOW:
            return f"at `{written}`" if written != field else None
        return f"at the top of the flow: `{written}`"
    written = home.of_step.format(field=field)
    if place in {Place.STEP, Place.IN_STEP} and home.kind in {"", kind}:
        if written == field and place is Place.STEP:
            return None
        return f"at `{written}`" if place is Place.STEP else f"at `{written}` of the step"
    return f"in a step of type {home.kind}: `{written}`" if home.kind else f"in a step: `{written}`"
