"""The fields of a flow that contain expressions, the kind of each, and whether it can be parsed.

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

__all__ = ["check_expressions", "check_template"]


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


@dataclass(frozen=True, slots=True)
class _Row:
    kind: Kind
    pattern: Pattern


def _rows(kind: Kind, *patterns: str) -> tuple[_Row, ...]:
    return tuple(_Row(kind, tuple(pattern.split("."))) for pattern in patterns)


def _variables(*fields: str) -> tuple[_Row, ...]:
    """Return the rows of maps of variable -> {sourceJsonPath, itemTemplate, ...}."""
    return (
        *_rows(Kind.SOURCE, *(f"{field}.*.sourceJsonPath" for field in fields)),
        *_rows(Kind.TEMPLATE, *(f"{field}.*.itemTemplate" for field in fields)),
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
    *_rows(Kind.SOURCE, "outputMappings.*"),
    *_rows(Kind.PATH, "outputValidation.requiredFields.*"),
    *_rows(Kind.CONDITION, "transitions.*.condition"),
)
_RENDERED_CONFIG = _rows(Kind.RENDERED, "customConfig")

_BY_TYPE: dict[str, tuple[_Row, ...]] = {
    "API_CALL": (*_api_call(), *_RENDERED_CONFIG, *_rows(Kind.PATH, "customConfig.requestBodyPath")),
    "CUSTOM_LAMBDA_INVOKE": (
        *_rows(Kind.TEMPLATE, "lambdaFunctionArnTemplate"),
        *_rows(Kind.SOURCE, "payloadTemplate.*"),
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
        *_rows(Kind.PATH, "itemsPath", "aggregationConfig.dataPath", "itemLabelPath"),
        *_rows(Kind.CONDITION, "parallelBranches.*.condition"),
        *_mappings("parallelBranches.*.inputMappings", "parallelBranches.*.inputMappingsToSubFlow"),
        *_rows(Kind.TARGETS, "parallelBranches.*.literals"),
        *_rows(Kind.RENDERED, "parallelBranches.*.literals"),
    ),
    "POLL_EXTERNAL_API": (*_api_call("apiCallDefinition."), *_rows(Kind.CONDITION, "exitConditions.*")),
    "SCHEDULE_START_POINT": (
        *_rows(Kind.TEMPLATE, "scheduleExpression"),
        *_rows(Kind.RENDERED, "payloadTemplate"),
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


def _by_first_field(rows: Sequence[_Row]) -> _ByField:
    grouped: dict[str, tuple[_Row, ...]] = {}
    for row in rows:
        grouped[row.pattern[0]] = (*grouped.get(row.pattern[0], ()), _Row(row.kind, row.pattern[1:]))
    return grouped


_EVERY_STEP_BY_FIELD = _by_first_field(_EVERY_STEP)
_BY_TYPE_AND_FIELD = {kind: _by_first_field((*_EVERY_STEP, *rows)) for kind, rows in _BY_TYPE.items()}
_FLOW_BY_FIELD = _by_first_field(_FLOW)

# Modules that are not the system's own get the customConfig of these types unrendered.
_SYSTEM_RENDERS = frozenset({"DATA_LOAD", "DATA_SAVE", "DATA_TRANSFORMATION"})


def check_expressions(
    flow: Mapping[str, Any], all_scopes: Sequence[Scope], checks: ExpressionChecks
) -> Iterator[Diagnostic]:
    """Yield an error for each expression of a flow that cannot be parsed."""
    yield from _check_object(flow, (), _FLOW_BY_FIELD, checks)
    for scope in all_scopes:
        for located in scope.steps.values():
            table = _BY_TYPE_AND_FIELD.get(located.kind, _EVERY_STEP_BY_FIELD)
            step = located.step if _renders_config(located) else {**located.step, "customConfig": None}
            yield from _check_object(step, located.path, table, checks)


def check_template(source: str, path: Path, checks: ExpressionChecks) -> Iterator[Diagnostic]:
    """Yield an error if a template cannot be parsed."""
    return _CHECKS[Kind.TEMPLATE](source, path, checks)


def _renders_config(located: LocatedStep) -> bool:
    module = located.step.get("moduleIdentifier")
    return located.kind not in _SYSTEM_RENDERS or not isinstance(module, str) or module.startswith("system/")


def _check_object(
    value: Mapping[str, Any], path: Path, table: _ByField, checks: ExpressionChecks
) -> Iterator[Diagnostic]:
    for field, member in value.items():
        for row in table.get(field, ()):
            check = _CHECKS[row.kind]
            for match_path, match in select(member, row.pattern, (*path, field)):
                yield from check(match, match_path, checks)


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
