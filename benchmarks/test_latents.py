"""Latents per second on one core. Work: the bytes of the normals. Limit: a memory copy of as many."""

from __future__ import annotations

import numpy as np
from limits import memory_copy
from numpy_only import numpy_only

from gen_engine.engine.identity.latents import Latents

DIM = 64
DRAWS = 10
ROWS = 500
"""Samples of a draw, about as many as a job draws at once; larger draws are up to a tenth faster. Rounds are short:
most of them then end within a time slice of a busy machine."""


def test_normals_on_one_core(against) -> None:
    """Unit: 320,000 normals per round. Peer: the same bits in NumPy."""
    draws = DRAWS if against.real else 1
    latents, normals = Latents(dim=DIM, seed=1), draws * ROWS * DIM

    def draw() -> None:
        for first in range(0, draws * ROWS, ROWS):
            latents.draw(first, first + ROWS)

    def in_numpy() -> None:
        with numpy_only():
            draw()

    ratios = against(draw, in_numpy, rounds=200, limit=memory_copy(), work=normals * 4)
    if against.real:
        median = against._benchmark.stats.stats.median
        against.require("million normals per second on one core", normals / median / 1e6, at_least=400)
    against.require_ratio("speed over the same in NumPy", ratios, at_least=2.5)


def test_against_numpys_ziggurat(against) -> None:
    """Unit: 320,000 normals per round. Peer: NumPy's, whose values cannot be addressed by index."""
    draws = DRAWS if against.real else 1
    latents = Latents(dim=DIM, seed=1)
    generator = np.random.Generator(np.random.Philox(1))
    ratios = against(
        lambda: [latents.draw(first, first + ROWS).size for first in range(0, draws * ROWS, ROWS)],
        lambda: [generator.standard_normal((ROWS, DIM), dtype=np.float32).size for _ in range(draws)],
        rounds=200,
    )
    against.require_ratio("speed over NumPy's standard_normal, float32", ratios, at_least=1.0)
