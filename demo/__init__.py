"""A real Airflow and the servers around it, on this machine only: for demo, tests and benchmarks."""
