"""Where a pytest config keeps the running Airflow of its session."""

from __future__ import annotations

import pytest

from demo.airflow_instance import AirflowInstance

__all__ = ["RUNNING_AIRFLOW"]

RUNNING_AIRFLOW = pytest.StashKey[AirflowInstance]()
