"""System modules: the table of what a module step can name.

Transformations are pure functions. Modules that load or save wait for a store or for AWS, and run in threads.
"""

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
from airflow_allma.engine.modules.date_time import (
    DateTimeCalculatorInput,
    GenerateUuidInput,
    calculate_date_time,
    compose_object,
    generate_uuid,
)
from airflow_allma.engine.modules.definition import Module, ModuleContext, validate_input
from airflow_allma.engine.modules.dynamodb_export import ManifestInput, write_manifest
from airflow_allma.engine.modules.dynamodb_load import DynamoDbLoaderInput, load_from_dynamodb
from airflow_allma.engine.modules.join_data import JoinDataInput, join_data
from airflow_allma.engine.modules.s3_load import S3ListFilesInput, S3LoaderInput, list_files, load_object
from airflow_allma.engine.modules.s3_save import S3SaverInput, save_object
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import StepType

__all__ = ["MODULES", "Module", "ModuleContext", "module_problem", "run_module"]

_LOAD: Final = frozenset({StepType.DATA_LOAD})
# A load step may name a saver or a transformation too: flows written so are in use.
_SAVE: Final = frozenset({StepType.DATA_SAVE, StepType.DATA_LOAD})
_TRANSFORM_OR_LOAD: Final = frozenset({StepType.DATA_TRANSFORMATION, StepType.DATA_LOAD})
_TRANSFORM: Final = frozenset({StepType.DATA_TRANSFORMATION})

_ALL: Final = (
    Module("system/ddb-query-to-s3-manifest", _LOAD, ManifestInput, write_manifest, blocking=True),
    Module("system/dynamodb-data-loader", _LOAD, DynamoDbLoaderInput, load_from_dynamodb, blocking=True),
    Module("system/s3-data-loader", _LOAD, S3LoaderInput, load_object, blocking=True),
    Module("system/s3-list-files", _LOAD, S3ListFilesInput, list_files, blocking=True),
    Module(
        "system/s3-data-saver",
        _SAVE,
        S3SaverInput,
        save_object,
        blocking=True,
        templated_keys=frozenset({"metadataTemplate"}),
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
"""Identifier -> module, for all modules that run."""

_PREFIX: Final = "system/"

_NOT_YET: Final = frozenset(
    {
        "system/dynamodb-query-and-update",
        "system/dynamodb-update-item",
        "system/email-send",
        "system/file-download",
        "system/sns-publish",
        "system/sqs-get-queue-attributes",
        "system/sqs-receive-messages",
        "system/sqs-send",
        "system/start-flow-execution",
    }
)

_STEP_TYPE_IDS: Final[Mapping[str, StepType]] = MappingProxyType(
    {
        "system/api-call": StepType.API_CALL,
        "system/custom-lambda-invoke": StepType.CUSTOM_LAMBDA_INVOKE,
        "system/email-start-point": StepType.EMAIL_START_POINT,
        "system/llm-invocation": StepType.LLM_INVOCATION,
        "system/mcp-call": StepType.MCP_CALL,
        "system/noop": StepType.NO_OP,
        "system/parallel-fork-manager": StepType.PARALLEL_FORK_MANAGER,
        "system/poll-external-api": StepType.POLL_EXTERNAL_API,
        "system/schedule-start-point": StepType.SCHEDULE_START_POINT,
        "system/start-sub-flow": StepType.START_SUB_FLOW,
        "system/wait-for-external-event": StepType.WAIT_FOR_EXTERNAL_EVENT,
    }
)


def run_module(identifier: str, inputs: Mapping[str, Any], context: ModuleContext | None = None) -> Any:
    """Run one module.

    Args:
        identifier: a key of ``MODULES``.
        inputs: the step's effective input, an object; not changed, though a module without an input model may
            give this very object back.
        context: for modules that block; absent: one without store and clients.

    Returns:
        The module's output; an object, perhaps with ``_meta``.

    Raises:
        StepError: the input does not fit, or the module failed.
    """
    module = MODULES.get(identifier)
    if module is None:
        raise PermanentStepError(_unknown(identifier))
    checked = validate_input(module, inputs)
    if module.blocking:
        return module.function(checked, context or ModuleContext())
    return module.function(checked)


def module_problem(step_type: str, identifier: str) -> str | None:
    """Why a step of this type cannot name this module, and how to mend it, in a sentence; None if it can."""
    module = MODULES.get(identifier)
    if module is None:
        return _unknown(identifier)
    if step_type in module.step_types:
        return None
    own = next(kind for kind in _DOCUMENTED_TYPES if kind in module.step_types)
    return f"module {identifier!r} cannot run in a {step_type} step; set stepType to {own.value}"


_DOCUMENTED_TYPES: Final = (StepType.DATA_TRANSFORMATION, StepType.DATA_SAVE, StepType.DATA_LOAD)


def _unknown(identifier: str) -> str:
    if not identifier:
        return f"moduleIdentifier is missing; known modules: {', '.join(sorted(MODULES))}"
    if identifier in _NOT_YET:
        return f"module {identifier!r} is not supported yet"
    kind = _STEP_TYPE_IDS.get(identifier)
    if kind is not None:
        return f"{identifier!r} is no module; set stepType to {kind.value} and take moduleIdentifier out"
    close = nearest(identifier, MODULES)
    if close:
        return f"module {identifier!r} does not exist; did you mean {close!r}?"
    if not identifier.startswith(_PREFIX):
        return f"module {identifier!r} lies outside of system/; modules of your own are not supported yet"
    return f"module {identifier!r} does not exist; known modules: {', '.join(sorted(MODULES))}"
