"""Forbidden strings: what the answer of a model must not contain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from airflow_allma.common.printable import printable, shortened
from airflow_allma.exceptions import PermanentStepError

__all__ = ["SECURITY_VIOLATION", "check_answer"]

SECURITY_VIOLATION: Final = "SecurityViolationError"
"""The ``errorName`` of an answer with a forbidden string."""

_MAX_SHOWN: Final = 80


def check_answer(forbidden: Sequence[str], text: str | None, output: Any) -> None:
    """Check that an answer contains no forbidden string, in upper or lower case.

    Args:
        forbidden: the strings.
        text: the answer as the model wrote it.
        output: the step's output, without ``_meta``; JSON can hide a string with escapes in the text.

    Raises:
        PermanentStepError: the answer contains one; the error's name is ``SecurityViolationError``.
    """
    wanted = {string.casefold(): string for string in forbidden if string}
    if not wanted:
        return
    for part in _strings((text, output)):
        folded = part.casefold()
        for string, written in wanted.items():
            if string in folded:
                shown = shortened(printable(written), _MAX_SHOWN)
                raise PermanentStepError(
                    f"The answer of the model contains {shown!r}, which "
                    "securityValidatorConfig.forbiddenStrings forbids. Change the prompt, or "
                    "remove the string from the list.",
                    error_name=SECURITY_VIOLATION,
                    details={"forbiddenString": shown},
                )


def _strings(root: Any) -> Iterator[str]:
    """Yield the strings in a JSON value, the names of members included."""
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting.extend(_members(value))
        elif isinstance(value, list | tuple):
            waiting.extend(value)


def _members(value: dict[Any, Any]) -> Iterable[Any]:
    return (*value.keys(), *value.values())
