"""Shows broken flows of this folder as Airflow import errors; defines no Dag itself."""

from airflow_allma import report_problems

report_problems(__file__)
