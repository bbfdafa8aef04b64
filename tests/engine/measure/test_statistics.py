"""The statistics on simulated rounds whose true ratio is known: error rates, and rounds to a result."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from gen_engine.engine.measure.statistics import (
    ALPHA,
    LOOKS,
    Estimate,
    alpha_per_look,
    block_length,
    estimate,
    midmean,
    student_quantile,
)

Noise = Callable[[np.random.Generator, int], NDArray[np.float64]]
SPREAD = 0.03


def steady(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return SPREAD * rng.standard_normal(count)


def heavy_tails(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return 0.6 * SPREAD * rng.standard_t(2, count)


def autocorrelated(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    noise = rng.standard_normal(count)
    for i in range(1, count):
        noise[i] = 0.4 * noise[i - 1] + noise[i] * math.sqrt(1 - 0.4**2)
    return SPREAD * noise


def bursts(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """The machine stalls for some rounds, which slows one of the two."""
    noise = 0.5 * SPREAD * rng.standard_normal(count)
    at = 0
    while (at := at + int(rng.exponential(25))) < count:
        length = 1 + int(rng.exponential(3))
        noise[at : at + length] += rng.choice([-0.3, 0.3])
        at += length
    return noise


def two_speeds(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """One of the two runs on the slow core, and they swap now and then."""
    slow = np.cumsum(rng.random(count) < 0.4) % 2
    return 0.5 * SPREAD * rng.standard_normal(count) + SPREAD * (slow - 0.5)


NOISES = [steady, heavy_tails, autocorrelated, bursts, two_speeds]


def outcome(log_N: NDArray[np.float64], threshold: float) -> tuple[str, int]:
    """Return the outcome of a run over these rounds, and after how many rounds."""
    for look in LOOKS:
        if look > len(log_N):
            break
        interval = estimate(log_N[:look]).interval(alpha_per_look())
        if interval.high < threshold:
            return "below", look
        if interval.low > threshold:
            return "above", look
    return "undecided", len(log_N)


def outcomes(noise: Noise, ratio: float, threshold: float, *, runs: int, rounds: int) -> list[tuple[str, int]]:
    rng = np.random.default_rng(sum(map(ord, noise.__name__)))
    return [outcome(math.log(ratio) + noise(rng, rounds), threshold) for _ in range(runs)]


@pytest.mark.parametrize("noise", NOISES)
def test_the_family_wise_error_at_the_threshold(noise: Noise) -> None:
    """The worst case: any result but undecided is wrong, at any of seven looks."""
    results = [result for result, _ in outcomes(noise, 0.95, 0.95, runs=400, rounds=192)]
    # Allowed: the promised rate and three standard errors of 400 runs.
    allowed = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 400)
    assert (len(results) - results.count("undecided")) / len(results) <= allowed


@pytest.mark.parametrize("noise", NOISES)
def test_equal_speeds_are_hardly_ever_reported_as_a_regression(noise: Noise) -> None:
    results = outcomes(noise, 1.0, 0.95, runs=400, rounds=480)
    assert [result for result, _ in results].count("below") <= 2
    assert [result for result, _ in results].count("above") >= 396
    assert statistics.median(look for _, look in results) <= 48


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("slowdown", "threshold", "max_median"), [(1.10, 0.95, 76), (1.05, 0.975, 192)])
def test_a_slowdown_is_detected_soon(noise: Noise, slowdown: float, threshold: float, max_median: int) -> None:
    results = outcomes(noise, 1 / slowdown, threshold, runs=200, rounds=768)
    assert [result for result, _ in results].count("below") >= 198
    assert statistics.median(look for _, look in results) <= max_median


def test_uncorrected_looks_exceed_the_error_rate() -> None:
    """Why the correction is needed: the same looks, each at the full error rate, would fail the first test here."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        log_N = steady(rng, 192)
        intervals = [estimate(log_N[:look]).interval(ALPHA) for look in LOOKS if look <= 192]
        wrong += any(one.high < 1 or one.low > 1 for one in intervals)
    assert wrong / 300 > 2 * ALPHA


def test_the_standard_error_follows_the_autocorrelation() -> None:
    rng = np.random.default_rng(2)
    noise = rng.standard_normal(400)
    long = np.convolve(rng.standard_normal(420), np.ones(20) / math.sqrt(20), mode="valid")[:400]
    assert block_length(noise) <= 3
    assert block_length(long) >= 15
    # The true standard error of the mean of the autocorrelated rounds is √20 / √400; the midmean's is slightly larger.
    assert 0.14 < estimate(long).error < 0.4
    assert 0.04 < estimate(noise).error < 0.08


def test_outliers_have_little_influence() -> None:
    rng = np.random.default_rng(3)
    clean = 0.01 * rng.standard_normal(100)
    bad = clean.copy()
    bad[::5] = -3.0
    assert abs(float(midmean(bad)) - float(midmean(clean))) < 0.01


@pytest.mark.parametrize("dof", [1, 1.5, 2, 3, 4.5, 8, 11, 40, 1e6])
@pytest.mark.parametrize("probability", [0.9, 0.99, 0.9995])
def test_student_quantiles_against_scipy(dof: float, probability: float) -> None:
    exact = scipy.stats.t.ppf(probability, dof)
    if 1 < dof < 2:  # the quantile of one degree, which is larger
        assert student_quantile(probability, dof) > exact
    else:
        assert student_quantile(probability, dof) == pytest.approx(exact, rel=0.01)


def test_a_difference_has_the_uncertainty_of_both() -> None:
    one = Estimate(log=0.1, error=0.03, dof=10)
    other = Estimate(log=0.3, error=0.04, dof=20)
    both = one.minus(other)
    assert both.log == pytest.approx(-0.2)
    assert both.error == pytest.approx(0.05)
    assert 10 < both.dof < 30
    narrow, wide = both.interval(0.01), both.interval(0.01, drift=0.05)
    assert wide.low < narrow.low < narrow.ratio == wide.ratio < narrow.high < wide.high


def test_the_same_rounds_give_the_same_estimate() -> None:
    log_N = steady(np.random.default_rng(4), 50)
    assert estimate(log_N) == estimate(list(log_N))
