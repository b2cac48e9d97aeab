"""The table of system modules that a module step can name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from airflow_allma.common.nearest import nearest
from airflow_allma.engine.modules.arrays import (
    ArrayAggregatorInput,
    FlattenArrayInput,
    GenerateArrayInput,
    aggregate_array,
    flatten_array,
    generate_array,
)
from airflow_allma.engine.modules.compose_object import compose_object
from airflow_allma.engine.modules.date_time import DateTimeCalculatorInput, calculate_date_time
from airflow_allma.engine.modules.definition import Module, ModuleContext, validate_input
from airflow_allma.engine.modules.dynamodb_claim import QueryAndUpdateInput, query_and_update
from airflow_allma.engine.modules.dynamodb_export import ExportInput, export_query
from airflow_allma.engine.modules.dynamodb_load import DynamoDbLoaderInput, load_from_dynamodb
from airflow_allma.engine.modules.dynamodb_update import UpdateItemInput, update_item
from airflow_allma.engine.modules.generate_uuid import GenerateUuidInput, generate_uuid
from airflow_allma.engine.modules.join_data import JoinDataInput, join_data
from airflow_allma.engine.modules.s3_list import S3ListFilesInput, list_files
from airflow_allma.engine.modules.s3_load import S3LoaderInput, load_object
from airflow_allma.engine.modules.s3_save import S3SaverInput, save_object
from airflow_allma.engine.modules.sns_publish import SnsPublishInput, publish_to_topic
from airflow_allma.engine.modules.sqs_attributes import SqsAttributesInput, get_queue_attributes
from airflow_allma.engine.modules.sqs_receive import SqsReceiveInput, receive_messages
from airflow_allma.engine.modules.sqs_send import SqsSendInput, send_to_queue
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import StepType

__all__ = ["MODULES", "module_problem", "run_module"]

_LOAD: Final = frozenset({StepType.DATA_LOAD})
# Flows in production use savers and transformations in load steps too.
_SAVE: Final = frozenset({StepType.DATA_SAVE, StepType.DATA_LOAD})
_TRANSFORM_OR_LOAD: Final = frozenset({StepType.DATA_TRANSFORMATION, StepType.DATA_LOAD})
_TRANSFORM: Final = frozenset({StepType.DATA_TRANSFORMATION})

_ALL: Final = (
    Module("system/ddb-query-to-s3-manifest", _LOAD, ExportInput, export_query, blocking=True),
    Module("system/dynamodb-data-loader", _LOAD, DynamoDbLoaderInput, load_from_dynamodb, blocking=True),
    Module("system/s3-data-loader", _LOAD, S3LoaderInput, load_object, blocking=True),
    Module("system/s3-list-files", _LOAD, S3ListFilesInput, list_files, blocking=True),
    Module(
        "system/s3-data-saver",
        _SAVE,
        S3SaverInput,
        save_object,
        blocking=True,
        has_side_effects=True,
        templated_keys=frozenset({"metadataTemplate"}),
    ),
    Module(
        "system/dynamodb-query-and-update",
        _SAVE,
        QueryAndUpdateInput,
        query_and_update,
        blocking=True,
        has_side_effects=True,
    ),
    Module(
        "system/dynamodb-update-item",
        _SAVE,
        UpdateItemInput,
        update_item,
        blocking=True,
        has_side_effects=True,
    ),
    Module("system/sqs-get-queue-attributes", _LOAD, SqsAttributesInput, get_queue_attributes, blocking=True),
    # Received messages are hidden from others for a while, also if they are not deleted.
    Module(
        "system/sqs-receive-messages",
        _LOAD,
        SqsReceiveInput,
        receive_messages,
        blocking=True,
        has_side_effects=True,
    ),
    Module(
        "system/sqs-send",
        frozenset({StepType.SQS_SEND}),
        SqsSendInput,
        send_to_queue,
        blocking=True,
        has_side_effects=True,
    ),
    Module(
        "system/sns-publish",
        frozenset({StepType.SNS_PUBLISH}),
        SnsPublishInput,
        publish_to_topic,
        blocking=True,
        has_side_effects=True,
    ),
    Module("system/array-aggregator", _TRANSFORM_OR_LOAD, ArrayAggregatorInput, aggregate_array),
    Module("system/compose-object-from-input", _TRANSFORM_OR_LOAD, None, compose_object),
    Module("system/date-time-calculator", _TRANSFORM_OR_LOAD, DateTimeCalculatorInput, calculate_date_time),
    Module("system/flatten-array", _TRANSFORM_OR_LOAD, FlattenArrayInput, flatten_array),
    Module("system/generate-array", _TRANSFORM_OR_LOAD, GenerateArrayInput, generate_array),
    Module("system/generate-uuid", _TRANSFORM, GenerateUuidInput, generate_uuid),
    Module("system/join-data", _TRANSFORM, JoinDataInput, join_data),
)

MODULES: Final[Mapping[str, Module]] = MappingProxyType({module.identifier: module for module in _ALL})
"""Identifier -> module, for all supported modules."""

_STEP_TYPE_IDS: Final[Mapping[str, StepType]] = MappingProxyType(
    {
        "system/api-call": StepType.API_CALL,
        "system/custom-lambda-invoke": StepType.CUSTOM_LAMBDA_INVOKE,
        "system/email-send": StepType.EMAIL,
        "system/email-start-point": StepType.EMAIL_START_POINT,
        "system/file-download": StepType.FILE_DOWNLOAD,
        "system/llm-invocation": StepType.LLM_INVOCATION,
        "system/mcp-call": StepType.MCP_CALL,
        "system/noop": StepType.NO_OP,
        "system/parallel-fork-manager": StepType.PARALLEL_FORK_MANAGER,
        "system/poll-external-api": StepType.POLL_EXTERNAL_API,
        "system/schedule-start-point": StepType.SCHEDULE_START_POINT,
        "system/start-flow-execution": StepType.START_FLOW_EXECUTION,
        "system/start-sub-flow": StepType.START_SUB_FLOW,
        "system/wait-for-external-event": StepType.WAIT_FOR_EXTERNAL_EVENT,
    }
)

_PREFERRED_TYPES: Final = (
    StepType.DATA_TRANSFORMATION,
    StepType.DATA_SAVE,
    StepType.DATA_LOAD,
    StepType.SQS_SEND,
    StepType.SNS_PUBLISH,
)


def run_module(identifier: str, inputs: Mapping[str, Any], context: ModuleContext | None = None) -> Any:
    """Run a module.

    Args:
        identifier: a key of ``MODULES``.
        inputs: the step's effective input, an object. It is not changed, but a module without an input model
            can return the same object.
        context: for modules that block; None: a context without store and clients.

    Returns:
        The module's output: an object, which can have ``_meta``.

    Raises:
        StepError: the input is invalid, or the module failed.
    """
    module = MODULES.get(identifier)
    if module is None:
        raise PermanentStepError(_unknown_module(identifier))
    validated = validate_input(module, inputs)
    if module.blocking:
        return module.function(validated, context or ModuleContext())
    return module.function(validated)


def module_problem(step_type: str, identifier: str) -> str | None:
    """Return why a step of this type cannot use this module, and how to fix it; None if it can."""
    module = MODULES.get(identifier)
    if module is None:
        return _unknown_module(identifier)
    if step_type in module.step_types:
        return None
    preferred = next(kind for kind in _PREFERRED_TYPES if kind in module.step_types)
    return f"module {identifier!r} cannot run in a {step_type} step; set stepType to {preferred.value}"


def _unknown_module(identifier: str) -> str:
    if not identifier:
        return f"moduleIdentifier is missing; known modules: {', '.join(sorted(MODULES))}"
    step_type = _STEP_TYPE_IDS.get(identifier)
    if step_type is not None:
        return (
            f"{identifier!r} is not a module; set stepType to {step_type.value} and remove moduleIdentifier"
        )
    similar = nearest(identifier, MODULES)
    if similar is not None:
        return f"module {identifier!r} does not exist; did you mean {similar!r}?"
    return f"module {identifier!r} does not exist; known modules: {', '.join(sorted(MODULES))}"
