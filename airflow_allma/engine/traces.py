"""The trace of an item or a path: what each of its steps got and returned, as bounded JSON without secrets.

A step is an object of this form, here, in a chunk's stored traces and in XComs::

    {"step": "fetch", "type": "API_CALL", "input": {...}, "output": {...}, "next": "save", "tries": 1,
     "seconds": 0.123, "at": 1767225600.5, "calls": [{"service": "http", "method": "GET", "target": "https://...",
     "status": 200, "milliseconds": 98, "sent": 0, "received": 512}]}

A step that failed has ``error``, the four fields, in place of ``output``, or beside an output that
``outputValidation`` has refused. ``next`` is null at the end of the path, and where the run ended with the
error. ``flow`` is the flow of a step that another flow runs.
``within`` says where a step of a fork inside of the traced path ran: ``[{"fork", "branch", "item"}]``, the
outermost fork first. ``omittedCalls`` counts earlier calls. ``note`` says what is not known of a step that
ran in another task: ``seconds`` and ``at`` are then null. An input or output with too much JSON is
``{"$cut": "the beginning of its JSON", "$bytes": n}``. Of an error with too much, each field is cut that has
too much by itself, mostly ``errorDetails``: its name and message remain texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from airflow_allma.common.printable import shortened
from airflow_allma.engine.context_size import json_size_up_to
from airflow_allma.engine.masking import MAX_SHOWN_DEPTH, mask_secrets, mask_url
from airflow_allma.engine.outside_calls import AwsCall, HttpCall, MailCall, ModelCall, OutsideCall
from airflow_allma.engine.records import StepRecord
from airflow_allma.engine.secret_masks import SecretMasks

__all__ = ["MAX_TRACED_STEPS", "MAX_TRACE_BYTES", "TraceForm", "bound_steps", "shorten_step"]

MAX_TRACED_STEPS: Final = 100
"""Steps of a trace; of more, the first and the last fifty."""
MAX_TRACE_BYTES: Final = 256 << 10
"""Size of a trace, in bytes of JSON; steps in its middle are omitted beyond it."""

_MAX_TARGET: Final = 500
_MAX_RECIPIENTS: Final = 5
_PRUNED_AT: Final = 16
"""Values with this many times the bytes that are shown are not copied as a whole."""


class TraceForm:
    """Makes the JSON of traces.

    Args:
        masks: the secrets that the process knows.
        max_bytes: maximum size of each input, output or error, in bytes of JSON; of each field of an error
            that is larger.
        redact: masks further secrets in a JSON value, such as those that Airflow knows; None if there are
            none.
    """

    def __init__(
        self, masks: SecretMasks, max_bytes: int, redact: Callable[[Any], Any] | None = None
    ) -> None:
        self._masks = masks
        self._max_bytes = max(0, max_bytes)
        self._redact = redact

    @property
    def known_secrets(self) -> int:
        """How many secrets are masked: traces that were made with fewer have to be masked again."""
        return self._masks.count

    def step(self, record: StepRecord) -> dict[str, Any]:
        """Return the trace of one step."""
        trace: dict[str, Any] = {"step": record.step_id, "type": record.step_type}
        if record.flow_id is not None:
            trace["flow"] = record.flow_id
        if record.within:
            trace["within"] = [
                {"fork": fork, "branch": branch, "item": item} for fork, branch, item in record.within
            ]
        trace["input"] = None if record.input is None else self.value(record.input)
        if record.error is None or record.output is not None:
            trace["output"] = self.value(record.output)
        if record.error is not None:
            trace["error"] = self._error(record.error)
        trace["next"] = record.next_step
        trace["tries"] = record.tries
        trace["seconds"] = round(record.seconds, 6)
        trace["at"] = round(record.at, 3)
        trace["calls"] = [self._call(call) for call in record.calls.last]
        if omitted := record.calls.count - len(trace["calls"]):
            trace["omittedCalls"] = omitted
        return trace

    def value(self, value: Any) -> Any:
        """Return a JSON value without secrets; its beginning if it is too large."""
        limit = _PRUNED_AT * max(self._max_bytes, 1024)
        size = json_size_up_to(value, limit)
        is_pruned = size > limit
        shown = _Pruning(self._masks, limit).copy(value) if is_pruned else self._masks.json(value)
        shown = mask_secrets(shown)
        if self._redact is not None:
            shown = self._redact(shown)
        encoded = self._redacted(_encoded(shown))
        if is_pruned:
            size = json_size_up_to(value, 1 << 62)
        elif len(encoded) <= self._max_bytes:
            return msgspec.json.decode(encoded)
        else:
            size = len(encoded)
        return {"$cut": encoded[: self._max_bytes].decode(errors="ignore"), "$bytes": size}

    def _error(self, error: Mapping[str, Any]) -> Any:
        shown = self.value(error)
        return {name: self.value(member) for name, member in error.items()} if _is_cut(shown) else shown

    def mask_again(self, traces: Sequence[Any]) -> list[Any]:
        """Mask secrets that have become known since these traces of steps were made."""
        masked = self._masks.json(traces)
        return [_without_ends(trace, self._masks.longest) for trace in masked]

    def _redacted(self, encoded: bytes) -> bytes:
        """Mask a secret that Airflow knows at any depth, and in keys."""
        if self._redact is None:
            return encoded
        text = encoded.decode()
        redacted = self._redact(text)
        if redacted == text or not isinstance(redacted, str):
            return encoded
        try:
            msgspec.json.decode(redacted)
        except msgspec.DecodeError:
            return msgspec.json.encode(redacted)
        return redacted.encode()

    def _call(self, call: OutsideCall) -> dict[str, Any]:
        shown: dict[str, Any]
        sizes: dict[str, Any]
        if isinstance(call, HttpCall):
            shown = {"service": "http", "method": call.method, "target": self._target(mask_url(call.url))}
            shown["status"] = call.status
            sizes = {"sent": call.bytes_sent, "received": call.bytes_received}
        elif isinstance(call, AwsCall):
            shown = {"service": call.service, "operation": call.operation}
            shown["target"] = self._target(mask_url(call.resource))
            sizes = {"requestId": call.request_id or None}
        elif isinstance(call, MailCall):
            recipients = ", ".join(call.recipients[:_MAX_RECIPIENTS])
            more = len(call.recipients) - _MAX_RECIPIENTS
            shown = {"service": "mail", "operation": "send"}
            shown["target"] = self._target(recipients + (f" and {more} more" if more > 0 else ""))
            sizes = {"requestId": call.message_id or None}
        elif isinstance(call, ModelCall):
            shown = {"service": "model", "operation": "cached answer" if call.is_cached else "answer"}
            shown["target"] = self._target(call.model)
            sizes = {"inputTokens": call.input_tokens, "outputTokens": call.output_tokens}
        else:
            shown = {"service": "mcp", "operation": self._target(call.tool)}
            shown["target"] = self._target(call.server)
            sizes = {}
        shown["milliseconds"] = round(call.milliseconds, 1)
        shown |= {name: value for name, value in sizes.items() if value is not None}
        if call.error is not None:
            shown["error"] = call.error
        return shown

    def _target(self, text: str) -> str:
        text = self._masks.text(text)
        if self._redact is not None:
            text = str(self._redact(text))
        return shortened(text, _MAX_TARGET).encode(errors="replace").decode()


class _Pruning:
    """Copies the beginning of a large value, with secrets masked before anything is cut."""

    def __init__(self, masks: SecretMasks, budget: int) -> None:
        self._masks = masks
        self._left = budget

    def copy(self, value: Any, depth: int = MAX_SHOWN_DEPTH) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping) and depth:
            copied: dict[str, Any] = {}
            for key, member in value.items():
                if self._left <= 0:
                    break
                # Before its value, which can leave nothing for it: names tell what to mask.
                name = self._text(str(key))
                copied[name] = self.copy(member, depth - 1)
            return copied
        if isinstance(value, list | tuple) and depth:
            members: list[Any] = []
            for member in value:
                if self._left <= 0:
                    break
                members.append(self.copy(member, depth - 1))
            return members
        self._left -= 4
        return "..." if isinstance(value, Mapping | list | tuple) else value

    def _text(self, text: str) -> str:
        left = max(0, self._left)
        self._left -= len(text) + 3
        if len(text) <= left:
            return self._masks.text(text)
        longest = self._masks.longest
        masked = self._masks.text(text[: left + longest])
        # Its end can be the beginning of a secret.
        return masked[:-longest] if longest else masked


def bound_steps(steps: Sequence[Any], omitted: int = 0) -> tuple[list[Any], int]:
    """Return the steps of a trace without those in its middle that are too many, and how many were omitted.

    Args:
        steps: traces of steps.
        omitted: how many were omitted before.
    """
    half = MAX_TRACED_STEPS // 2
    kept = list(steps)
    if len(kept) > MAX_TRACED_STEPS:
        kept = [*kept[:half], *kept[-half:]]
    sizes = [len(_encoded(step)) for step in kept]
    while len(kept) > 1 and sum(sizes) > MAX_TRACE_BYTES:
        middle = len(kept) // 2 - (len(kept) % 2 == 0)
        del kept[middle], sizes[middle]
    return kept, omitted + len(steps) - len(kept)


def shorten_step(step: Mapping[str, Any], max_bytes: int) -> dict[str, Any]:
    """Return the trace of a step with a smaller maximum size of its input, output and error."""
    shortened_step = dict(step)
    for name in ("input", "output"):
        if name in step:
            shortened_step[name] = _shorten_value(step[name], max_bytes)
    error = step.get("error")
    if error is not None:
        shown = _shorten_value(error, max_bytes)
        if _is_cut(shown) and isinstance(error, dict) and not _is_cut(error):
            shown = {name: _shorten_value(member, max_bytes) for name, member in error.items()}
        shortened_step["error"] = shown
    return shortened_step


def _is_cut(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"$cut", "$bytes"}


def _shorten_value(value: Any, max_bytes: int) -> Any:
    if _is_cut(value):
        cut, size = str(value["$cut"]).encode(), value["$bytes"]
    else:
        cut = _encoded(value)
        size = len(cut)
    if len(cut) <= max_bytes:
        return value
    return {"$cut": cut[:max_bytes].decode(errors="ignore"), "$bytes": size}


def _without_ends(value: Any, longest: int) -> Any:
    """Shorten texts that were cut: their ends can be the beginnings of secrets."""
    if isinstance(value, dict):
        cut = value.get("$cut")
        if isinstance(cut, str) and "$bytes" in value and longest:
            return {**value, "$cut": cut[:-longest]}
        return {key: _without_ends(member, longest) for key, member in value.items()}
    if isinstance(value, list):
        return [_without_ends(member, longest) for member in value]
    return value


def _encoded(value: Any) -> bytes:
    """Return the JSON of a value, whatever it contains."""
    try:
        return msgspec.json.encode(value, enc_hook=str)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError, OverflowError):
        text = json.dumps(value, ensure_ascii=False, default=str, skipkeys=True, separators=(",", ":"))
        # JSON has neither halves of surrogate pairs nor NaN, whatever Python writes.
        valid = json.loads(text.encode(errors="replace"), parse_constant=lambda _: None, parse_int=_number)
        return json.dumps(valid, separators=(",", ":")).encode()


def _number(digits: str) -> int | str:
    """Return an integer; a string of its digits if it is too large for most readers of JSON."""
    return int(digits) if len(digits) < 19 else digits
