"""``airflow-allma validate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from airflow_allma.cli.cli_secrets import allowed_notifiers, allowed_secrets, external_modules
from airflow_allma.flow import NO_DEPLOY_VARIABLES, DeployVariables
from airflow_allma.loading import load_flow_files

__all__ = ["validate_paths"]


def validate_paths(paths: Sequence[Path], deploy: DeployVariables = NO_DEPLOY_VARIABLES) -> int:
    """Print all problems to standard output and a summary to standard error.

    Args:
        paths: files and folders.
        deploy: the values of placeholders in flow variables.

    Returns:
        The exit code: 1 when there is an error, 0 when there are at most warnings.
    """
    loaded = load_flow_files(
        paths, allowed_secrets(), allowed_notifiers(), deploy=deploy, external_modules=external_modules()
    )
    if not loaded.files:
        folders = ", ".join(map(str, paths))
        typer.echo(f"no flow files found in {folders}; flow files are JSON files, *.json", err=True)
    for problem in loaded.problems:
        typer.echo(str(problem))
    errors = sum(problem.is_error for problem in loaded.problems)
    typer.echo(
        f"{len(loaded.files)} files, {len(loaded.flows)} flows that run, {errors} errors, "
        f"{len(loaded.problems) - errors} warnings",
        err=True,
    )
    return 1 if errors else 0
