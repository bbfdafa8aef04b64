"""Latents per second on one core. Work: the bytes of the normals. Limit: a memory copy of as many."""

from __future__ import annotations

import numpy as np
from limits import memory_copy

from gen_engine.engine.identity.latents import LATENT_STREAM, Latents, philox_words

DIM = 64
ROWS = 50_000


def test_normals_on_one_core(against) -> None:
    """Unit: 3.2 million normals per round. Peer: the Philox words alone, which every transform needs."""
    rows = ROWS if against.real else 100
    latents = Latents(dim=DIM, seed=1)
    ratios = against(
        lambda: latents.draw(0, rows),
        lambda: philox_words(1, LATENT_STREAM, 0, rows * DIM // 8),
        rounds=30,
        limit=memory_copy(),
        work=rows * DIM * 4,
    )
    if against.real:
        median = against._benchmark.stats.stats.median
        against.require("million normals per second on one core", rows * DIM / median / 1e6, at_least=200)
    against.require_ratio("share of the speed of the bare Philox words", ratios, at_least=0.3)


def test_against_numpys_ziggurat(against) -> None:
    """Unit: 3.2 million normals per round. Peer: NumPy's, whose values cannot be addressed by index."""
    rows = ROWS if against.real else 100
    latents = Latents(dim=DIM, seed=1)
    generator = np.random.Generator(np.random.Philox(1))
    ratios = against(
        lambda: latents.draw(0, rows),
        lambda: generator.standard_normal(rows * DIM, dtype=np.float32),
        rounds=30,
    )
    against.require_ratio("speed over NumPy's standard_normal, float32", ratios, at_least=1.0)
