"""Measuring on machines that others use too: turns, calibration, statistics, records, latency. NumPy only."""
