"""A real Airflow, and the servers around it, on this machine only: for the demo, the tests and the benchmarks."""
