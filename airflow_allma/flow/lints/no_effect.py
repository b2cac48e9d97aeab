"""Fields that are read and checked, and have no effect: not yet, or not together with others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from airflow_allma.flow.lints.lint import FlowView, Warnings, lint, unknown_setting, warning
from airflow_allma.flow.tree_walk import ANY, LocatedStep, Pattern, select

__all__ = ["NOT_YET", "checkpoints_in_branches", "fields_without_effect", "start_points_in_branches"]

_Object = Mapping[str, Any]


def _always(_: _Object) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class _Row:
    """A field without effect.

    Attributes:
        field: its name.
        why: why it has no effect, and what to do.
        kinds: the types of the steps that it is in; None: every type.
        pattern: where the object with the field is, from the step (or from the flow).
        when: whether it has no effect in this object.
    """

    field: str
    why: str
    kinds: frozenset[str] | None = None
    pattern: Pattern = ()
    when: Callable[[_Object], bool] = _always


def _types(*kinds: str) -> frozenset[str]:
    return frozenset(kinds)


def _has_no_retry(retries: _Object) -> bool:
    return not retries.get("count")


def _has_other_strategy(config: _Object) -> bool:
    return config.get("strategy") != "CUSTOM_MODULE"


def _is_not_sub_flow(branch: _Object) -> bool:
    return branch.get("stepType") is None


def _is_not_custom_string(mapping: _Object) -> bool:
    return mapping.get("formatAs") != "CUSTOM_STRING"


def _has_body(step: LocatedStep) -> bool:
    call = step.step if step.kind == "API_CALL" else step.step.get("apiCallDefinition")
    is_call = step.kind in {"API_CALL", "POLL_EXTERNAL_API"}
    return is_call and isinstance(call, dict) and bool(call.get("requestBodyTemplate"))


def _requires_nothing(step: _Object) -> bool:
    validation = step.get("outputValidation")
    return not (isinstance(validation, dict) and validation.get("requiredFields"))


_FORK: Final = _types("PARALLEL_FORK_MANAGER")
_CALL: Final = _types("API_CALL")
_WAIT: Final = _types("WAIT_FOR_EXTERNAL_EVENT")
_REMOVE: Final = "remove it"
_WAIT_HAS_NO_INPUT: Final = "the output is the event's payload; name values in `correlationKeyTemplate`"
_IN_BRANCH: Final = "a fork passes its whole context to its branches; write it in a branch, or in its steps"
_LABEL_OF_BATCH: Final = (
    "with `itemBatcher` the UI shows the indexes of a batch's items; remove one of the two"
)
_ONE_CONTENT_ERROR: Final = (
    "only a missing field of `outputValidation.requiredFields` is a content error; name the fields there, or "
    "use `retries`"
)
_NO_JSON: Final = (
    "only an answer that is not JSON, with `customConfig.jsonOutputMode`, and a missing field of "
    "`outputValidation.requiredFields` are content errors; set one of the two, or use `retries`"
)

_WITHOUT_MODELS: Final = (
    _Row(
        "defaultInferenceParameters",
        "no step is an LLM_INVOCATION; remove it",
        pattern=("defaultStepConfig",),
    ),
)
_NOT_YET_OF_STEP: Final = (
    _Row(
        "messageSenderModuleIdentifier",
        "no message is sent; send it in a step before this one, such as EMAIL, with the key in it",
        _WAIT,
    ),
)
NOT_YET: Final = frozenset(row.field for row in _NOT_YET_OF_STEP)
"""The fields of the language that have no effect yet, wherever they are."""

_WITHOUT_SCHEDULE: Final = (
    _Row(
        "catchup",
        "the flow has no schedule; add `airflow.schedule`, or remove it",
        pattern=("airflow",),
    ),
)
_STEP_ROWS: Final = (
    *_NOT_YET_OF_STEP,
    *(
        _Row(
            field,
            "without a `count` nothing is retried; add `count`, 1 to 5",
            pattern=("onError", "retries"),
            when=_has_no_retry,
        )
        for field in ("intervalSeconds", "backoffRate", "errorEquals")
    ),
    _Row(
        "fallbackStepInstanceId",
        "with `continueOnFailure` the flow goes on after this step; remove one of the two",
        pattern=("onError",),
        when=lambda handler: handler.get("continueOnFailure") is True,
    ),
    *(_Row(field, _IN_BRANCH, _FORK) for field in ("inputMappings", "literals")),
    *(_Row(field, _WAIT_HAS_NO_INPUT, _WAIT) for field in ("inputMappings", "literals", "customConfig")),
    *(
        _Row("customConfig", f"{kind} has no settings of its own; {cure}", _types(kind))
        for kind, cure in (
            ("NO_OP", "to add data, write it in `literals`"),
            ("PARALLEL_FORK_MANAGER", "a fork's settings are in `aggregationConfig`"),
            ("SCHEDULE_START_POINT", "write the run's payload in `payloadTemplate`"),
            ("EMAIL_START_POINT", _REMOVE),
            ("START_SUB_FLOW", "what the sub-flow gets is in `inputMappingsToSubFlow`"),
        )
    ),
    _Row(
        "customModuleIdentifier",
        'it is called only with `"strategy": "CUSTOM_MODULE"`',
        _FORK,
        ("aggregationConfig",),
        _has_other_strategy,
    ),
    *(
        _Row(
            field,
            "with `failOnBranchError` false the step never fails; remove one of the two",
            _FORK,
            ("aggregationConfig",),
            lambda config: config.get("failOnBranchError") is False,
        )
        for field in ("toleratedFailurePercentage", "toleratedFailureCount")
    ),
    _Row("itemLabelPath", _LABEL_OF_BATCH, _FORK, when=lambda step: bool(step.get("itemBatcher"))),
    _Row(
        "dataPath",
        "with the strategy NONE no results are kept",
        _FORK,
        ("aggregationConfig",),
        lambda config: config.get("strategy") == "NONE",
    ),
    *(
        _Row(
            field,
            'only a branch with `"stepType": "START_SUB_FLOW"` uses it; use `inputMappings`',
            _FORK,
            ("parallelBranches", ANY),
            _is_not_sub_flow,
        )
        for field in ("inputMappingsToSubFlow", "subFlowVersion", "airflow")
    ),
    *(
        _Row(
            field,
            "`inputMappingsToSubFlow` is the sub-flow's payload; write it there, or remove one of the two",
            _types("START_SUB_FLOW"),
            when=lambda step: bool(step.get("inputMappingsToSubFlow")),
        )
        for field in ("inputMappings", "literals")
    ),
    *(
        _Row(
            field, 'it is used only with `"formatAs": "CUSTOM_STRING"`', _CALL, pattern, _is_not_custom_string
        )
        for pattern in (("apiUrlTemplate", "contextMappings", ANY), ("requestBodyTemplate", ANY))
        for field in ("itemTemplate", "joinSeparator")
    ),
)
# The types whose work can end with a content error by itself: that of a sub-flow is one of its steps.
_CONTENT_ERRORS: Final = _types("START_FLOW_EXECUTION", "START_SUB_FLOW")
_CONTENT_RETRY: Final = (_Row("retryOnContentError", _ONE_CONTENT_ERROR, pattern=("onError",)),)
_JSON_RETRY: Final = (_Row("retryOnContentError", _NO_JSON, pattern=("onError",)),)
_BODY_PATH: Final = (
    _Row(
        "requestBodyPath",
        "`requestBodyTemplate` is the body; remove one of the two",
        pattern=("customConfig",),
    ),
)
# The types whose customConfig has fixed fields -> those, and where other settings are.
_CONFIG_FIELDS: Final = {
    "API_CALL": (
        frozenset({"requestBodyPath", "timeoutMs"}),
        (
            "API_CALL has only `timeoutMs` and `requestBodyPath` here; headers, URL and body have fields of "
            "their own in the step"
        ),
    ),
    "POLL_EXTERNAL_API": (
        frozenset({"requestBodyPath", "timeoutMs"}),
        (
            "POLL_EXTERNAL_API has only `timeoutMs` and `requestBodyPath` here; headers, URL and body have "
            "fields of their own in `apiCallDefinition`"
        ),
    ),
    "CUSTOM_LAMBDA_INVOKE": (
        frozenset({"hydrateInputFromS3", "invocationType", "logType", "qualifier"}),
        (
            "CUSTOM_LAMBDA_INVOKE has only `hydrateInputFromS3`, `invocationType`, `logType` and `qualifier` "
            "here; the payload is `payloadTemplate` or the step's input"
        ),
    ),
    "EMAIL": (
        frozenset(),
        "EMAIL has no settings here; addresses, subject, body and `connection` are fields of the step",
    ),
    "FILE_DOWNLOAD": (
        frozenset({"timeoutMs", "verifySsl"}),
        (
            "FILE_DOWNLOAD has only `timeoutMs` and `verifySsl` here; URL, headers, bucket and key have "
            "fields of their own in the step"
        ),
    ),
    "LLM_INVOCATION": (
        frozenset(
            {
                "anthropic_version",
                "guardrailConfig",
                "jsonOutputMode",
                "maxTokensField",
                "safetySettings",
                "timeoutMs",
                "toolChoice",
                "tools",
            }
        ),
        (
            "LLM_INVOCATION has no such setting here; the parameters of the answer are in "
            "`inferenceParameters`, and what the prompt is to see can be written in `literals`"
        ),
    ),
}
_DEFAULT_CONFIG: Final = ("defaultStepConfig", "defaultCustomConfig")
# Where the customConfigs of a step are, by the first field on the way.
_CONFIGS: Final[Mapping[str, Pattern]] = {
    "customConfig": ("customConfig",),
    "fallbacks": ("fallbacks", ANY, "customConfig"),
}
# What each kind of step cannot use as `moduleIdentifier`: the language has ids that only repeat the type.
_WITHOUT_MODULE: Final = {
    "API_CALL": "system/api-call",
    "END_FLOW": "system/end-flow",
    "PARALLEL_FORK_MANAGER": "system/parallel-fork-manager",
    "SCHEDULE_START_POINT": "system/schedule-start-point",
    "START_SUB_FLOW": "system/start-sub-flow",
    "EMAIL_START_POINT": "system/email-start-point",
}


@lint()
def fields_without_effect(view: FlowView) -> Warnings:
    """Yield every field that is read and has no effect."""
    yield from _rows(view.flow, (), _flow_rows(view))
    for step in view.steps:
        table = _step_rows(step.kind)
        if not table.keys().isdisjoint(step.step):
            rows = [row for field in step.step for row in table.get(field, ())]
            yield from _rows(step.step, step.path, rows)
        if "onError" in step.step and _requires_nothing(step.step):
            yield from _rows(step.step, step.path, _content_rows(step, view.flow))
        if _has_body(step):
            yield from _rows(step.step, step.path, _BODY_PATH)
        if step.runs_own_module:
            continue
        if step.kind in _CONFIG_FIELDS:
            known, why = _CONFIG_FIELDS[step.kind]
            for path, config in _configs(step):
                for field in config.keys() - known:
                    yield unknown_setting((*path, field), known - config.keys(), why)
        module = step.step.get("moduleIdentifier")
        if step.kind in _WITHOUT_MODULE and module not in {None, _WITHOUT_MODULE[step.kind]}:
            yield _no_effect(
                (*step.path, "moduleIdentifier"),
                f"{step.kind} runs no module; remove it, or set `stepType` to DATA_TRANSFORMATION, DATA_LOAD "
                "or DATA_SAVE",
            )


def _configs(step: LocatedStep) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """Yield the step's ``customConfig`` and those of its fallback models."""
    for first, pattern in _CONFIGS.items():
        if first in step.step:
            for path, config in select(step.step, pattern, step.path):
                if isinstance(config, dict):
                    yield path, config


def _content_rows(step: LocatedStep, flow: _Object) -> Iterable[_Row]:
    """Return the rows of a step whose output needs no fields."""
    if step.kind in _CONTENT_ERRORS:
        return ()
    if step.kind != "LLM_INVOCATION":
        return _CONTENT_RETRY
    configs = [config for _, config in _configs(step)]
    configs += [config for _, config in select(flow, _DEFAULT_CONFIG) if isinstance(config, dict)]
    # What a path or a template finds is not known here.
    return () if any(config.get("jsonOutputMode") for config in configs) else _JSON_RETRY


def _flow_rows(view: FlowView) -> Iterable[_Row]:
    options = view.flow.get("airflow")
    kinds = {step.kind for step in view.steps}
    is_scheduled = isinstance(options, dict) and options.get("schedule") is not None
    if not is_scheduled and "SCHEDULE_START_POINT" not in kinds:
        yield from _WITHOUT_SCHEDULE
    if "LLM_INVOCATION" not in kinds:
        yield from _WITHOUT_MODELS


@lru_cache(maxsize=64)
def _step_rows(kind: str) -> Mapping[str, tuple[_Row, ...]]:
    """Return the rows of a type of step by the first field on the way to theirs."""
    rows: dict[str, tuple[_Row, ...]] = {}
    for row in _STEP_ROWS:
        if row.kinds is None or kind in row.kinds:
            first = row.pattern[0] if row.pattern else row.field
            rows[first] = (*rows.get(first, ()), row)
    return rows


def _rows(value: Any, path: tuple[str | int, ...], rows: Iterable[_Row]) -> Warnings:
    for row in rows:
        if not row.pattern:
            if value.get(row.field) and row.when(value):
                yield _no_effect((*path, row.field), row.why)
            continue
        if row.pattern[0] not in value:
            continue
        for inner_path, inner in select(value, row.pattern, path):
            if isinstance(inner, dict) and inner.get(row.field) and row.when(inner):
                yield _no_effect((*inner_path, row.field), row.why)


def _no_effect(path: tuple[str | int, ...], why: str) -> Any:
    return warning(path, f"this has no effect: {why}", at_key=True)


@lint(fields=("checkpoint",))
def checkpoints_in_branches(view: FlowView) -> Warnings:
    """Yield checkpoints in the own steps of a branch, which the note of the run does not show."""
    for scope in view.scopes[1:]:
        for step in scope.steps.values():
            if step.step.get("checkpoint"):
                yield warning(
                    (*step.path, "checkpoint"),
                    "the note of a run shows no checkpoints of branches; move it to a step of the flow's own",
                    at_key=True,
                )


@lint(kinds=("SCHEDULE_START_POINT", "EMAIL_START_POINT"))
def start_points_in_branches(view: FlowView) -> Warnings:
    """Yield start points in the own steps of a branch, which never start a run."""
    for scope in view.scopes[1:]:
        for step in scope.steps.values():
            if step.kind in {"SCHEDULE_START_POINT", "EMAIL_START_POINT"}:
                yield warning(
                    (*step.path, "stepType"),
                    "a start point in a branch starts no runs; move it to the steps of the flow",
                )


@lint(kinds=("EMAIL_START_POINT",))
def mail_without_a_queue(view: FlowView) -> Warnings:
    """Yield e-mail start points of flows that watch no queue, to which no e-mail comes."""
    if any(True for _ in select(view.flow, ("airflow", "watch"))):
        return
    for step in view.scopes[0].steps.values():
        if step.kind == "EMAIL_START_POINT":
            yield warning(
                (*step.path, "emailAddress"),
                "no e-mail starts this flow: it watches no queue; add `airflow.watch` with the queue to "
                "which SES sends the e-mails",
            )
