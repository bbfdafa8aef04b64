"""Runs on tables to bundles: graphs of look-ups, compared with NumPy."""
