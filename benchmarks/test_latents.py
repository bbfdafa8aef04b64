"""Latents per second on one core. Work: the bytes of the normals. Limit: a memory copy of as many."""

from __future__ import annotations

import numpy as np
from limits import memory_copy
from numpy_only import numpy_only

from gen_engine.engine.identity.latents import Latents

DIM = 64
ROWS = 50_000


def test_normals_on_one_core(against) -> None:
    """Unit: 3.2 million normals per round. Peer: the same bits in NumPy."""
    rows = ROWS if against.real else 100
    latents = Latents(dim=DIM, seed=1)

    def in_numpy() -> None:
        with numpy_only():
            latents.draw(0, rows)

    ratios = against(lambda: latents.draw(0, rows), in_numpy, rounds=30, limit=memory_copy(), work=rows * DIM * 4)
    if against.real:
        median = against._benchmark.stats.stats.median
        against.require("million normals per second on one core", rows * DIM / median / 1e6, at_least=400)
    against.require_ratio("speed over the same in NumPy", ratios, at_least=2.5)


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
