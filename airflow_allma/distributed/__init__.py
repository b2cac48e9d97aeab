"""The distributed map: how a fork's items are split into chunks, run, written and joined.

Nothing here imports Airflow. Operators and the command line both build on it.
"""

from __future__ import annotations

__all__: list[str] = []
