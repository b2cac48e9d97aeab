"""Speed, measured as ratios against something run in the same call: ``python -m benchmarks NAME``."""
