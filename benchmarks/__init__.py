"""Measurements of jal; `python -m benchmarks` runs them and prints one table."""
