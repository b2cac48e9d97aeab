"""Which calls boto3 clients made, for the records of steps: hooks report each call to its caller.

Clients are shared between steps and threads. An observer therefore belongs to the code that makes the calls:
``observed`` sets it for one function call, and the hooks of a watched client look it up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from time import perf_counter
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

__all__ = ["AwsCall", "observed", "watch_client"]

_T = TypeVar("_T")

_OBSERVER: ContextVar[Callable[[AwsCall], None] | None] = ContextVar("allma_aws_observer", default=None)
_NOTE: Final = "allma_call"
"""The key of botocore's context of a call under which its beginning is noted."""

_RESOURCE_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "bedrock-runtime": ("modelId",),
        "dynamodb": ("TableName",),
        "lambda": ("FunctionName",),
        "sns": ("TopicArn", "TargetArn"),
        "sqs": ("QueueUrl",),
    }
)


class AwsCall(msgspec.Struct, frozen=True, gc=False):
    """One call of an AWS API, with the retries that the client itself made.

    Attributes:
        service: boto3's name of the service, such as ``dynamodb``.
        operation: the API's operation, such as ``UpdateItem``.
        resource: what was called: a table, a queue's URL, ``s3://bucket/key``; empty if the call names none.
        request_id: AWS's id of the request; empty without a response.
        milliseconds: duration.
        error: AWS's error code, or the exception's name without a response; None for success.
    """

    service: str
    operation: str
    resource: str
    request_id: str
    milliseconds: float
    error: str | None = None


def observed(observer: Callable[[AwsCall], None], function: Callable[..., _T], *args: Any) -> _T:
    """Call a function, and report each call that watched clients make in it, in this thread.

    Args:
        observer: called after each call of an API, successful or not.
        function: makes the calls.
        args: its arguments.
    """
    token = _OBSERVER.set(observer)
    try:
        return function(*args)
    finally:
        _OBSERVER.reset(token)


def watch_client(client: Any) -> None:
    """Make a boto3 client report its calls to the observer of the code that calls it.

    A client of another kind, such as a fake, reports nothing.
    """
    meta = getattr(client, "meta", None)
    if meta is None:
        return
    events = meta.events
    events.register("before-parameter-build", _note_start)
    events.register("after-call", _report_response)
    events.register("after-call-error", _report_exception)


def _note_start(params: Mapping[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
    if _OBSERVER.get() is None:
        return
    service = model.service_model.service_name
    context[_NOTE] = (perf_counter(), service, model.name, _resource(service, params))


def _report_response(parsed: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
    response = parsed.get("ResponseMetadata", {})
    failed = response.get("HTTPStatusCode", 200) >= 300
    error = parsed.get("Error", {}).get("Code", "Unknown") if failed else None
    _report(context, str(response.get("RequestId", "")), error)


def _report_exception(exception: Exception, context: dict[str, Any], **_: Any) -> None:
    _report(context, "", type(exception).__name__)


def _report(context: dict[str, Any], request_id: str, error: str | None) -> None:
    observer, note = _OBSERVER.get(), context.get(_NOTE)
    if observer is not None and note is not None:
        started, service, operation, resource = note
        milliseconds = (perf_counter() - started) * 1000
        observer(AwsCall(service, operation, resource, request_id, milliseconds, error))


def _resource(service: str, params: Mapping[str, Any]) -> str:
    if service == "s3" and "Bucket" in params:
        return f"s3://{params['Bucket']}/{params.get('Key', params.get('Prefix', ''))}"
    names = _RESOURCE_PARAMETERS.get(service, ())
    return next((str(params[name]) for name in names if name in params), "")
