"""Distances of an evaluation against the usual recipes, from the same features; whole evaluations have no peer.

The recipes are those of torch-fidelity 0.4, whose installation replaces torch: NumPy's covariance and the eigenvalues
of a product of covariances; the mean of 100 random subsets of 1,000 rows; whole matrices of distances by torch.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gen_engine.evaluate.metrics import frechet, kernel, manifold
from gen_engine.evaluate.metrics.distances import prepare

Features = NDArray[np.float32]

NEIGHBOURS = 5


def features(rows: int, width: int) -> tuple[Features, Features]:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(width, width)) / np.sqrt(width)
    x, y = (rng.normal(size=(rows, width)) @ mixing * scale for scale in (1, 1.02))
    return x.astype(np.float32), y.astype(np.float32) + np.float32(0.02)


def usual_frechet(x: Features, y: Features) -> float:
    first, second = (np.cov(one, rowvar=False) for one in (x, y))
    apart = x.mean(0, dtype=np.float64) - y.mean(0, dtype=np.float64)
    root = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).sum().real
    return float(apart @ apart + np.trace(first) + np.trace(second) - 2 * root)


def usual_kernel(x: Features, y: Features) -> float:
    rng, size = np.random.default_rng(0), min(1_000, len(x))
    found = []
    for _ in range(100):
        first, second = (one[rng.choice(len(one), size, replace=False)].astype(np.float64) for one in (x, y))
        found.append(kernel.discrepancy(first, second))
    return float(np.mean(found))


def usual_manifold(x: Features, y: Features) -> tuple[float, float]:
    first, second = torch.from_numpy(x), torch.from_numpy(y)
    real, made, between = (torch.cdist(a, b) for a, b in ((first, first), (second, second), (first, second)))
    real_radii, made_radii = (one.kthvalue(NEIGHBOURS + 1).values for one in (real, made))
    precision = (between <= real_radii[:, None]).any(0).float().mean()
    recall = (between <= made_radii[None]).any(1).float().mean()
    return float(precision), float(recall)


def ours_manifold(x: Features, y: Features) -> dict[str, float]:
    real, made = prepare(x, y)
    return manifold.compare(real, manifold.radii(real, NEIGHBOURS), made, NEIGHBOURS)


@pytest.mark.parametrize("width", [128, 1280])
def test_distances(against, width: int) -> None:
    """Unit: 10,000 rows against 10,000, all three, without the Fréchet distance's interval, which the peer lacks too.

    The interval is a jackknife: 30 more distances, which dominate at 1,280 features.
    """
    x, y = features(10_000 if against.real else 400, width if against.real else 16)

    def ours() -> None:
        middle = x.mean(0, dtype=np.float64)
        frechet.distance(frechet.Moments.of(x, middle), frechet.Moments.of(y, middle))
        kernel.with_interval(x, y)
        ours_manifold(x, y)

    def theirs() -> None:
        usual_frechet(x, y)
        usual_kernel(x, y)
        usual_manifold(x, y)

    ratios = against(ours, theirs, rounds=3)
    against.require_ratio(f"distances of {width} features, over torch-fidelity's recipes", ratios, at_least=2)
    centre = x.mean(0, dtype=np.float64)
    moments = (frechet.Moments.of(one, centre) for one in (x, y))
    assert frechet.distance(*moments) == pytest.approx(usual_frechet(x, y), rel=1e-6)
    found = ours_manifold(x, y)
    assert (found["precision"], found["recall"]) == pytest.approx(usual_manifold(x, y), abs=0.002)
