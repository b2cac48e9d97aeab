"""Calls of AWS Lambda functions: the handler of CUSTOM_LAMBDA_INVOKE, and the call itself for other users."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from airflow_allma.common.aws_names import region_of_arn
from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, decode_json
from airflow_allma.common.printable import printable, shortened
from airflow_allma.engine.modules import ModuleContext
from airflow_allma.engine.modules.aws_call import AwsResource
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.engine.steps.module import run_in_thread
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.expressions import (
    LoadPointer,
    compile_config,
    compile_context_mappings,
    compile_template,
)
from airflow_allma.expressions.pointer_access import resolve_pointer
from airflow_allma.flow import CustomLambdaInvokeStep

__all__ = ["InvocationType", "LambdaCall", "LambdaInvoke", "invoke_function"]

MIB: Final = 1024 * 1024
_MAX_NAME: Final = 400
_FUNCTION: Final = re.compile(
    r"(?:arn:aws[a-z0-9-]*:lambda:[a-z0-9-]+:\d+:function:|(?:\d+:)?(?:function:)?)"
    r"[A-Za-z0-9_.-]+(?::(?:\$LATEST|[A-Za-z0-9_-]+))?"
)
_QUALIFIER: Final = re.compile(r"\$LATEST|[A-Za-z0-9_-]{1,128}")
_MAX_SHOWN: Final = 2_000
_MAX_TRACE: Final = 20


class InvocationType(StrEnum):
    """Whether the step waits for the function."""

    SYNCHRONOUS = "RequestResponse"
    ASYNCHRONOUS = "Event"


MAX_PAYLOAD_BYTES: Final = 6 * MIB
"""Largest payload that Lambda accepts from a caller who waits."""

MAX_EVENT_BYTES: Final = MIB
"""Largest payload of an asynchronous call."""

_MAX_BYTES: Final[Mapping[InvocationType, int]] = {
    InvocationType.SYNCHRONOUS: MAX_PAYLOAD_BYTES,
    InvocationType.ASYNCHRONOUS: MAX_EVENT_BYTES,
}


@dataclass(frozen=True, slots=True)
class LambdaCall:
    """One call of a function.

    Attributes:
        function: its name or ARN, which can end with a qualifier.
        payload: a JSON value.
        setting: the setting that names the function, for messages.
        qualifier: a version or an alias; None: that of ``function``, or the newest version.
        invocation_type: whether to wait for the function.
        log_tail: whether the end of the function's log goes to the task's log.
    """

    function: str
    payload: Any
    setting: str
    qualifier: str | None = None
    invocation_type: InvocationType = InvocationType.SYNCHRONOUS
    log_tail: bool = False


def invoke_function(call: LambdaCall, context: ModuleContext) -> Any:
    """Call a function and return the JSON value that it returns; blocks for up to 15 minutes.

    An asynchronous call returns ``{"statusCode": 202}`` when Lambda has taken the event.

    Raises:
        TransientStepError: throttling, 5xx, a lost connection, no response in time.
        PermanentStepError: the function raised an error, whose type is the ``errorName``; the function does
            not exist; the payload is too large or the response is not JSON.
    """
    function = call.function
    if len(function) > _MAX_NAME or not _FUNCTION.fullmatch(function):
        raise PermanentStepError(
            f"{call.setting}: {shortened(function, _MAX_NAME)!r} is not the name or the ARN of a Lambda "
            "function. Write the name, or arn:aws:lambda:<region>:<account>:function:<name>."
        )
    resource = AwsResource("lambda", "Lambda function", call.setting, function, region_of_arn(function))
    parameters: dict[str, Any] = {"FunctionName": function, "Payload": _encode(call)}
    if call.invocation_type is not InvocationType.SYNCHRONOUS:
        parameters["InvocationType"] = call.invocation_type.value
    elif call.log_tail:
        parameters["LogType"] = "Tail"
    if call.qualifier is not None:
        parameters["Qualifier"] = call.qualifier
    with resource.translated(context, "Invoke"):
        response = resource.client(context).invoke(**parameters)
        body = response["Payload"].read()
    if call.invocation_type is InvocationType.ASYNCHRONOUS:
        return {"statusCode": response["StatusCode"]}
    _log_tail(response.get("LogResult"), function, context)
    if "FunctionError" in response:
        raise _function_error(function, response["FunctionError"], body)
    return _decoded(body, function)


def _encode(call: LambdaCall) -> bytes:
    try:
        payload = msgspec.json.encode(call.payload)
    except UnicodeEncodeError as error:
        raise PermanentStepError(
            "The payload contains broken Unicode (half of a surrogate pair), which cannot be sent. Remove it "
            "from the data."
        ) from error
    max_bytes = _MAX_BYTES[call.invocation_type]
    if len(payload) > max_bytes:
        raise PermanentStepError(
            f"The payload has {len(payload)} bytes, and Lambda accepts {max_bytes // MIB} MiB in this kind "
            "of call. Send a pointer: without customConfig.hydrateInputFromS3, pointers in the input are "
            "sent as they are.",
            details={"payloadBytes": len(payload), "maxPayloadBytes": max_bytes},
        )
    return payload


def _decoded(body: bytes, function: str) -> Any:
    if not body:
        return None
    try:
        return decode_json(body)
    except (NotJsonError, UnreadableJsonError) as error:
        raise PermanentStepError(
            f"The response of Lambda function {function!r} is not JSON: {error.reason}. Let the function "
            "return a JSON value."
        ) from error


def _function_error(function: str, kind: str, body: bytes) -> PermanentStepError:
    try:
        error = decode_json(body) if body else {}
    except (NotJsonError, UnreadableJsonError):
        error = {"errorMessage": body.decode(errors="replace")}
    fields: Mapping[str, Any] = error if isinstance(error, dict) else {"errorMessage": error}
    name, message = fields.get("errorType"), fields.get("errorMessage")
    error_type = shortened(printable(name), _MAX_NAME) if isinstance(name, str) and name else None
    shown = message if isinstance(message, str) else msgspec.json.encode(message).decode()
    details: dict[str, Any] = {
        "function": function,
        "functionError": kind,
        "errorType": error_type,
        "errorMessage": shortened(shown, _MAX_SHOWN),
    }
    trace = fields.get("trace", fields.get("stackTrace"))
    if isinstance(trace, list):
        details["trace"] = [shortened(str(line), _MAX_SHOWN) for line in trace[:_MAX_TRACE]]
    return PermanentStepError(
        f"Lambda function {function!r} failed: {error_type or kind}: {shortened(shown, _MAX_SHOWN)}",
        error_name=error_type,
        details=details,
    )


def _log_tail(encoded: str | None, function: str, context: ModuleContext) -> None:
    if not encoded:
        return
    try:
        tail = base64.b64decode(encoded).decode(errors="replace")
    except binascii.Error:
        return
    for line in tail.splitlines():
        context.log.info("%s (log of Lambda function %s)", printable(line), function)


class LambdaInvoke(AsyncHandler):
    """Handler of CUSTOM_LAMBDA_INVOKE; the output is what the function returns."""

    blocks_thread = True
    has_side_effects = True

    def __init__(self, step: CustomLambdaInvokeStep) -> None:
        self._function = compile_template(step.lambda_function_arn_template)
        self._module = step.module_identifier
        template = step.payload_template
        self._payload = (
            compile_context_mappings({name: {"sourceJsonPath": path} for name, path in template.items()})
            if template
            else None
        )
        self._config = compile_config(step.custom_config) if step.custom_config else None

    async def __call__(self, call: StepCall) -> Any:
        """Call the function and return its result.

        Raises:
            StepError: see ``invoke_function``.
        """
        config: Mapping[str, Any] = self._config.render(call.root(), call.load) if self._config else {}
        options = _options(config)
        root = {**call.context, **call.input}
        function = self._function.render(call.context, call.load).strip()
        invocation = LambdaCall(
            function, self._build_payload(call, root, config), "lambdaFunctionArnTemplate", **options
        )
        return await run_in_thread(call, invoke_function, invocation)

    def _build_payload(
        self, call: StepCall, root: Mapping[str, Any], config: Mapping[str, Any]
    ) -> dict[str, Any]:
        correlation = call.info.flow_execution_id
        if self._payload is not None:
            return {"correlationId": correlation, **self._payload.resolve(root, call.load)}
        step_input = _hydrated(call.input, call.load) if config.get("hydrateInputFromS3") else call.input
        payload = {"stepInput": step_input, "correlationId": correlation}
        return payload if self._module is None else {"moduleIdentifier": self._module, **payload}


def _hydrated(value: Any, load: LoadPointer) -> Any:
    """Return a value with the content of the pointers in it; pointers in that content stay."""
    content = resolve_pointer(value, load)
    if content is not value:
        return content
    if isinstance(value, dict):
        return {key: _hydrated(item, load) for key, item in value.items()}
    return [_hydrated(item, load) for item in value] if isinstance(value, list) else value


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the call that the custom config sets.

    Raises:
        PermanentStepError: one of them is not valid.
    """
    hydrate = config.get("hydrateInputFromS3")
    if hydrate is not None and not isinstance(hydrate, bool):
        raise PermanentStepError("customConfig.hydrateInputFromS3 must be true or false, without quotes.")
    kind = config.get("invocationType") or InvocationType.SYNCHRONOUS
    if kind not in frozenset(InvocationType):
        raise PermanentStepError(
            "customConfig.invocationType must be RequestResponse (wait for the result) or Event (do "
            "not wait)."
        )
    log_type = config.get("logType") or "None"
    if log_type not in {"None", "Tail"}:
        raise PermanentStepError("customConfig.logType must be Tail or None.")
    qualifier = config.get("qualifier")
    if qualifier is not None and not (isinstance(qualifier, str) and _QUALIFIER.fullmatch(qualifier)):
        raise PermanentStepError('customConfig.qualifier must be a version such as "3", or an alias.')
    return {
        "qualifier": qualifier,
        "invocation_type": InvocationType(kind),
        "log_tail": log_type == "Tail",
    }
