"""Precision, recall, density and coverage against their definitions, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

from gen_engine.evaluate.metrics.distances import prepare
from gen_engine.evaluate.metrics.manifold import compare, radii


def by_pairs(real, synthetic, k):
    """Return the figures as the papers define them, balls with their surface."""

    def apart(a, b):
        return float(np.sqrt(np.sum((a.astype(np.float64) - b) ** 2)))

    def radius(rows):
        return [sorted(apart(a, b) for j, b in enumerate(rows) if j != i)[k - 1] for i, a in enumerate(rows)]

    real_radius, synthetic_radius = radius(real), radius(synthetic)
    inside = np.array([[apart(x, y) <= real_radius[i] for y in synthetic] for i, x in enumerate(real)])
    back = np.array([[apart(x, y) <= synthetic_radius[j] for j, y in enumerate(synthetic)] for x in real])
    return {
        "precision": inside.any(0).mean(),
        "recall": back.any(1).mean(),
        "density": inside.sum() / (k * len(synthetic)),
        "coverage": inside.any(1).mean(),
    }


def drawn(kind, rng, count):
    rows = rng.normal(size=(count, 3))
    if kind == "ties":
        rows = np.round(rows)
    if kind == "duplicates":
        rows = rows[rng.integers(0, 12, count)]
    return rows.astype(np.float32)


@pytest.mark.parametrize("kind", ["continuous", "ties", "duplicates"])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("copied", [0, 25])
def test_they_are_the_definitions(kind, k, copied):
    rng = np.random.default_rng(k)
    real, synthetic = drawn(kind, rng, 70), drawn(kind, rng, 60)
    synthetic[:copied] = real[:copied]
    points, others = prepare(real, synthetic)
    found = compare(points, radii(points, k), others, k)
    assert found == pytest.approx(by_pairs(real, synthetic, k), rel=1e-12)


def test_worked_by_hand():
    """Real 0, 1, 3 with radii 1, 1, 2; synthetic 1.5, 10, 11 with radii 8.5, 1, 1."""
    points, others = prepare(np.float32([[0], [1], [3]]), np.float32([[1.5], [10], [11]]))
    assert radii(points, 1).tolist() == [1, 1, 2]
    assert compare(points, radii(points, 1), others, 1) == pytest.approx(
        {"precision": 1 / 3, "recall": 1, "density": 2 / 3, "coverage": 2 / 3}
    )
