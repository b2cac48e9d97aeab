"""A real Airflow and its servers, on this machine only, for the demo, the tests and the benchmarks."""
