"""Declarative, massively parallel Allma flows on Apache Airflow.

The names in ``__all__`` are the public API, described in ``docs/api.md``: they change only with a new major
version (before 1.0, a new minor version). Everything else may change at any time.

Names are imported when they are first used, so ``import airflow_allma`` imports neither Airflow nor boto3.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_allma.dag_factory import load_flows, report_problems
    from airflow_allma.engine.module_call import ModuleCall
    from airflow_allma.exceptions import (
        AllmaError,
        ContentBasedRetryableError,
        ExpressionError,
        ExpressionEvaluationError,
        ExpressionSyntaxError,
        FlowError,
        InspectionError,
        ItemNotFoundError,
        NotifierError,
        ObjectAccessDeniedError,
        ObjectChangedError,
        ObjectDecodeError,
        ObjectNotFoundError,
        ParallelBranchExecutionError,
        PermanentStepError,
        PollingFailedError,
        SecretError,
        SecretNotFoundError,
        SecretUnavailableError,
        StepError,
        StepLostError,
        StepTimeoutError,
        StorageConfigurationError,
        StorageError,
        StorageUnavailableError,
        SubFlowError,
        TransientStepError,
        WaitTimeoutError,
        WorkLimitError,
    )
    from airflow_allma.operators import ChunkWriter, S3ManifestOperator, chunk_items, join_chunks

__version__ = "0.2.0"

__all__ = [
    "AllmaError",
    "ChunkWriter",
    "ContentBasedRetryableError",
    "ExpressionError",
    "ExpressionEvaluationError",
    "ExpressionSyntaxError",
    "FlowError",
    "InspectionError",
    "ItemNotFoundError",
    "ModuleCall",
    "NotifierError",
    "ObjectAccessDeniedError",
    "ObjectChangedError",
    "ObjectDecodeError",
    "ObjectNotFoundError",
    "ParallelBranchExecutionError",
    "PermanentStepError",
    "PollingFailedError",
    "S3ManifestOperator",
    "SecretError",
    "SecretNotFoundError",
    "SecretUnavailableError",
    "StepError",
    "StepLostError",
    "StepTimeoutError",
    "StorageConfigurationError",
    "StorageError",
    "StorageUnavailableError",
    "SubFlowError",
    "TransientStepError",
    "WaitTimeoutError",
    "WorkLimitError",
    "__version__",
    "chunk_items",
    "join_chunks",
    "load_flows",
    "report_problems",
]

_MODULES = {
    "ChunkWriter": "operators",
    "ModuleCall": "engine.module_call",
    "S3ManifestOperator": "operators",
    "chunk_items": "operators",
    "join_chunks": "operators",
    "load_flows": "dag_factory",
    "report_problems": "dag_factory",
}
"""Public name -> the module that has it; names that are missing here are errors of ``exceptions``."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'exceptions')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
