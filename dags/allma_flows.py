"""Builds an Airflow Dag from every flow in this folder."""

from airflow_allma import load_flows

globals().update(load_flows(__file__))
