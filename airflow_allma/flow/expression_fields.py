"""The fields of a flow that contain expressions: the kind of each, what it reads, whether it can be parsed.

Another package parses the expressions: the caller passes it as ``ExpressionChecks``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.flow.checks import ExpressionChecks
from airflow_allma.flow.diagnostics import Diagnostic, Path, quoted
from airflow_allma.flow.tree_walk import ANY, LocatedStep, Pattern, Scope, select

__all__ = [
    "Expression",
    "Kind",
    "Root",
    "check_expressions",
    "check_template",
    "expressions_of",
    "fields_with_expressions",
]


class Kind(Enum):
    """What a field contains."""

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
class Expression:
    """One expression of a flow.

    Attributes:
        kind: PATH, CONDITION or TEMPLATE; TARGETS for one key that is a dotted path, PATH_KEYS for one key
            that is a JSONPath.
        source: the expression.
        path: where it is.
        root: where its names begin.
        field: the field of the step, or of the flow, that contains it.
        step: the step that contains it; None for a field of the flow.
    """

    kind: Kind
    source: str
    path: Path
    root: Root
    field: str
    step: LocatedStep | None


@dataclass(frozen=True, slots=True)
class _Row:
    kind: Kind
    pattern: Pattern
    root: Root = Root.CONTEXT


def _rows(kind: Kind, *patterns: str, root: Root = Root.CONTEXT) -> tuple[_Row, ...]:
    return tuple(_Row(kind, tuple(pattern.split(".")), root) for pattern in patterns)


def _variables(*fields: str) -> tuple[_Row, ...]:
    """Return the rows of maps of variable -> {sourceJsonPath, itemTemplate, ...}."""
    return (
        *_rows(Kind.SOURCE, *(f"{field}.*.sourceJsonPath" for field in fields)),
        *_rows(Kind.TEMPLATE, *(f"{field}.*.itemTemplate" for field in fields), root=Root.OTHER),
    )


def _mappings(*fields: str) -> tuple[_Row, ...]:
    """Return the rows of maps of dotted path <- JSONPath."""
    return (*_rows(Kind.TARGETS, *fields), *_rows(Kind.SOURCE, *(f"{field}.*" for field in fields)))


def _api_call(prefix: str = "") -> tuple[_Row, ...]:
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

_BY_TYPE: dict[str, tuple[_Row, ...]] = {
    "API_CALL": (*_api_call(), *_RENDERED_CONFIG, *_rows(Kind.PATH, "customConfig.requestBodyPath")),
    "CUSTOM_LAMBDA_INVOKE": (
        *_rows(Kind.TEMPLATE, "lambdaFunctionArnTemplate"),
        *_rows(Kind.SOURCE, "payloadTemplate.*"),
        *_RENDERED_CONFIG,
    ),
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
        *_rows(Kind.PATH, "itemsPath"),
        *_rows(Kind.PATH, "aggregationConfig.dataPath", "itemLabelPath", root=Root.OTHER),
        *_rows(Kind.CONDITION, "parallelBranches.*.condition"),
        *_mappings("parallelBranches.*.inputMappings", "parallelBranches.*.inputMappingsToSubFlow"),
        *_rows(Kind.TARGETS, "parallelBranches.*.literals"),
        *_rows(Kind.RENDERED, "parallelBranches.*.literals"),
    ),
    "POLL_EXTERNAL_API": (
        *_api_call("apiCallDefinition."),
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
    *_rows(Kind.RENDERED, "onCompletionActions.*.customConfig", "defaultStepConfig.defaultCustomConfig"),
)

_ByField = Mapping[str, tuple[_Row, ...]]
_HEADER_PATH = (Kind.PATH_OR_TEMPLATE, True)


def _by_first_field(rows: Sequence[_Row]) -> _ByField:
    grouped: dict[str, tuple[_Row, ...]] = {}
    for row in rows:
        grouped[row.pattern[0]] = (
            *grouped.get(row.pattern[0], ()),
            _Row(row.kind, row.pattern[1:], row.root),
        )
    return grouped


_EVERY_STEP_BY_FIELD = _by_first_field(_EVERY_STEP)
_BY_TYPE_AND_FIELD = {kind: _by_first_field((*_EVERY_STEP, *rows)) for kind, rows in _BY_TYPE.items()}
_FLOW_BY_FIELD = _by_first_field(_FLOW)

# Modules that are not the system's own get the customConfig of these types unrendered.
_SYSTEM_RENDERS = frozenset({"DATA_LOAD", "DATA_SAVE", "DATA_TRANSFORMATION"})


def fields_with_expressions(step_type: str | None) -> Iterator[tuple[Kind, Pattern]]:
    """Yield the fields of a step of a type that contain expressions, or those of a flow.

    Args:
        step_type: the type; None for the flow's own fields.
    """
    rows = _FLOW if step_type is None else (*_EVERY_STEP, *_BY_TYPE.get(step_type, ()))
    for row in rows:
        yield row.kind, row.pattern


def check_expressions(
    flow: Mapping[str, Any], all_scopes: Sequence[Scope], checks: ExpressionChecks
) -> Iterator[Diagnostic]:
    """Yield an error for each expression of a flow that cannot be parsed."""
    for row, value, path, _, _ in _fields(flow, all_scopes):
        yield from _CHECKS[row.kind](value, path, checks)


def expressions_of(flow: Mapping[str, Any], all_scopes: Sequence[Scope]) -> Iterator[Expression]:
    """Yield every expression of a flow, whether it can be parsed or not."""
    for row, value, path, field, step in _fields(flow, all_scopes):
        for kind, source, own_path in _parts(row.kind, value, path):
            yield Expression(kind, source, own_path, row.root, field, step)


def _parts(kind: Kind, value: Any, path: Path) -> Iterator[tuple[Kind, str, Path]]:
    """Yield the expressions in the value of one field."""
    if kind in {Kind.TARGETS, Kind.PATH_KEYS}:
        for key in value if isinstance(value, dict) else ():
            yield kind, key, (*path, key)
    elif isinstance(value, str):
        is_path = value.startswith("$")
        if kind is Kind.CONDITION:
            yield kind, value, path
        elif "{{" in value and not (kind in {Kind.PATH, Kind.SOURCE} or (kind, is_path) == _HEADER_PATH):
            yield Kind.TEMPLATE, value, path
        elif is_path and kind is not Kind.TEMPLATE and (kind is not Kind.RENDERED or value[1:2] == "."):
            yield Kind.PATH, value, path
    elif kind is Kind.RENDERED and isinstance(value, dict | list):
        for member_path, member in select(value, (ANY,), path):
            yield from _parts(kind, member, member_path)


def check_template(source: str, path: Path, checks: ExpressionChecks) -> Iterator[Diagnostic]:
    """Yield an error if a template cannot be parsed."""
    return _CHECKS[Kind.TEMPLATE](source, path, checks)


def _renders_config(located: LocatedStep) -> bool:
    module = located.step.get("moduleIdentifier")
    return located.kind not in _SYSTEM_RENDERS or not isinstance(module, str) or module.startswith("system/")


_Field = tuple[_Row, Any, Path, str, LocatedStep | None]


def _fields(flow: Mapping[str, Any], all_scopes: Sequence[Scope]) -> Iterator[_Field]:
    """Yield every value that the tables name: (row, value, path, first field, step)."""
    yield from _fields_of(flow, (), _FLOW_BY_FIELD, None)
    for scope in all_scopes:
        for located in scope.steps.values():
            table = _BY_TYPE_AND_FIELD.get(located.kind, _EVERY_STEP_BY_FIELD)
            step = located.step if _renders_config(located) else {**located.step, "customConfig": None}
            yield from _fields_of(step, located.path, table, located)


def _fields_of(
    value: Mapping[str, Any], path: Path, table: _ByField, step: LocatedStep | None
) -> Iterator[_Field]:
    for field, member in value.items():
        for row in table.get(field, ()):
            for match_path, match in select(member, row.pattern, (*path, field)):
                yield row, match, match_path, field, step


def _attempt(
    check: Callable[[str], object], source: str, kind: str, path: Path, *, show: bool
) -> Iterator[Diagnostic]:
    try:
        check(source)
    except ExpressionSyntaxError as error:
        position = f" (character {error.position + 1})" if error.position else ""
        subject = f"{quoted(source)} is not" if show else "not"
        yield Diagnostic(path, f"{subject} a valid {kind}{position}: {error.reason}")


def _path(value: Any, path: Path, checks: ExpressionChecks) -> Iterator[Diagnostic]:
    if not isinstance(value, str):
        return
    if not value.startswith("$"):
        yield Diagnostic(
            path, f"{quoted(value)} is not a JSONPath; a JSONPath starts with `$.`, for example `$.order.id`"
        )
        return
    yield from _attempt(checks.path, value, "JSONPath", path, show=True)


def _source(value: Any, path: Path, checks: ExpressionChecks) -> Iterator[Diagnostic]:
    if isinstance(value, str) and not value.startswith("$"):
        yield Diagnostic(
            path,
            f"{quoted(value)} is not a JSONPath; start it with `$.`, or use `literals` for a fixed value",
        )
        return
    yield from _path(value, path, checks)


def _condition(value: Any, path: Path, checks: ExpressionChecks) -> Iterator[Diagnostic]:
    if isinstance(value, str):
        yield from _attempt(checks.condition, value, "condition", path, show=True)


def _template(value: Any, path: Path, checks: ExpressionChecks) -> Iterator[Diagnostic]:
    # Messages do not show templates, which may contain secrets (a token in a header).
    if isinstance(value, str) and "{{" in value:
        yield from _attempt(checks.template, value, "template", path, show=False)


def _path_or_template(value: Any, path: Path, checks: ExpressionChecks) -> Iterator[Diagnostic]:
    check = _path if isinstance(value, str) and value.startswith("$") else _template
    yield from check(value, path, checks)


def _rendered(value: Any, path: Path, checks: ExpressionChecks) -> Iterator[Diagnostic]:
    if isinstance(value, str):
        if "{{" in value:
            kind = "JSONPath with templates" if value.startswith("$.") else "template"
            yield from _attempt(checks.rendered, value, kind, path, show=False)
        elif value.startswith("$."):
            yield from _path(value, path, checks)
    elif isinstance(value, dict | list):
        for member_path, member in select(value, (ANY,), path):
            yield from _rendered(member, member_path, checks)


def _targets(value: Any, path: Path, checks: ExpressionChecks) -> Iterator[Diagnostic]:
    for key in value if isinstance(value, dict) else ():
        for diagnostic in _attempt(checks.target, key, "path in the step's input", (*path, key), show=True):
            yield Diagnostic(diagnostic.path, diagnostic.message, at_key=True)


def _path_keys(value: Any, path: Path, checks: ExpressionChecks) -> Iterator[Diagnostic]:
    for key in value if isinstance(value, dict) else ():
        for diagnostic in _path(key, (*path, key), checks):
            yield Diagnostic(diagnostic.path, diagnostic.message, at_key=True)


_CHECKS: dict[Kind, Callable[[Any, Path, ExpressionChecks], Iterator[Diagnostic]]] = {
    Kind.PATH: _path,
    Kind.SOURCE: _source,
    Kind.CONDITION: _condition,
    Kind.TEMPLATE: _template,
    Kind.PATH_OR_TEMPLATE: _path_or_template,
    Kind.RENDERED: _rendered,
    Kind.TARGETS: _targets,
    Kind.PATH_KEYS: _path_keys,
}
