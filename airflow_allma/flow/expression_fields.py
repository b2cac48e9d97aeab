"""The fields of a flow that contain expressions: the kind of each, and what its names begin at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Any, Final

from airflow_allma.flow.tree_walk import LocatedStep, Pattern

__all__ = [
    "FLOW_FIELDS",
    "FieldRow",
    "Kind",
    "Root",
    "RowsByField",
    "fields_with_expressions",
    "is_computed",
    "step_fields",
]


class Kind(IntEnum):
    """What a field contains. Its members are keys of tables, and integers have a fast hash."""

    PATH = auto()
    """A JSONPath."""
    SOURCE = auto()
    """A JSONPath from which a value is copied; people often write the value itself there."""
    CONDITION = auto()
    TEMPLATE = auto()
    PATH_OR_TEMPLATE = auto()
    """A JSONPath if it starts with ``$``, otherwise a template."""
    RENDERED = auto()
    """Any value; each string in it is a template, or a JSONPath if it starts with ``$.``."""
    TARGETS = auto()
    """An object whose KEYS are dotted paths."""
    PATH_KEYS = auto()
    """An object whose KEYS are JSONPaths."""
    TEXT = auto()
    """Not a kind of field: a string with a brace where a template can be, which is used as it is."""


class Root(Enum):
    """What the names in an expression begin at."""

    CONTEXT = auto()
    """The data of the run, and the step's own input."""
    OUTPUT = auto()
    """The step's output, then its input."""
    VARIABLES = auto()
    """The flow variables alone."""
    OTHER = auto()
    """An item, or the body of a response."""


@dataclass(frozen=True, slots=True)
class FieldRow:
    """Where expressions are.

    Attributes:
        kind: what the values contain.
        pattern: where the values are: in the tables below from the step or the flow, in ``RowsByField`` from
            its field.
        root: where the names begin.
    """

    kind: Kind
    pattern: Pattern
    root: Root = Root.CONTEXT


def _rows(kind: Kind, *patterns: str, root: Root = Root.CONTEXT) -> tuple[FieldRow, ...]:
    return tuple(FieldRow(kind, tuple(pattern.split(".")), root) for pattern in patterns)


def _variables(*fields: str) -> tuple[FieldRow, ...]:
    """Return the rows of maps of variable -> {sourceJsonPath, itemTemplate, ...}."""
    return (
        *_rows(Kind.SOURCE, *(f"{field}.*.sourceJsonPath" for field in fields)),
        *_rows(Kind.TEMPLATE, *(f"{field}.*.itemTemplate" for field in fields), root=Root.OTHER),
    )


def _mappings(*fields: str) -> tuple[FieldRow, ...]:
    """Return the rows of maps of dotted path <- JSONPath."""
    return (*_rows(Kind.TARGETS, *fields), *_rows(Kind.SOURCE, *(f"{field}.*" for field in fields)))


def _api_call(prefix: str = "") -> tuple[FieldRow, ...]:
    return (
        *_rows(Kind.TEMPLATE, f"{prefix}apiUrlTemplate.template"),
        *_variables(f"{prefix}apiUrlTemplate.contextMappings", f"{prefix}requestBodyTemplate"),
        *_rows(Kind.PATH_OR_TEMPLATE, f"{prefix}apiHeadersTemplate.*"),
    )


_EVERY_STEP = (
    *_mappings("inputMappings"),
    *_rows(Kind.TARGETS, "literals"),
    *_rows(Kind.RENDERED, "literals"),
    *_rows(Kind.PATH_KEYS, "outputMappings"),
    *_rows(Kind.SOURCE, "outputMappings.*", root=Root.OUTPUT),
    *_rows(Kind.PATH, "outputValidation.requiredFields.*", root=Root.OUTPUT),
    *_rows(Kind.CONDITION, "transitions.*.condition"),
)
_RENDERED_CONFIG = _rows(Kind.RENDERED, "customConfig")

_BY_TYPE: dict[str, tuple[FieldRow, ...]] = {
    "API_CALL": (*_api_call(), *_RENDERED_CONFIG, *_rows(Kind.PATH, "customConfig.requestBodyPath")),
    "CUSTOM_LAMBDA_INVOKE": (
        *_rows(Kind.TEMPLATE, "lambdaFunctionArnTemplate"),
        *_rows(Kind.SOURCE, "payloadTemplate.*"),
        *_RENDERED_CONFIG,
    ),
    "CUSTOM_LOGIC": _RENDERED_CONFIG,
    "DATA_LOAD": _RENDERED_CONFIG,
    "DATA_SAVE": _RENDERED_CONFIG,
    "DATA_TRANSFORMATION": _RENDERED_CONFIG,
    "EMAIL": (
        *_rows(
            Kind.RENDERED,
            *(
                "from",
                "fromName",
                "subject",
                "body",
                "to",
                "cc",
                "bcc",
                "replyTo",
                "customHeaders",
                "attachments",
            ),
        ),
        *_rows(Kind.PATH, "attachmentsPath"),
    ),
    "EMAIL_START_POINT": _rows(Kind.TEMPLATE, "emailAddress"),
    "FILE_DOWNLOAD": (
        *_rows(Kind.TEMPLATE, "sourceUrlTemplate", "destinationKeyTemplate"),
        *_rows(Kind.PATH_OR_TEMPLATE, "headersTemplate.*"),
    ),
    "LLM_INVOCATION": (
        *_rows(Kind.RENDERED, "llmProvider", "modelId", "fallbacks"),
        *_rows(Kind.TEMPLATE, "directPrompt"),
        *_variables("templateContextMappings"),
        *_rows(Kind.PATH, "mediaAttachmentsPath", "toolsPath", "fallbacks.*.toolsPath"),
        *_RENDERED_CONFIG,
    ),
    "PARALLEL_FORK_MANAGER": (
        *_rows(
            Kind.PATH,
            "itemsPath",
            "itemReader.maxItems",
            "itemBatcher.maxItemsPerBatch",
            "itemBatcher.maxBytesPerBatch",
            "aggregationConfig.maxConcurrency",
            "aggregationConfig.toleratedFailurePercentage",
            "aggregationConfig.toleratedFailureCount",
        ),
        *_rows(
            Kind.PATH, "aggregationConfig.dataPath", "itemLabelPath", "itemReader.itemsAt", root=Root.OTHER
        ),
        *_rows(Kind.RENDERED, "itemBatcher.batchInput"),
        *_rows(Kind.CONDITION, "parallelBranches.*.condition"),
        *_mappings("parallelBranches.*.inputMappings", "parallelBranches.*.inputMappingsToSubFlow"),
        *_rows(Kind.TARGETS, "parallelBranches.*.literals"),
        *_rows(Kind.RENDERED, "parallelBranches.*.literals"),
    ),
    "POLL_EXTERNAL_API": (
        *_api_call("apiCallDefinition."),
        *_RENDERED_CONFIG,
        *_rows(Kind.PATH, "customConfig.requestBodyPath"),
        *_rows(Kind.CONDITION, "exitConditions.*", root=Root.OTHER),
    ),
    "SCHEDULE_START_POINT": (
        *_rows(Kind.TEMPLATE, "scheduleExpression", root=Root.VARIABLES),
        *_rows(Kind.RENDERED, "payloadTemplate", root=Root.VARIABLES),
    ),
    "SNS_PUBLISH": _RENDERED_CONFIG,
    "SQS_SEND": _RENDERED_CONFIG,
    "START_FLOW_EXECUTION": (*_rows(Kind.TEMPLATE, "flowDefinitionId", "flowVersion"), *_RENDERED_CONFIG),
    "START_SUB_FLOW": _mappings("inputMappingsToSubFlow"),
    "WAIT_FOR_EXTERNAL_EVENT": (
        *_rows(Kind.TEMPLATE, "correlationKeyTemplate"),
        *_rows(Kind.RENDERED, "promptUserMessageTemplate"),
    ),
}
_FLOW = (
    *_rows(Kind.CONDITION, "onCompletionActions.*.condition"),
    *_rows(
        Kind.SOURCE,
        *("onCompletionActions.*.payloadTemplate.*", "onCompletionActions.*.messageAttributesTemplate.*"),
    ),
    *_rows(Kind.RENDERED, "airflow.notify.*.args", "airflow.deadline.args", root=Root.OTHER),
    *_rows(Kind.RENDERED, "onCompletionActions.*.customConfig", "defaultStepConfig.defaultCustomConfig"),
)

RowsByField = Mapping[str, tuple[FieldRow, ...]]
"""First field on the way -> the rows below it."""


def _by_first_field(rows: Sequence[FieldRow]) -> RowsByField:
    grouped: dict[str, tuple[FieldRow, ...]] = {}
    for row in rows:
        first, rest = row.pattern[0], FieldRow(row.kind, row.pattern[1:], row.root)
        grouped[first] = (*grouped.get(first, ()), rest)
    return grouped


FLOW_FIELDS: Final = _by_first_field(_FLOW)
"""The fields of the flow itself."""

_EVERY_STEP_BY_FIELD = _by_first_field(_EVERY_STEP)
_BY_TYPE_AND_FIELD = {kind: _by_first_field((*_EVERY_STEP, *rows)) for kind, rows in _BY_TYPE.items()}


def fields_with_expressions(step_type: str | None) -> Iterator[tuple[Kind, Pattern]]:
    """Yield the fields of a step of a type that contain expressions, or those of a flow.

    Args:
        step_type: the type; None for the flow's own fields.
    """
    rows = _FLOW if step_type is None else (*_EVERY_STEP, *_BY_TYPE.get(step_type, ()))
    for row in rows:
        yield row.kind, row.pattern


def step_fields(located: LocatedStep) -> RowsByField:
    """Return the fields of a step that contain expressions."""
    return _BY_TYPE_AND_FIELD.get(located.kind, _EVERY_STEP_BY_FIELD)


def is_computed(value: Any) -> bool:
    """Return whether a value that is rendered has a template or a JSONPath in it, also in its keys."""
    if isinstance(value, str):
        return "{{" in value or value.startswith("$")
    if isinstance(value, dict):
        return any(is_computed(key) or is_computed(member) for key, member in value.items())
    return isinstance(value, list) and any(map(is_computed, value))
