"""Makes an Airflow Dag of every flow in this folder."""

from airflow_allma.dag_factory import load_flows

globals().update(load_flows(__file__))
