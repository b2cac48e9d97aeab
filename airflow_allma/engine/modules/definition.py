"""What a system module is, and how its input is checked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from airflow_allma.common.aws_clients import AwsClients
from airflow_allma.engine.services import EngineSettings
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import StepType
from airflow_allma.storage import ObjectStore

__all__ = [
    "JsonInt",
    "Module",
    "ModuleContext",
    "ModuleInput",
    "validate_input",
]

_MOST_PROBLEMS: Final = 10


def _whole_number(value: Any) -> Any:
    # JSON knows one kind of number: 3.0 is a count as good as 3.
    return int(value) if isinstance(value, float) and value.is_integer() else value


JsonInt = Annotated[int, BeforeValidator(_whole_number)]
"""A whole JSON number; text and booleans are not numbers."""


class ModuleInput(BaseModel):
    """A module's input. Keys that the module does not know are left alone; nothing is converted."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, strict=True
    )


@dataclass(frozen=True, slots=True)
class ModuleContext:
    """What a module that works outside of the process gets.

    Attributes:
        store: objects in S3 or below a local folder; None when none is configured.
        aws: boto3 clients; None when none are configured.
        settings: the engine's limits.
        log: where remarks go.
    """

    store: ObjectStore | None = None
    aws: AwsClients | None = None
    settings: EngineSettings = field(default_factory=EngineSettings)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("airflow_allma.engine"))

    def require_store(self) -> ObjectStore:
        """The store.

        Raises:
            PermanentStepError: none is configured.
        """
        if self.store is None:
            raise PermanentStepError(
                "This step reads or writes objects, but there is no store. Configure an AWS connection, or "
                "run with a local store."
            )
        return self.store

    def require_aws(self) -> AwsClients:
        """The AWS clients.

        Raises:
            PermanentStepError: none are configured.
        """
        if self.aws is None:
            raise PermanentStepError(
                "This step calls AWS, but there are no AWS credentials. Configure an AWS connection, or run "
                "with the environment's credentials."
            )
        return self.aws


@dataclass(frozen=True, slots=True)
class Module:
    """One system module.

    Attributes:
        identifier: as flows name it, such as ``system/flatten-array``.
        step_types: the step types that may name it.
        input_model: checks the input; None: any object will do, and ``function`` takes it as it is.
        function: ``(input) -> output``; of a blocking module ``(input, ModuleContext) -> output``. ``input``
            is an ``input_model``, or the input object itself when there is none. The output is an object; its
            ``_meta`` is for the log.
        blocking: whether it waits for something outside of the process, so that it must run in a thread.
        templated_keys: members of ``customConfig`` whose keys are templates too; elsewhere only values are.
    """

    identifier: str
    step_types: frozenset[StepType]
    input_model: type[ModuleInput] | None
    function: Callable[..., Any]
    blocking: bool = False
    templated_keys: frozenset[str] = frozenset()


def validate_input(module: Module, inputs: Mapping[str, Any]) -> Any:
    """The checked input of a module.

    Raises:
        PermanentStepError: it does not fit; names the module and every field that is wrong, and how to mend
            it. The values themselves are left out, as they may be secrets.
    """
    if module.input_model is None:
        return inputs
    try:
        return module.input_model.model_validate(dict(inputs))
    except ValidationError as error:
        problems = [
            {"path": _json_path(found["loc"]), "problem": _problem(found)}
            for found in error.errors(include_url=False, include_context=False)
        ]
    shown = "; ".join(f"{found['path']}: {found['problem']}" for found in problems[:_MOST_PROBLEMS])
    raise PermanentStepError(
        f"The input of {module.identifier} does not fit: {shown}. Give these fields in customConfig, "
        "literals or inputMappings of the step.",
        details={"moduleIdentifier": module.identifier, "problems": problems[:_MOST_PROBLEMS]},
    )


def _problem(found: Any) -> str:
    """One sentence without the value."""
    kind, value = found["type"], found.get("input")
    if kind == "missing":
        return "is missing"
    text: str = found["msg"].removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    if isinstance(value, str) and kind in {"int_type", "float_type", "bool_type", "list_type", "dict_type"}:
        return f"{text}, but it is text. A template always gives text; a JSONPath alone keeps the type"
    return text if value is not None else f"{text}, but it is null"


def _json_path(location: tuple[int | str, ...]) -> str:
    path = "$"
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.replace("_", "a").isalnum():
            path += f".{part}"
        else:
            path += f"[{part!r}]"
    return path
