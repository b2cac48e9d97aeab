"""The two example flows as Airflow Dags.

``airflow-allma init FOLDER --examples`` copies the flows into a folder.
"""

from __future__ import annotations

from airflow_allma import load_flows

globals().update(load_flows(__file__))
