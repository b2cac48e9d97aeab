"""The end of ``airflow-allma run``: the actions that the flow does when a run has ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from airflow_allma.common.timestamps import iso_milliseconds
from airflow_allma.engine import SegmentStatus

if TYPE_CHECKING:
    from airflow_allma.engine import RunInfo, SegmentResult, Services
    from airflow_allma.flow import Flow

__all__ = ["run_completion_actions"]


async def run_completion_actions(
    flow: Flow, result: SegmentResult, info: RunInfo, services: Services
) -> None:
    """Run the actions of a run that has ended, one after the other; failures go to standard error.

    Args:
        flow: the flow.
        result: the run's result; that of a run that waits has no end yet.
        info: the run.
        services: what the actions can use.
    """
    if not flow.on_completion_actions or result.status is SegmentStatus.SUSPENDED:
        return
    from airflow_allma.engine.completion import (
        ActionStatus,
        FinalStatus,
        RunEnd,
        completion_actions,
        run_action,
        shown_payload,
    )
    from airflow_allma.flow import CompletionActionType

    failed = result.status is SegmentStatus.FAILED
    end = RunEnd(
        FinalStatus.FAILED if failed else FinalStatus.COMPLETED,
        iso_milliseconds(datetime.now(UTC)),
        error=result.error,
    )
    for action in completion_actions(flow):
        ended = await run_action(action, result.state, info, end, services)
        if ended.status is ActionStatus.FAILED:
            typer.echo(f"{ended.name} ({ended.kind.value}) failed: {ended.error}", err=True)
        elif ended.status is ActionStatus.DONE and ended.kind is CompletionActionType.LOG_ONLY:
            typer.echo(f"{ended.name}: {shown_payload(ended.payload or {}, services)}", err=True)
