"""Benchmarks on shared machines: interleaved rounds, calibration, statistics, baseline records, latency. NumPy only."""
