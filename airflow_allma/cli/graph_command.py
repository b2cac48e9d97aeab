"""``airflow-allma graph``."""

from __future__ import annotations

from pathlib import Path

import typer

from airflow_allma.cli.deploy_option import read_deploy_options
from airflow_allma.cli.select_flow import select_flow
from airflow_allma.dag_factory.plan import plan_tasks
from airflow_allma.dag_factory.plan.drawing import draw_mermaid, draw_text
from airflow_allma.picture import draw_flow, render_svg

__all__ = ["draw_flow_file"]


def draw_flow_file(path: Path, flow_id: str | None, *, svg: bool = False) -> int:
    """Print the tasks as text, then as Mermaid; or the steps as SVG.

    Returns:
        The exit code: 0, or 2 when the flow is not valid.
    """
    source = select_flow(path, flow_id, read_deploy_options(()))
    if source is None:
        return 2
    if svg:
        typer.echo(render_svg(draw_flow(source.flow), source.flow.name or source.flow.id), nl=False)
        return 0
    plan = plan_tasks(source.flow)
    typer.echo(draw_text(plan))
    typer.echo(draw_mermaid(plan), nl=False)
    return 0
