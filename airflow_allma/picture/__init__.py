"""Pictures of flows: nodes and edges with coordinates, and SVG. Knows neither Airflow nor runs."""

from __future__ import annotations

from airflow_allma.picture.flow_picture import draw_flow
from airflow_allma.picture.shapes import Edge, EdgeKind, Node, NodeKind, Picture
from airflow_allma.picture.svg import render_svg

__all__ = ["Edge", "EdgeKind", "Node", "NodeKind", "Picture", "draw_flow", "render_svg"]
