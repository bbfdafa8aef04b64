"""Metrics: each answers one of three questions about a dataset, with intervals."""

from __future__ import annotations

from gen_engine.engine.base.registry import Registry
from gen_engine.engine.errors import RequestError

METRICS = Registry(
    "gen_engine.metrics",
    "metric",
    RequestError,
    {
        "usefulness": "gen_engine.evaluate.metrics.usefulness:Usefulness",
        "budgets": "gen_engine.evaluate.metrics.budgets:Budgets",
        "frechet": "gen_engine.evaluate.metrics.frechet:Frechet",
        "kernel": "gen_engine.evaluate.metrics.kernel:Kernel",
        "manifold": "gen_engine.evaluate.metrics.manifold:Manifold",
        "two-sample": "gen_engine.evaluate.metrics.two_sample:TwoSample",
        "columns": "gen_engine.evaluate.metrics.columns:Columns",
        "pairs": "gen_engine.evaluate.metrics.pairs:Pairs",
        "membership": "gen_engine.evaluate.metrics.membership:Membership",
        "copies": "gen_engine.evaluate.metrics.copies:Copies",
        "attributes": "gen_engine.evaluate.metrics.attributes:Attributes",
        "nearest": "gen_engine.evaluate.metrics.nearest:Nearest",
    },
)
"""Values of ``--metrics``; a package adds one by an entry point in the group ``gen_engine.metrics``."""
