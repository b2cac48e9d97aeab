"""The input of a START_FLOW_EXECUTION step: which flow to start, and the payload of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from airflow_allma.common.json_types import type_name
from airflow_allma.engine.flow_runs import LATEST_VERSION
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions import compile_config, compile_template
from airflow_allma.expressions.pointer_access import resolve_pointer
from airflow_allma.flow import StartFlowExecutionStep

__all__ = ["FlowStart", "StartInput", "require_version"]

_PAYLOAD: Final = "initialContextData"
_FIELDS: Final = frozenset(
    {
        "enableExecutionLogs",
        "flowDefinitionId",
        "flowExecutionId",
        "flowVersion",
        _PAYLOAD,
        "sync",
        "triggerSource",
    }
)
"""The keys of the step's input that are about the run; all others are part of its payload."""

_WITHOUT_EFFECT: Final = frozenset(
    {
        "depth",
        "executionKind",
        "notificationConfig",
        "parentFlowExecutionId",
        "parentStepInstanceId",
        "rootFlowExecutionId",
    }
)
_BOOLEANS: Final[Mapping[str, bool]] = {"true": True, "false": False}


class FlowStart(msgspec.Struct, frozen=True, gc=False):
    """What a START_FLOW_EXECUTION step starts.

    Attributes:
        flow_id: the flow.
        version: its version, as a string, or ``LATEST_VERSION``.
        payload: the run's payload.
        flow_execution_id: the run's id, if the flow gives one.
        trigger_source: what the flow says about where the run comes from.
        enable_execution_logs: whether the run keeps records of its steps, if the flow says so.
    """

    flow_id: str
    version: str
    payload: dict[str, Any]
    flow_execution_id: str | None = None
    trigger_source: str | None = None
    enable_execution_logs: bool | None = None


class StartInput:
    """Reads the input of a START_FLOW_EXECUTION step.

    Later ones win: the rendered ``customConfig``, the step's input, and its own ``flowDefinitionId`` and
    ``flowVersion``.
    """

    def __init__(self, step: StartFlowExecutionStep) -> None:
        own = {"flowDefinitionId": step.flow_definition_id, "flowVersion": step.flow_version}
        self._own = {name: compile_template(text) for name, text in own.items() if text is not None}
        self._config = compile_config(step.custom_config) if step.custom_config else None

    def read(self, call: StepCall) -> FlowStart:
        """Return what this call starts.

        Raises:
            PermanentStepError: no flow is named, or a value has the wrong type.
            PointerNotLoaded: ``initialContextData`` is a pointer that has to be loaded first.
        """
        root = call.root()
        values: dict[str, Any] = self._config.render(root, call.load) if self._config else {}
        values = {**values, **call.input}
        values |= {name: template.render(root, call.load) for name, template in self._own.items()}
        if "executionOverrides" in values:
            raise PermanentStepError(
                "`executionOverrides` is not supported: a flow that is started runs as it is written. Remove "
                "the field."
            )
        if ignored := sorted(_WITHOUT_EFFECT & values.keys()):
            call.log.warning("Step %s: %s has no effect; remove it", call.step_id, ", ".join(ignored))
        others = {
            key: value for key, value in values.items() if key not in _FIELDS and key not in _WITHOUT_EFFECT
        }
        return FlowStart(
            flow_id=_text(values, "flowDefinitionId", required=True) or "",
            version=require_version(values.get("flowVersion")),
            payload={**others, **_payload(values.get(_PAYLOAD), call)},
            flow_execution_id=_uuid(_text(values, "flowExecutionId")),
            trigger_source=_text(values, "triggerSource"),
            enable_execution_logs=_boolean(values.get("enableExecutionLogs")),
        )


def require_version(value: Any) -> str:
    """Return the version of a flow as a string: digits, or ``LATEST_VERSION`` for None and an empty string.

    Raises:
        PermanentStepError: it is neither.
    """
    if value is None or value in {"", LATEST_VERSION}:
        return LATEST_VERSION
    text = str(value)
    if isinstance(value, str | int) and text.isascii() and text.isdecimal() and int(text) > 0:
        return str(int(text))
    raise PermanentStepError(
        f"`flowVersion` must be a version such as `3`, or `{LATEST_VERSION}`; it is {text[:80]!r}."
    )


def _payload(value: Any, call: StepCall) -> Mapping[str, Any]:
    value = resolve_pointer(value, call.load)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise PermanentStepError(f"`{_PAYLOAD}` must be an object; it is {type_name(value)}.")
    return value


def _text(values: Mapping[str, Any], name: str, *, required: bool = False) -> str | None:
    value = values.get(name)
    if isinstance(value, str) and value:
        return value
    if value is None or value == "":
        if not required:
            return None
        raise PermanentStepError(f"`{name}` is missing or empty. Name the flow to start.")
    raise PermanentStepError(f"`{name}` must be a string; it is {type_name(value)}.")


def _uuid(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(UUID(text))
    except ValueError:
        raise PermanentStepError(f"`flowExecutionId` must be a UUID; it is {text[:80]!r}.") from None


def _boolean(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    raise PermanentStepError("`enableExecutionLogs` must be true or false.")
