"""Is one speed a given share of another? From noisy rounds that are looked at again and again.

A round gives the logarithm of a ratio. Rounds have outliers (a machine stalls) and memory (it is slow for a while), so
the centre of the rounds is the mean of their middle half, and its error comes from a circular block bootstrap (Politis
and Romano 1992), with blocks as long as the memory asks for. Each look spends its own share of the chance to be wrong
(Bonferroni), so an interval holds over all looks of a run together: who looks often is not wrong more often.

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
"""After how many rounds a run is looked at, whatever was seen: each about 1.6 times the one before, so none comes much
too late."""

WRONG = 0.02
"""Chance that any interval of a run, at any of its looks, misses the truth; half of it on either side."""

_RESAMPLES = 600
"""Of the bootstrap: its standard error is then known to 3 %, less than the rounds themselves leave open."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The centre of some rounds and how well it is known."""

    log: float
    """Of the ratio."""

    error: float
    """Standard error of :attr:`log`."""

    freedom: float
    """Degrees of freedom that the error was estimated with."""

    def minus(self, other: Estimate) -> Estimate:
        """Return the difference of two independent estimates (Welch 1947)."""
        a, b = self.error**2, other.error**2
        whole = a + b
        freedom = whole**2 / (a**2 / self.freedom + b**2 / other.freedom) if whole > 0 else self.freedom
        return Estimate(log=self.log - other.log, error=math.sqrt(whole), freedom=freedom)

    def interval(self, wrong: float, *, drift: float = 0.0) -> Interval:
        """Return the ratio's interval.

        Args:
            wrong: chance that sampling alone leads it to miss the truth, half of it on either side.
            drift: standard error of what no number of rounds can show, as a logarithm. It is there once, not anew at
                each look, so it reaches as far as :data:`WRONG` says for one.
        """
        sampling = student_quantile(1 - wrong / 2, self.freedom) * self.error
        reach = math.hypot(sampling, NormalDist().inv_cdf(1 - WRONG / 2) * drift)
        return Interval(low=_ratio(self.log - reach), ratio=_ratio(self.log), high=_ratio(self.log + reach))


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A ratio of speeds: what it is most likely, and what it can be."""

    low: float
    ratio: float
    high: float

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(rounds: Sequence[float] | NDArray[np.float64], *, seed: int = 0) -> Estimate:
    """Return the centre of logarithms of ratios, at least four, and its standard error.

    The same rounds give the same estimate: ``seed`` is that of the resampling.
    """
    log_N = np.asarray(rounds, np.float64)
    count = len(log_N)
    assert count >= 4, "too few rounds for an error"
    length = block_length(log_N)
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, count, (_RESAMPLES, -(-count // length)))
    picked_RN = ((starts[:, :, None] + np.arange(length)) % count).reshape(_RESAMPLES, -1)[:, :count]
    error = float(np.std(midmean(log_N[picked_RN]), ddof=1))
    blocks = count / length
    # A resample varies by (blocks - 1) / blocks of what new rounds would.
    error *= math.sqrt(blocks / (blocks - 1)) if blocks > 1.5 else math.inf
    return Estimate(log=float(midmean(log_N)), error=error, freedom=max(blocks - 1, 1.0))


def midmean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the middle half along the last axis: a quarter of the values may be any nonsense."""
    count = values.shape[-1]
    cut = count // 4
    middle: NDArray[np.float64] = np.sort(values, axis=-1)[..., cut : count - cut].mean(axis=-1)
    return middle


def block_length(log_N: NDArray[np.float64]) -> int:
    """Return how many rounds belong together: Carlstein's (1986) rule for a first-order autoregression.

    Its coefficient is found from ranks, which a stalled round cannot bend. At most a fifth of the rounds.
    """
    count = len(log_N)
    rank_N = np.argsort(np.argsort(log_N, kind="stable"), kind="stable").astype(np.float64)
    rank_N -= rank_N.mean()
    # Estimated from few rounds it comes out low by about (1 + 3 ρ) / N (Kendall 1954).
    found = float(rank_N[:-1] @ rank_N[1:] / max(float(rank_N @ rank_N), 1e-12))
    rho = float(min(max(found + (1 + 3 * max(found, 0.0)) / count, 0.0), 0.97))
    length = math.ceil(math.pow(2 * rho / (1 - rho**2), 2 / 3) * math.pow(count, 1 / 3))
    return max(1, min(count // 5, length))


def wrong_at_a_look() -> float:
    """Return the share of :data:`WRONG` that one look may spend."""
    return WRONG / len(LOOKS)


def student_quantile(chance: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution: Hill's expansion (1970, CACM algorithm 396), to 1 in 100.

    Args:
        chance: of a smaller value, 0.5 to below 1.
        freedom: degrees of freedom, at least 1; need not be whole.
    """
    tail = 2 * (1 - chance)
    if freedom < 2:
        return 1 / math.tan(tail * math.pi / 2)  # exact for one degree, and safe up to two
    a = 1 / (freedom - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * freedom
    y = (d * tail) ** (2 / freedom)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(tail / 2)
        y = x**2
        if freedom < 5:
            c += 0.3 * (freedom - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = a * y**2
        y = math.expm1(y)
    else:
        d = ((freedom + 6) / (freedom * y) - 0.089 * d - 0.822) * (freedom + 2) * 3
        y = ((1 / d + 0.5 / (freedom + 4)) * y - 1) * (freedom + 1) / (freedom + 2) + 1 / y
    return math.sqrt(freedom * y)


def _ratio(log: float) -> float:
    return math.exp(min(max(log, -700.0), 700.0))
