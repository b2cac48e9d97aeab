"""Declarative, massively parallel Allma flows on Apache Airflow."""

from __future__ import annotations

__version__ = "0.2.0"
