"""Flows as Airflow Dags: how steps become tasks, and the Dags that are built from them."""

from __future__ import annotations
