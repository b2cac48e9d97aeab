"""``python -m airflow_allma`` is the same as ``airflow-allma``."""

from __future__ import annotations

from airflow_allma.cli import main

main()
