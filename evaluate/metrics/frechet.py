"""The Fréchet distance between normal distributions with the features' means and covariances.

M. Heusel et al., *GANs trained by a two time-scale update rule converge to a local Nash equilibrium*, 2017;
D. C. Dowson and B. V. Landau, Journal of Multivariate Analysis 12 (1982):
d² = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½). The value is d², as published.

Its estimate from n rows is too large by a bias that falls as 1/n and is the same for real rows: it is compared with
its ceiling at equal n, and never extrapolated.

Shape suffixes: N rows, D features, G blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from gen_engine.evaluate.figures import Better, Interval
from gen_engine.evaluate.metrics import intervals
from gen_engine.evaluate.metrics.compared import FeatureMetric, Measured
from gen_engine.evaluate.metrics.contract import Budget
from gen_engine.evaluate.metrics.yardstick import Features

Floats = NDArray[np.float64]

_STREAMED = 4096
"""Rows that are converted to float64 at a time."""

_BLOCK_BYTES = 256 << 20
"""Most memory of the moments of all blocks; fewer blocks for very wide features."""


@dataclass(frozen=True)
class Moments:
    """Sums over rows, from which their mean and covariance follow; sums of disjoint rows may be added or taken away."""

    count: int
    centre_D: Floats
    """Subtracted from every row: sums of squares around a distant origin lose their digits."""

    sum_D: Floats
    products_DD: Floats

    @classmethod
    def of(cls, rows_ND: Features, centre_D: Floats) -> Moments:
        """Sum over rows in float64, a few thousand at a time."""
        width = rows_ND.shape[1]
        sum_D, products_DD = np.zeros(width), np.zeros((width, width))
        for start in range(0, len(rows_ND), _STREAMED):
            apart = rows_ND[start : start + _STREAMED] - centre_D
            sum_D += apart.sum(0)
            products_DD += apart.T @ apart
        return cls(len(rows_ND), centre_D, sum_D, products_DD)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count, self.centre_D, self.sum_D + other.sum_D, self.products_DD + other.products_DD
        )

    def __sub__(self, other: Moments) -> Moments:
        return Moments(
            self.count - other.count, self.centre_D, self.sum_D - other.sum_D, self.products_DD - other.products_DD
        )

    @property
    def mean(self) -> Floats:
        """Mean less the centre, [D]."""
        return self.sum_D / self.count

    @property
    def covariance(self) -> Floats:
        """Unbiased covariance, [D, D]."""
        return (self.products_DD - np.outer(self.sum_D, self.mean)) / (self.count - 1)


def distance(a: Moments, b: Moments) -> float:
    """Return the squared Fréchet distance; the two have the same centre.

    (Σ₁ Σ₂)^½ has the trace of the square roots of the eigenvalues of Lᵀ Σ₂ L, where Σ₁ = L Lᵀ: a symmetric matrix, so
    that no eigenvalue turns complex when Σ₁ or Σ₂ is singular.
    """
    first_DD, second_DD = a.covariance, b.covariance
    root_DK = _root(first_DD)
    eigenvalues = np.linalg.eigvalsh(root_DK.T @ second_DD @ root_DK)
    cross = float(np.sqrt(np.maximum(eigenvalues, 0)).sum())
    apart = float(np.sum((a.mean - b.mean) ** 2))
    return max(0.0, apart + float(np.trace(first_DD) + np.trace(second_DD)) - 2 * cross)


def _root(covariance_DD: Floats) -> Floats:
    """Return L with L Lᵀ = Σ: Cholesky's, or scaled eigenvectors if Σ is singular, as of constant features."""
    try:
        root: Floats = scipy.linalg.cholesky(covariance_DD, lower=True, check_finite=False)
        if np.square(np.diag(root)).min() > 1e-12 * np.diag(covariance_DD).max():
            return root
    except np.linalg.LinAlgError:
        pass
    values_D, vectors_DD = np.linalg.eigh(covariance_DD)
    kept = values_D > values_D[-1] * len(values_D) * np.finfo(np.float64).eps
    return np.asarray(vectors_DD[:, kept] * np.sqrt(values_D[kept]))


def with_interval(x_ND: Features, y_ND: Features) -> tuple[float, Interval]:
    """Return the squared Fréchet distance between two sets of equally many rows, and its interval.

    Raises:
        ValueError: there are fewer rows than :func:`refusal` asks for.
    """
    width = x_ND.shape[1]
    if why := refusal(min(len(x_ND), len(y_ND)), width):
        raise ValueError(why)
    blocks = int(np.clip(_BLOCK_BYTES // (32 * width**2), 4, intervals.BLOCKS // 2)) * 2
    centre_D = x_ND.mean(0, dtype=np.float64)
    x_G, y_G = ([Moments.of(part, centre_D) for part in np.array_split(rows, blocks)] for rows in (x_ND, y_ND))
    x, y = sum(x_G[1:], start=x_G[0]), sum(y_G[1:], start=y_G[0])
    value = distance(x, y)
    without_G = [distance(x - x_G[one], y - y_G[one]) for one in range(blocks)]
    without_pairs = [distance(x - x_G[one] - x_G[one + 1], y - y_G[one] - y_G[one + 1]) for one in range(0, blocks, 2)]
    return value, intervals.jackknife(value, without_G, without_pairs, within=(0.0, np.inf))


def refusal(rows: int, width: int) -> str | None:
    """Return why the distance is not computed, or None: with fewer rows than features the covariance is singular."""
    least = max(width + 1, 2 * intervals.BLOCKS)
    if rows >= least:
        return None
    return (
        f"{rows:,} rows of each set: {width:,} features need at least {least:,}; give more rows or use fewer features"
    )


class Frechet(FeatureMetric):
    """The squared Fréchet distance, of all rows and of each class."""

    name = "frechet"
    better: ClassVar[Mapping[str, Better]] = {"frechet": "lower"}

    def refusal(self, rows: int, width: int, budget: Budget) -> str | None:
        """Return why the distance is not computed."""
        return refusal(rows, width)

    def measure(self, real_ND: Features, sets: Sequence[Features], budget: Budget) -> Iterator[Measured]:
        """Yield the distance of each set from the real rows."""
        for rows_ND in sets:
            yield {self.name: with_interval(rows_ND, real_ND)}
