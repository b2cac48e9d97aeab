"""Shows broken flows of this folder among Airflow's import errors: this file fails while there are any."""

from airflow_allma.dag_factory import report_problems

report_problems(__file__)
