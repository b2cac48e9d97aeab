"""Steps that run a module, steps without work of their own, and the download of a file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from airflow_allma.flow.model_base import HttpMethod, NonEmptyStr
from airflow_allma.flow.steps.step_base import HasConnection, Step, StepType

__all__ = [
    "CustomLambdaInvokeStep",
    "CustomLogicStep",
    "DataLoadStep",
    "DataSaveStep",
    "DataTransformationStep",
    "EndFlowStep",
    "FileDownloadStep",
    "NoOpStep",
]


class NoOpStep(Step):
    """Passes its input on; paths can join here."""

    step_type: Literal[StepType.NO_OP]


class EndFlowStep(Step):
    """Ends the path: the run on the main path, the branch run in a branch."""

    step_type: Literal[StepType.END_FLOW]


class CustomLogicStep(Step):
    """Runs the user's own code, named by a module id."""

    step_type: Literal[StepType.CUSTOM_LOGIC]
    module_identifier: Annotated[NonEmptyStr, Field(description="The id of the user's own module.")]


class CustomLambdaInvokeStep(Step):
    """Calls one AWS Lambda function and waits for its answer."""

    step_type: Literal[StepType.CUSTOM_LAMBDA_INVOKE]
    lambda_function_arn_template: Annotated[
        NonEmptyStr, Field(description="Name or ARN of the function; a template.")
    ]
    payload_template: Annotated[
        dict[str, str] | None, Field(description="Name in the payload <- JSONPath; absent: the whole input.")
    ] = None


class DataLoadStep(Step):
    """Reads data with a module."""

    step_type: Literal[StepType.DATA_LOAD]
    module_identifier: Annotated[NonEmptyStr, Field(description="For example: system/s3-data-loader")]


class DataSaveStep(Step):
    """Writes data with a module."""

    step_type: Literal[StepType.DATA_SAVE]
    module_identifier: Annotated[NonEmptyStr, Field(description="For example: system/s3-data-saver")]


class DataTransformationStep(Step):
    """Computes data from data with a module."""

    step_type: Literal[StepType.DATA_TRANSFORMATION]
    module_identifier: Annotated[
        NonEmptyStr, Field(description="For example: system/compose-object-from-input")
    ]


class FileDownloadStep(HasConnection, Step):
    """Streams a URL into an S3 object."""

    step_type: Literal[StepType.FILE_DOWNLOAD]
    source_url_template: Annotated[NonEmptyStr, Field(description="The URL; a template.")]
    method: Annotated[HttpMethod, Field(description="HTTP method.")] = HttpMethod.GET
    headers_template: Annotated[
        dict[str, str],
        Field(
            default_factory=dict, description="Header <- JSONPath if it starts with $, otherwise a template."
        ),
    ]
    destination_bucket: Annotated[
        str | None, Field(description="S3 bucket; absent: that of the offload location.")
    ] = None
    destination_key_template: Annotated[str | None, Field(description="S3 key; a template.")] = None
