"""Selecting the one flow of a file that a command is about."""

from __future__ import annotations

from pathlib import Path

import typer

from airflow_allma.cli.cli_secrets import allowed_notifiers, allowed_secrets, external_modules
from airflow_allma.flow import NO_DEPLOY_VARIABLES, DeployVariables, FlowSource
from airflow_allma.loading import load_flow_files

__all__ = ["select_flow"]


def select_flow(
    path: Path, flow_id: str | None, deploy: DeployVariables = NO_DEPLOY_VARIABLES
) -> FlowSource | None:
    """Return the flow, or None after printing the reason to standard error.

    Args:
        path: the file.
        flow_id: which flow; None for the only one.
        deploy: the values of placeholders in flow variables.
    """
    loaded = load_flow_files(
        [path], allowed_secrets(), allowed_notifiers(), deploy=deploy, external_modules=external_modules()
    )
    for problem in loaded.problems:
        typer.echo(str(problem), err=True)
    if flow_id is None and any(problem.is_error for problem in loaded.problems):
        return None
    flows = {source.flow.id: source for source in loaded.flows}
    if flow_id is not None:
        if flow_id not in flows:
            typer.echo(
                f"{path}: no valid flow {flow_id!r}; valid flows: {', '.join(flows) or 'none'}", err=True
            )
        return flows.get(flow_id)
    if not flows:
        typer.echo(f"{path}: no flow that runs", err=True)
        return None
    if len(flows) != 1:
        typer.echo(
            f"{path}: {len(flows)} flows that run; choose one with --flow: {', '.join(flows)}", err=True
        )
        return None
    return next(iter(flows.values()))
