"""What a step does, in one line: as the flow says it, without values that could be secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from airflow_allma.flow import ApiCallDefinition, Step, StepType

__all__ = ["step_detail"]

_USER_INFO: Final = re.compile(r"(?<=://)[^/?#@{}]*@")
_QUERY: Final = re.compile(r"[?#;].*", re.DOTALL)
_SCHEME: Final = re.compile(r"^[a-z][a-z0-9+.-]*://")
_TEMPLATE: Final = re.compile(r"\{\{\{?[^{}]*\}\}\}?")
_TEMPLATE_START: Final = re.compile(r"^\{\{\{?\s*(?:flow_variables\.)?([^{}]*?)\s*\}\}\}?")


def step_detail(step: Step) -> str:
    """Return what a step does; empty if its type says it all."""
    describe = _DETAILS.get(step.step_type)
    return describe(step) if describe is not None else ""


def url_detail(template: str) -> str:
    """Return a URL, or a template of one, without user, query and fragment, which can contain secrets."""
    # Templates can contain what looks like a query.
    kept = [found[0] for found in _TEMPLATE.finditer(template)]
    plain = _TEMPLATE.sub("\x00", template)
    plain = _QUERY.sub("", _USER_INFO.sub("", plain))
    parts = plain.split("\x00")
    url = parts[0] + "".join(mark + part for mark, part in zip(kept, parts[1:], strict=False))
    return _TEMPLATE_START.sub(r"{\1}", _SCHEME.sub("", url))


def _call(call: ApiCallDefinition) -> str:
    return f"{call.api_http_method} {url_detail(call.api_url_template.template)}"


def _poll(step: Any) -> str:
    return f"{_call(step.api_call_definition)}, every {step.polling_config.interval_seconds} s"


def _last(name: str | None, *separators: str) -> str:
    for separator in separators:
        name = (name or "").rstrip(separator).rpartition(separator)[2]
    return name or ""


def _fork(step: Any) -> str:
    text = f"for each of {step.items_path}" if step.items_path else "for each item"
    limit = step.aggregation_config.max_concurrency
    return f"{text}, at most {limit} at once" if limit else text


def _schedule(step: Any) -> str:
    return step.schedule_expression if step.enabled else f"{step.schedule_expression} (off)"


_Describe = Callable[[Any], str]

_DETAILS: Final[Mapping[StepType, _Describe]] = {
    StepType.API_CALL: _call,
    StepType.CUSTOM_LAMBDA_INVOKE: lambda step: f"Lambda {_last(step.lambda_function_arn_template, ':')}",
    StepType.CUSTOM_LOGIC: lambda step: step.module_identifier,
    StepType.DATA_LOAD: lambda step: step.module_identifier,
    StepType.DATA_SAVE: lambda step: step.module_identifier,
    StepType.DATA_TRANSFORMATION: lambda step: step.module_identifier,
    StepType.EMAIL: lambda step: f"E-mail: {step.subject}",
    StepType.EMAIL_START_POINT: lambda step: f"E-mail to {step.email_address}",
    StepType.END_FLOW: lambda _: "ends here",
    StepType.FILE_DOWNLOAD: lambda step: f"{step.method} {url_detail(step.source_url_template)}",
    StepType.LLM_INVOCATION: lambda step: f"{step.llm_provider} {step.model_id}",
    StepType.MCP_CALL: lambda step: f"MCP tool {step.tool_name}",
    StepType.NO_OP: lambda _: "passes its input on",
    StepType.PARALLEL_FORK_MANAGER: _fork,
    StepType.POLL_EXTERNAL_API: _poll,
    StepType.SCHEDULE_START_POINT: _schedule,
    StepType.SNS_PUBLISH: lambda step: f"SNS topic {_last(step.topic_arn, ':')}".rstrip(),
    StepType.SQS_SEND: lambda step: f"SQS queue {_last(step.queue_url, '/')}".rstrip(),
    StepType.START_FLOW_EXECUTION: lambda step: f"starts flow {step.flow_definition_id or ''}".rstrip(),
    StepType.START_SUB_FLOW: lambda step: f"flow {step.sub_flow_definition_id}",
    StepType.WAIT_FOR_EXTERNAL_EVENT: lambda step: f"waits for {step.correlation_key_template}",
}
