"""What ``airflow-allma run`` prints at the end."""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import Any, Final

import msgspec
import typer

from airflow_allma.common.printable import printable
from airflow_allma.engine import SegmentResult, SegmentStatus
from airflow_allma.exceptions import AllmaError, PermanentStepError
from airflow_allma.expressions import NOTHING
from airflow_allma.storage import encode_value

__all__ = ["print_answer", "print_result"]

_EXIT_CODES: Final = MappingProxyType({"COMPLETED": 0, "FAILED": 1, "SUSPENDED": 3})
_SHOWN_WAITS: Final = 20


def print_result(result: SegmentResult, *, step: str | None, pretty: bool) -> int:
    """Print the result of a run to standard output, and what it waits for to standard error.

    Args:
        result: of the run.
        step: the only step that ran; None for a run to the end.
        pretty: whether the result is indented.

    Returns:
        The exit code.
    """
    state = result.state
    # A step that runs alone leaves the run at the next one.
    status = "COMPLETED" if result.status is SegmentStatus.LEFT else result.status.value
    answer: dict[str, Any] = {
        "status": status,
        "error": result.error,
        "path": state.path,
        "context": state.context,
    }
    if step is not None:
        answer["output"] = None if state.last_output is NOTHING else state.last_output
        answer["next"] = state.next_step if status == "COMPLETED" else None
    if result.waits:
        answer["waits"] = [wait.to_dict() for wait in result.waits]
        for wait in result.waits[:_SHOWN_WAITS]:
            typer.echo(f"step {wait.step_id} waits for the event {printable(wait.key)}", err=True)
        if len(result.waits) > _SHOWN_WAITS:
            typer.echo(f"and for {len(result.waits) - _SHOWN_WAITS} more", err=True)
        typer.echo('pass it with --event \'KEY={"name": "value"}\'', err=True)
    return print_answer(answer, pretty=pretty)


def print_answer(answer: dict[str, Any], *, pretty: bool) -> int:
    """Print the result of a run, without its data if that cannot be printed; return the exit code."""
    try:
        line = encode_value(answer)
    except (AllmaError, MemoryError, RecursionError) as error:
        unprintable = PermanentStepError(
            f"The run's data cannot be printed. {error or type(error).__name__}"
        ).as_dict()
        answer = {"status": "FAILED", "error": unprintable, "path": answer["path"], "context": {}}
        line = encode_value(answer)
    if pretty:
        line = msgspec.json.format(line, indent=2)
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.flush()
    return _EXIT_CODES[answer["status"]]
