"""JSON output of models: found in the text of an answer, repaired if it is broken, and parsed."""

from __future__ import annotations

import re
from typing import Any, Final

from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, decode_json
from airflow_allma.common.printable import printable, shortened
from airflow_allma.exceptions import ContentBasedRetryableError

__all__ = ["parse_json_output"]

_MAX_SHOWN: Final = 200
_MAX_REPAIRED: Final = 1 << 17
"""Characters of broken JSON that are repaired; repairing takes much longer than parsing."""

_FENCE: Final = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL)
_BRACKETS: Final = {"{": "}", "[": "]"}


def parse_json_output(text: str | None, *, is_cut: bool, max_output_tokens: int) -> Any:
    """Return the JSON value in the answer of a model; for a long answer that takes seconds.

    If the whole answer is not JSON, the content of its code fence is used, or else what is between its first
    and last bracket. If that is broken JSON, it is repaired: missing or wrong quotes, missing commas and
    brackets, comments.

    Args:
        text: the answer.
        is_cut: whether the answer was cut at the token limit. It is then not repaired, as that would hide
            that its end is missing.
        max_output_tokens: that limit, for the message.

    Raises:
        ContentBasedRetryableError: the answer is empty, prose, cut, or JSON that cannot be repaired.
    """
    if text is None or not text.strip():
        raise _error("The answer of the model is empty, but customConfig.jsonOutputMode needs JSON.", text)
    whole = text.strip()
    candidate = ""
    for attempt in range(2):
        # Most answers are JSON as they are.
        candidate = _candidate(text) if attempt else whole
        try:
            return decode_json(candidate.encode())
        except (NotJsonError, UnreadableJsonError, UnicodeEncodeError):
            continue
    if is_cut:
        raise _error(
            f"The JSON of the answer ends at the limit of {max_output_tokens} tokens. Raise "
            "inferenceParameters.maxOutputTokens, or ask for less.",
            text,
        )
    if candidate[:1] not in _BRACKETS:
        raise _error(
            "The answer of the model is not JSON. Ask for a JSON object in the prompt, and show one.", text
        )
    return _repaired(candidate, text)


def _candidate(text: str) -> str:
    """Return the part of the text that is most likely JSON, without white space around it."""
    fence = _FENCE.search(text)
    inner = fence.group(1).strip() if fence else ""
    if inner[:1] in _BRACKETS:
        return inner
    starts = [position for bracket in _BRACKETS if (position := text.find(bracket)) >= 0]
    if not starts:
        return text.strip()
    start = min(starts)
    end = max(text.rfind(bracket) for bracket in _BRACKETS.values())
    # Without a closing bracket use the rest, which the repair completes.
    return text[start : end + 1] if end > start else text[start:].strip()


def _repaired(candidate: str, text: str) -> Any:
    if len(candidate) > _MAX_REPAIRED:
        raise _error(
            f"The answer is broken JSON of {len(candidate)} characters, too many to repair. Ask for less.",
            text,
        )
    try:
        from airflow_allma.engine.llm.json_repairer import RepairLimitError, repaired_json
    except ImportError:
        raise _error(
            "The answer is broken JSON. Install airflow-allma[llm] on the workers, so that it is repaired.",
            text,
        ) from None
    try:
        value = decode_json(repaired_json(candidate).encode())
    except RepairLimitError:
        raise _error("The answer is JSON that is too broken to repair.", text) from None
    except (NotJsonError, UnreadableJsonError, UnicodeEncodeError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict | list) or not value:
        raise _error(
            "The answer is broken JSON that cannot be repaired. Show an example of the JSON in the prompt.",
            text,
        )
    return value


def _error(message: str, text: str | None) -> ContentBasedRetryableError:
    answer = shortened(printable(text or ""), _MAX_SHOWN)
    return ContentBasedRetryableError(
        f"{message} The answer begins: {answer}" if answer.strip() else message,
        details={"answer": answer},
    )
