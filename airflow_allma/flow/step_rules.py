"""Rules for steps that the types of their fields do not express."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.formats import is_email_address, is_location, is_schedule, is_time_zone
from airflow_allma.flow.ids import problem_with_id
from airflow_allma.flow.js_regex import JsRegexError, UntranslatableError, to_python
from airflow_allma.flow.normalize import MESSAGING
from airflow_allma.flow.regex_cost import pattern_problem
from airflow_allma.flow.tree_walk import ANY, LocatedStep, Scope, branches_of, select, start_fields

__all__ = ["check_steps"]

_Diagnostics = Iterator[Diagnostic]
_Rule = Callable[[LocatedStep], _Diagnostics]
_Object = Mapping[str, Any]

_ONLY_MODULE = {
    "SQS_SEND": "system/sqs-send",
    "SNS_PUBLISH": "system/sns-publish",
    "FILE_DOWNLOAD": "system/file-download",
    "START_FLOW_EXECUTION": "system/start-flow-execution",
    "NO_OP": "system/noop",
    "EMAIL": "system/email-send",
}
# Values that can be in the step itself, in its customConfig or in its input.
_NEEDED_SOMEWHERE = {
    "SQS_SEND": ("queueUrl", "payload"),
    "SNS_PUBLISH": ("topicArn", "payload"),
    "START_FLOW_EXECUTION": ("flowDefinitionId",),
}


_IGNORED_BY_END_FLOW = (
    "customConfig",
    "defaultNextStepInstanceId",
    "delay",
    "inputMappings",
    "literals",
    "onError",
    "outputMappings",
    "outputValidation",
    "transitions",
)


@dataclass(frozen=True, slots=True)
class _Exclusive:
    """Two fields that exclude each other."""

    first: str
    second: str
    fix: str


_EXCLUSIVE = {
    "LLM_INVOCATION": (
        _Exclusive("mediaAttachments", "mediaAttachmentsPath", "keep the fixed list or the path to one"),
        _Exclusive("tools", "toolsPath", "keep the fixed list or the path to one"),
    ),
    "EMAIL": (_Exclusive("attachments", "attachmentsPath", "keep the fixed list or the path to one"),),
}


def check_steps(flow: _Object, all_scopes: Sequence[Scope]) -> _Diagnostics:
    """Yield the errors in single steps, apart from the types of their fields."""
    found = select(flow, ("defaultStepConfig", "defaultCustomConfig"))
    defaults = next((value for _, value in found if isinstance(value, dict)), {})
    for scope in all_scopes:
        for located in scope.steps.values():
            for rule in _EVERY_STEP:
                yield from rule(located)
            for rule in _BY_TYPE.get(located.kind, ()):
                yield from rule(located)
            if located.kind in _NEEDED_SOMEWHERE:
                yield from _needed_somewhere(located, defaults)


def _has(value: _Object, field: str) -> bool:
    return value.get(field) is not None


def _id(located: LocatedStep) -> _Diagnostics:
    key = located.path[-1]
    own_id = located.step.get("stepInstanceId")
    if isinstance(key, str) and isinstance(own_id, str) and own_id != key:
        yield Diagnostic(
            (*located.path, "stepInstanceId"),
            f"{quoted(own_id)} is not the step's key {quoted(key)}; make them equal or leave it out",
        )
    if reason := problem_with_id(located.id):
        yield Diagnostic(located.path, reason, at_key=True)


def _offload(located: LocatedStep) -> _Diagnostics:
    if located.step.get("forceS3Offload") is True and located.step.get("disableS3Offload") is True:
        yield Diagnostic(
            (*located.path, "disableS3Offload"),
            "`forceS3Offload` and `disableS3Offload` contradict each other; remove one of them",
        )


def _delay(located: LocatedStep) -> _Diagnostics:
    delay = located.step.get("delay")
    if not isinstance(delay, dict):
        return
    path = (*located.path, "delay")
    fixed = _has(delay, "milliseconds")
    bounds = [field for field in ("delayFrom", "delayTo") if _has(delay, field)]
    if fixed and bounds:
        yield Diagnostic(path, "set `milliseconds`, or `delayFrom` with `delayTo`, but not both")
    elif not fixed and len(bounds) < 2:
        yield Diagnostic(path, "set `milliseconds`, or both `delayFrom` and `delayTo`")
    elif not fixed:
        low, high = delay["delayFrom"], delay["delayTo"]
        if isinstance(low, int) and isinstance(high, int) and low > high:
            yield Diagnostic(path, f"`delayFrom` ({low}) is above `delayTo` ({high}); swap them")


def _module(located: LocatedStep) -> _Diagnostics:
    module = located.step.get("moduleIdentifier")
    only = _ONLY_MODULE.get(located.kind)
    if only is not None and isinstance(module, str) and module != only:
        yield Diagnostic(
            (*located.path, "moduleIdentifier"),
            f"{located.kind} works only with the module `{only}`; leave `moduleIdentifier` out",
        )


def _exclusive(located: LocatedStep) -> _Diagnostics:
    for pair in _EXCLUSIVE.get(located.kind, ()):
        if _has(located.step, pair.first) and _has(located.step, pair.second):
            yield Diagnostic(
                (*located.path, pair.second),
                f"`{pair.first}` and `{pair.second}` exclude each other; {pair.fix}",
            )


def _needed_somewhere(located: LocatedStep, defaults: _Object) -> _Diagnostics:
    sources = [
        located.step,
        defaults,
        *(located.step.get(field) for field in ("customConfig", "literals", "inputMappings")),
    ]
    for needed in _NEEDED_SOMEWHERE.get(located.kind, ()):
        if not any(_names(source, needed) for source in sources):
            yield Diagnostic(
                (*located.path, needed),
                f"`{needed}` is missing; write it here, in `customConfig`, `literals` or `inputMappings`",
            )


def _names(source: Any, field: str) -> bool:
    if not isinstance(source, dict):
        return False
    return _has(source, field) or any(key.startswith((f"{field}.", f"{field}[")) for key in source)


def _messaging(located: LocatedStep) -> _Diagnostics:
    yield Diagnostic(
        (*located.path, "moduleIdentifier"),
        f"a {MESSAGING} step needs `moduleIdentifier` `system/sqs-send` or `system/sns-publish`, "
        "which says what it sends; or use the step types SQS_SEND and SNS_PUBLISH",
    )


def _custom_strings(located: LocatedStep) -> _Diagnostics:
    for pattern in (
        ("templateContextMappings", ANY),
        ("apiUrlTemplate", "contextMappings", ANY),
        ("requestBodyTemplate", ANY),
        ("apiCallDefinition", "apiUrlTemplate", "contextMappings", ANY),
    ):
        for path, mapping in select(located.step, pattern, located.path):
            if (
                isinstance(mapping, dict)
                and mapping.get("formatAs") == "CUSTOM_STRING"
                and not _has(mapping, "itemTemplate")
            ):
                yield Diagnostic(
                    (*path, "itemTemplate"),
                    "CUSTOM_STRING needs an `itemTemplate`, which renders every item",
                )


def _fork(located: LocatedStep) -> _Diagnostics:
    branches = list(branches_of(located))
    if branches and not _has(located.step, "itemsPath"):
        yield Diagnostic(
            (*located.path, "itemsPath"), "`itemsPath` is missing; it says for which items the branches run"
        )
    aggregation = located.step.get("aggregationConfig")
    if (
        isinstance(aggregation, dict)
        and aggregation.get("strategy") == "CUSTOM_MODULE"
        and not _has(aggregation, "customModuleIdentifier")
    ):
        yield Diagnostic(
            (*located.path, "aggregationConfig", "customModuleIdentifier"),
            "CUSTOM_MODULE needs `customModuleIdentifier`, the import path of a Python callable",
        )
    for path, location in select(located.step, ("resultWriter", "location"), located.path):
        if isinstance(location, str) and location and not is_location(location):
            yield Diagnostic(
                path,
                f"{quoted(location)} is not a location; write a fixed one, `s3://bucket/prefix`, without "
                "templates: the Dag, the run and the step are added",
            )
    seen: set[str] = set()
    for path, branch in branches:
        branch_id = branch.get("branchId")
        if isinstance(branch_id, str):
            if branch_id in seen:
                yield Diagnostic(
                    (*path, "branchId"),
                    f"{quoted(branch_id)} names another branch of this fork already; rename one",
                )
            seen.add(branch_id)
            if branch_id and (reason := problem_with_id(branch_id)):
                yield Diagnostic((*path, "branchId"), reason)
        yield from _branch_start(path, branch)


def _branch_start(path: Path, branch: _Object) -> _Diagnostics:
    starts = list(start_fields(path, branch))
    if _has(branch, "stepType"):
        if not _has(branch, "subFlowDefinitionId"):
            yield Diagnostic((*path, "subFlowDefinitionId"), "a sub-flow branch needs `subFlowDefinitionId`")
        for start_path, _ in starts:
            yield Diagnostic(start_path, "a sub-flow branch has no first step; remove this, or `stepType`")
    elif _has(branch, "subFlowDefinitionId"):
        yield Diagnostic((*path, "stepType"), 'a sub-flow branch needs `"stepType": "START_SUB_FLOW"` too')
    elif not any(field in branch for field in ("stepInstanceId", "startStepInstanceId", "startStep")):
        yield Diagnostic(
            (*path, "stepInstanceId"), "`stepInstanceId` is missing; it names the branch's first step"
        )
    elif len({start for _, start in starts}) > 1:
        fields = " and ".join(f"`{start_path[-1]}`" for start_path, _ in starts)
        yield Diagnostic(starts[1][0], f"{fields} name different first steps; keep one of them")


def _llm(located: LocatedStep) -> _Diagnostics:
    if not _has(located.step, "promptTemplateId") and not _has(located.step, "directPrompt"):
        yield Diagnostic(
            (*located.path, "promptTemplateId"),
            "the prompt is missing; set `promptTemplateId` or `directPrompt`",
        )
    for path, _ in select(located.step, ("securityValidatorConfig", "semanticCheck"), located.path):
        yield Diagnostic(
            path,
            "no embedding model is available to compare answers with; remove `semanticCheck`, and name what "
            "must not occur in `forbiddenStrings`",
        )
    for path, media in select(located.step, ("mediaAttachments", ANY), located.path):
        if isinstance(media, dict):
            if sum(_has(media, field) for field in ("s3Pointer", "url", "base64")) != 1:
                yield Diagnostic(path, "set exactly one of `s3Pointer`, `url` and `base64`")
            elif _has(media, "base64") and not _has(media, "mimeType"):
                yield Diagnostic((*path, "mimeType"), "`base64` needs `mimeType`, for example `image/png`")
    for pattern in (("tools", ANY), ("fallbacks", ANY, "tools", ANY)):
        for path, tool in select(located.step, pattern, located.path):
            if isinstance(tool, dict) and tool.get("type") == "function":
                for field in ("name", "description", "parameters"):
                    if not _has(tool, field):
                        yield Diagnostic((*path, field), f"a function tool needs `{field}`")


def _mcp(located: LocatedStep) -> _Diagnostics:
    if not _has(located.step, "mcpConnectionId") and not _has(located.step, "connection"):
        yield Diagnostic(
            (*located.path, "connection"),
            "the server is missing; set `connection`, an Airflow connection, or `mcpConnectionId`",
        )


def _schedule(located: LocatedStep) -> _Diagnostics:
    expression = located.step.get("scheduleExpression")
    if isinstance(expression, str) and expression and not is_schedule(expression):
        yield Diagnostic(
            (*located.path, "scheduleExpression"),
            "not a schedule; write `cron(minutes hours day-of-month month day-of-week year)`, for example "
            "`cron(0 6 * * ? *)`, or `rate(value unit)`, for example `rate(6 hours)`",
        )
    zone = located.step.get("timezone")
    if isinstance(zone, str) and not is_time_zone(zone):
        yield Diagnostic(
            (*located.path, "timezone"),
            f"{quoted(zone)} is not a known time zone; write an IANA name, `Europe/Berlin`",
        )


def _mail_start(located: LocatedStep) -> _Diagnostics:
    address = located.step.get("emailAddress")
    if isinstance(address, str) and address and not is_email_address(address):
        yield Diagnostic(
            (*located.path, "emailAddress"), "not an e-mail address; write `name@domain`, or a template"
        )
    pattern = located.step.get("triggerMessagePattern")
    if not isinstance(pattern, str):
        return
    path = (*located.path, "triggerMessagePattern")
    try:
        if problem := pattern_problem(pattern, to_python):
            yield Diagnostic(path, problem)
    except UntranslatableError as error:
        where = f"character {error.position + 1} of the pattern"
        yield Diagnostic(
            path,
            f"JavaScript reads this pattern, Python cannot: {error.reason} ({where}); no e-mail will match "
            "it, so write it in another way",
            Severity.WARNING,
        )
    except JsRegexError as error:
        yield Diagnostic(
            path,
            f"not a regular expression of JavaScript: {error.reason} (character {error.position + 1} of the "
            "pattern)",
        )


def _end(located: LocatedStep) -> _Diagnostics:
    for field in (field for field in _IGNORED_BY_END_FLOW if located.step.get(field)):
        yield Diagnostic(
            (*located.path, field),
            f"END_FLOW ends the path and ignores `{field}`; remove it, or use NO_OP",
            Severity.WARNING,
            at_key=True,
        )


_EVERY_STEP: tuple[_Rule, ...] = (_id, _offload, _delay, _module)
_BY_TYPE: dict[str, tuple[_Rule, ...]] = {
    MESSAGING: (_messaging,),
    "API_CALL": (_custom_strings,),
    "EMAIL": (_exclusive,),
    "EMAIL_START_POINT": (_mail_start,),
    "END_FLOW": (_end,),
    "LLM_INVOCATION": (_llm, _exclusive, _custom_strings),
    "MCP_CALL": (_mcp,),
    "PARALLEL_FORK_MANAGER": (_fork,),
    "POLL_EXTERNAL_API": (_custom_strings,),
    "SCHEDULE_START_POINT": (_schedule,),
}
