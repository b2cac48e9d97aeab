"""Errors that ``onError.retries`` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from airflow_allma.common.misspelling import SpellingIndex
from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import quoted
from airflow_allma.flow.lints.lint import FlowView, Warnings, lint, warning
from airflow_allma.flow.tree_walk import ANY, Pattern, select

__all__ = ["ERROR_NAMES", "unknown_errors"]

ERROR_NAMES: Final = (
    "BranchResultLost",
    "ContentBasedRetryableError",
    "ParallelBranchExecutionError",
    "PartialUpdateError",
    "PermanentStepError",
    "PollingFailed",
    "StepLostError",
    "StepTimeoutError",
    "TaskTimeout",
    "TransientStepError",
    "WaitTimeout",
)
"""The names of errors that this package raises; AWS services and functions have others."""

_ALL: Final = "leave `errorEquals` out to retry every error that a retry may help against"
_ELSEWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("*", "ALL", "Error", "Exception", "States.ALL", "States.TaskFailed"), _ALL),
    **dict.fromkeys(("States.Timeout", "Timeout", "TimeoutError"), "a timeout here is `StepTimeoutError`"),
    "States.HeartbeatTimeout": "a timeout here is `StepTimeoutError`",
    "States.Permissions": "errors that no retry helps against are `PermanentStepError`",
}
"""Names of other systems -> what to write here."""
_OWN_ERRORS_ONLY: Final = frozenset({"API_CALL", "NO_OP", "PARALLEL_FORK_MANAGER"})
"""The types of steps that call no AWS service, no function and no module of the installation."""
_NAMES: Final[Pattern] = ("retries", "errorEquals", ANY)
_SPELLING: Final = SpellingIndex(ERROR_NAMES)
_MAX_NAMES: Final = 4


@lint(fields=("onError", "defaultStepConfig"))
def unknown_errors(view: FlowView) -> Warnings:
    """Yield names in ``errorEquals`` that no error of the step can have."""
    default = select(view.flow, ("defaultStepConfig", "defaultErrorHandler", *_NAMES))
    named = [(path, name, "") for path, name in default]
    for step in view.steps:
        if "onError" in step.step:
            found = select(step.step["onError"], _NAMES, (*step.path, "onError"))
            kind = "" if step.runs_own_module else step.kind
            named += [(path, name, kind) for path, name in found]
    for path, name, kind in named:
        if isinstance(name, str) and (cure := _cure(name, kind)):
            yield warning(path, f"no error is called {quoted(name)}; {cure}")


def _cure(name: str, kind: str) -> str | None:
    if name in ERROR_NAMES:
        return None
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    is_own = kind in _OWN_ERRORS_ONLY
    if guess := _SPELLING.find(name) or (nearest(name, ERROR_NAMES) if is_own else None):
        return f"did you mean {quoted(guess)}?"
    if not is_own:
        return None
    if kind == "API_CALL":
        return "HTTP 429 and 5xx are `TransientStepError`, other 4xx are `PermanentStepError`"
    return f"the errors of {kind} are {', '.join(map(quoted, ERROR_NAMES[-_MAX_NAMES:]))}"
