"""What a system module is, and the validation of its input."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from airflow_allma.common.aws_clients import AwsClients
from airflow_allma.engine.outside_calls import OutsideCalls
from airflow_allma.engine.services import EngineSettings
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import StepType
from airflow_allma.flow.diagnostics import json_path
from airflow_allma.storage import ObjectStore

__all__ = [
    "JsonInt",
    "Module",
    "ModuleContext",
    "ModuleInput",
    "describe_error",
    "validate_input",
]

_MAX_PROBLEMS: Final = 10


def _whole_number(value: Any) -> Any:
    # JSON has a single number type: 3.0 is as valid a count as 3.
    return int(value) if isinstance(value, float) and value.is_integer() else value


JsonInt = Annotated[int, BeforeValidator(_whole_number)]
"""A whole JSON number; strings and booleans are rejected."""


class ModuleInput(BaseModel):
    """The input of a module. Unknown keys are ignored, and values are not converted.

    Its validation is built for the flows that use the module, not when the package is imported.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        strict=True,
        defer_build=True,
    )


@dataclass(frozen=True, slots=True)
class ModuleContext:
    """What a module that does I/O can use.

    Attributes:
        store: objects in S3 or below a local folder; None: not configured.
        aws: boto3 clients; None: not configured.
        settings: the engine's limits.
        log: receives the module's log messages.
        calls: what the step does outside of the flow; calls by boto3 clients add themselves.
    """

    store: ObjectStore | None = None
    aws: AwsClients | None = None
    settings: EngineSettings = field(default_factory=EngineSettings)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("airflow_allma.engine"))
    calls: OutsideCalls = field(default_factory=OutsideCalls)

    def require_store(self) -> ObjectStore:
        """Return the store.

        Raises:
            PermanentStepError: no store is configured.
        """
        if self.store is None:
            raise PermanentStepError(
                "This step reads or writes objects, but no store is configured. Configure an AWS connection, "
                "or run with a local store."
            )
        return self.store

    def require_aws(self) -> AwsClients:
        """Return the AWS clients.

        Raises:
            PermanentStepError: no clients are configured.
        """
        if self.aws is None:
            raise PermanentStepError(
                "This step calls AWS, but no AWS credentials are configured. Configure an AWS connection, or "
                "run with the environment's credentials."
            )
        return self.aws


@dataclass(frozen=True, slots=True)
class Module:
    """A system module.

    Attributes:
        identifier: the name that flows use, such as ``system/flatten-array``.
        step_types: the step types that can use it.
        input_model: validates the input; None: ``function`` accepts any object, unvalidated.
        function: ``(input) -> output``, or ``(input, ModuleContext) -> output`` if the module is blocking.
            ``input`` is an ``input_model``, or the input object itself without a model. The output is an
            object; its ``_meta`` is for the log.
        blocking: whether it does I/O and must therefore run in a thread.
        has_side_effects: whether it can change something outside of the flow; only a blocking module can.
        templated_keys: members of ``customConfig`` whose keys are templates too; in others only values are.
    """

    identifier: str
    step_types: frozenset[StepType]
    input_model: type[ModuleInput] | None
    function: Callable[..., Any]
    blocking: bool = False
    has_side_effects: bool = False
    templated_keys: frozenset[str] = frozenset()


def validate_input(module: Module, inputs: Mapping[str, Any]) -> Any:
    """Return the input as the module's input model, or unchanged if the module has none.

    Raises:
        PermanentStepError: the input is invalid. The message names the module and every invalid field, and
            how to fix it. It omits the values, as they could be secrets.
    """
    if module.input_model is None:
        return inputs
    try:
        return module.input_model.model_validate(dict(inputs))
    except ValidationError as error:
        problems = [
            {"path": json_path(detail["loc"]), "problem": describe_error(detail)}
            for detail in error.errors(include_url=False, include_context=False)
        ][:_MAX_PROBLEMS]
    summary = "; ".join(f"{problem['path']}: {problem['problem']}" for problem in problems)
    raise PermanentStepError(
        f"The input of {module.identifier} is invalid: {summary}. Set these fields in customConfig, literals "
        "or inputMappings of the step.",
        details={"moduleIdentifier": module.identifier, "problems": problems},
    )


_TYPE_ERRORS: Final = frozenset({"int_type", "float_type", "bool_type", "list_type", "dict_type"})


def describe_error(detail: Any) -> str:
    """Return what is wrong with a field, without its value.

    Args:
        detail: one of pydantic's errors.
    """
    kind, value = detail["type"], detail.get("input")
    if kind == "missing":
        return "is missing"
    if kind in {"model_type", "model_attributes_type"} and value is not None:
        return "must be an object, { ... }"
    message: str = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if value is None:
        return f"{message}, but it is null"
    if isinstance(value, str) and kind in _TYPE_ERRORS:
        return (
            f"{message}, but it is a string. A template always renders to a string; "
            "a JSONPath alone keeps the type"
        )
    return message
