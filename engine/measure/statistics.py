"""Confidence intervals for ratios of speeds, from noisy rounds and with repeated looks.

Each round gives the logarithm of a ratio. Rounds have outliers (the machine stalls) and are autocorrelated (it is slow
for a while), so their location is estimated by the midmean, the mean of the middle half, and its standard error by a
circular block bootstrap (Politis and Romano 1992) whose block length follows from the autocorrelation. The error rate
is divided between the looks (Bonferroni), so the family-wise error of a run is :data:`ALPHA` however often it looks.

Student's t is own code: sampling requires NumPy and not SciPy. The tests compare it with SciPy's.

All logarithms are natural. Shape suffixes: N rounds, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LOOKS = (12, 19, 30, 48, 76, 120, 192, 304, 480, 768, 1200)
"""Numbers of rounds after which a run looks at its result, fixed in advance. Each is about 1.6 times the one before, so
a run goes on for at most 60 % more rounds than it needs."""

ALPHA = 0.02
"""Family-wise error: the probability that any interval of a run, at any look, misses the true ratio; two-sided."""

_RESAMPLES = 600
"""Of the bootstrap. They determine its standard error to 3 %, better than the rounds themselves do."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The location of some rounds, with its precision."""

    log: float
    """Logarithm of the ratio."""

    error: float
    """Standard error of :attr:`log`."""

    dof: float
    """Degrees of freedom of :attr:`error`."""

    def minus(self, other: Estimate) -> Estimate:
        """Return the difference of two independent estimates (Welch 1947)."""
        a, b = self.error**2, other.error**2
        variance = a + b
        spread = a**2 / self.dof + b**2 / other.dof
        dof = variance**2 / spread if spread > 0 else self.dof
        return Estimate(log=self.log - other.log, error=math.sqrt(variance), dof=dof)

    def interval(self, alpha: float, *, drift: float = 0.0) -> Interval:
        """Return the ratio's confidence interval.

        Args:
            alpha: probability that it misses the true ratio by sampling error alone, two-sided.
            drift: standard error of what no number of rounds can reveal, as a logarithm. It is the same at all looks,
                so its quantile is that of :data:`ALPHA`.
        """
        sampling = student_quantile(1 - alpha / 2, self.dof) * self.error
        half_width = math.hypot(sampling, NormalDist().inv_cdf(1 - ALPHA / 2) * drift)
        return Interval(low=_ratio(self.log - half_width), ratio=_ratio(self.log), high=_ratio(self.log + half_width))


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A ratio of speeds with its confidence interval."""

    low: float
    ratio: float
    high: float

    def __str__(self) -> str:
        """Return it as ``0.950 [0.940, 0.960]``."""
        return f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(rounds: Sequence[float] | NDArray[np.float64], *, seed: int = 0) -> Estimate:
    """Return the midmean of at least four logarithms of ratios, and its standard error.

    The resampling is seeded, so the same rounds give the same estimate.
    """
    log_N = np.asarray(rounds, np.float64)
    count = len(log_N)
    assert count >= 4, "too few rounds for a standard error"
    length = block_length(log_N)
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, count, (_RESAMPLES, -(-count // length)))
    resample_RN = ((starts[:, :, None] + np.arange(length)) % count).reshape(_RESAMPLES, -1)[:, :count]
    error = float(np.std(midmean(log_N[resample_RN]), ddof=1))
    blocks = count / length
    # The variance of resamples is (blocks - 1) / blocks of the variance of new rounds.
    error *= math.sqrt(blocks / (blocks - 1)) if blocks > 1.5 else math.inf
    return Estimate(log=float(midmean(log_N)), error=error, dof=max(blocks - 1, 1.0))


def midmean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the middle half along the last axis: a quarter of the values at each end has no influence."""
    count = values.shape[-1]
    cut = count // 4
    means: NDArray[np.float64] = np.sort(values, axis=-1)[..., cut : count - cut].mean(axis=-1)
    return means


def block_length(log_N: NDArray[np.float64]) -> int:
    """Return the bootstrap's block length in rounds: Carlstein's (1986) rule for a first-order autoregression.

    Its coefficient is estimated from ranks, which makes it robust against outliers. At most a fifth of the rounds.
    """
    count = len(log_N)
    rank_N = np.argsort(np.argsort(log_N, kind="stable"), kind="stable").astype(np.float64)
    rank_N -= rank_N.mean()
    autocorrelation = float(rank_N[:-1] @ rank_N[1:] / max(float(rank_N @ rank_N), 1e-12))
    # The estimate is biased by about -(1 + 3 ρ) / N (Kendall 1954).
    rho = float(min(max(autocorrelation + (1 + 3 * max(autocorrelation, 0.0)) / count, 0.0), 0.97))
    length = math.ceil(math.pow(2 * rho / (1 - rho**2), 2 / 3) * math.pow(count, 1 / 3))
    return max(1, min(count // 5, length))


def alpha_per_look() -> float:
    """Return the share of :data:`ALPHA` that one look may spend."""
    return ALPHA / len(LOOKS)


def student_quantile(probability: float, dof: float) -> float:
    """Return a quantile of Student's t distribution by Hill's expansion (1970, CACM algorithm 396), to 1 %.

    Args:
        probability: of a smaller value, 0.5 to below 1.
        dof: degrees of freedom, at least 1; need not be an integer.
    """
    tail = 2 * (1 - probability)
    if dof < 2:
        return 1 / math.tan(tail * math.pi / 2)  # exact for one degree, conservative up to two
    a = 1 / (dof - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * dof
    y = (d * tail) ** (2 / dof)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(tail / 2)
        y = x**2
        if dof < 5:
            c += 0.3 * (dof - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = a * y**2
        y = math.expm1(y)
    else:
        d = ((dof + 6) / (dof * y) - 0.089 * d - 0.822) * (dof + 2) * 3
        y = ((1 / d + 0.5 / (dof + 4)) * y - 1) * (dof + 1) / (dof + 2) + 1 / y
    return math.sqrt(dof * y)


def _ratio(log: float) -> float:
    return math.exp(min(max(log, -700.0), 700.0))
