"""The statistics, on clocks whose truth is known: how often they are wrong, and how soon they are right."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from gen_engine.engine.measure.statistics import (
    LOOKS,
    WRONG,
    Estimate,
    block_length,
    estimate,
    midmean,
    student_quantile,
    wrong_at_a_look,
)

Noise = Callable[[np.random.Generator, int], NDArray[np.float64]]
SPREAD = 0.03


def steady(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return SPREAD * rng.standard_normal(count)


def heavy_tails(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return 0.6 * SPREAD * rng.standard_t(2, count)


def memory(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    noise = rng.standard_normal(count)
    for i in range(1, count):
        noise[i] = 0.4 * noise[i - 1] + noise[i] * math.sqrt(1 - 0.4**2)
    return SPREAD * noise


def bursts(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """The machine stalls for some rounds, to the harm of one or the other."""
    noise = 0.5 * SPREAD * rng.standard_normal(count)
    at = 0
    while (at := at + int(rng.exponential(25))) < count:
        length = 1 + int(rng.exponential(3))
        noise[at : at + length] += rng.choice([-0.3, 0.3])
        at += length
    return noise


def two_speeds(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """One of the two sits on the slow core, and they change places now and then."""
    slow = np.cumsum(rng.random(count) < 0.4) % 2
    return 0.5 * SPREAD * rng.standard_normal(count) + SPREAD * (slow - 0.5)


NOISES = [steady, heavy_tails, memory, bursts, two_speeds]


def verdict(log_N: NDArray[np.float64], threshold: float) -> tuple[str, int]:
    """Return what a run over these rounds ends with, and after how many."""
    for look in LOOKS:
        if look > len(log_N):
            break
        found = estimate(log_N[:look]).interval(wrong_at_a_look())
        if found.high < threshold:
            return "below", look
        if found.low > threshold:
            return "above", look
    return "undecided", len(log_N)


def verdicts(noise: Noise, ratio: float, threshold: float, *, runs: int, rounds: int) -> list[tuple[str, int]]:
    rng = np.random.default_rng(sum(map(ord, noise.__name__)))
    return [verdict(math.log(ratio) + noise(rng, rounds), threshold) for _ in range(runs)]


@pytest.mark.parametrize("noise", NOISES)
def test_at_the_threshold_itself_it_is_seldom_wrong(noise: Noise) -> None:
    """The worst place: every verdict is false there, and there are seven looks to fall for one."""
    found = [said for said, _ in verdicts(noise, 0.95, 0.95, runs=400, rounds=192)]
    # Allowed: the chance that is promised, and three standard errors of so many runs.
    allowed = WRONG + 3 * math.sqrt(WRONG * (1 - WRONG) / 400)
    assert (len(found) - found.count("undecided")) / len(found) <= allowed


@pytest.mark.parametrize("noise", NOISES)
def test_two_equal_ones_are_hardly_ever_called_a_regression(noise: Noise) -> None:
    found = verdicts(noise, 1.0, 0.95, runs=400, rounds=480)
    assert [said for said, _ in found].count("below") <= 2
    assert [said for said, _ in found].count("above") >= 396
    assert statistics.median(look for _, look in found) <= 48


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("slowdown", "threshold", "soon"), [(1.10, 0.95, 76), (1.05, 0.975, 192)])
def test_a_slowdown_is_caught_soon(noise: Noise, slowdown: float, threshold: float, soon: int) -> None:
    found = verdicts(noise, 1 / slowdown, threshold, runs=200, rounds=768)
    assert [said for said, _ in found].count("below") >= 198
    assert statistics.median(look for _, look in found) <= soon


def test_looking_more_often_without_paying_for_it_would_be_wrong() -> None:
    """What the correction is for: the same looks, each at the full chance, fail the first test of this page."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        log_N = steady(rng, 192)
        found = [estimate(log_N[:look]).interval(WRONG) for look in LOOKS if look <= 192]
        wrong += any(one.high < 1 or one.low > 1 for one in found)
    assert wrong / 300 > 2 * WRONG


def test_the_error_follows_the_memory_of_the_rounds() -> None:
    rng = np.random.default_rng(2)
    noise = rng.standard_normal(400)
    long = np.convolve(rng.standard_normal(420), np.ones(20) / math.sqrt(20), mode="valid")[:400]
    assert block_length(noise) <= 3
    assert block_length(long) >= 15
    # The mean of so many rounds of long memory really spreads by √20 / √400 (of the middle half, a little more).
    assert 0.14 < estimate(long).error < 0.4
    assert 0.04 < estimate(noise).error < 0.08


def test_a_quarter_of_nonsense_on_either_side_changes_little() -> None:
    rng = np.random.default_rng(3)
    clean = 0.01 * rng.standard_normal(100)
    bad = clean.copy()
    bad[::5] = -3.0
    assert abs(float(midmean(bad)) - float(midmean(clean))) < 0.01


@pytest.mark.parametrize("freedom", [1, 2, 3, 4.5, 8, 11, 40, 1e6])
@pytest.mark.parametrize("chance", [0.9, 0.99, 0.9995])
def test_quantiles_of_student(freedom: float, chance: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert student_quantile(chance, freedom) == pytest.approx(stats.t.ppf(chance, freedom), rel=0.01)


def test_a_difference_knows_what_both_know() -> None:
    one = Estimate(log=0.1, error=0.03, freedom=10)
    other = Estimate(log=0.3, error=0.04, freedom=20)
    both = one.minus(other)
    assert both.log == pytest.approx(-0.2)
    assert both.error == pytest.approx(0.05)
    assert 10 < both.freedom < 30
    narrow, wide = both.interval(0.01), both.interval(0.01, drift=0.05)
    assert wide.low < narrow.low < narrow.ratio == wide.ratio < narrow.high < wide.high


def test_the_same_rounds_give_the_same_estimate() -> None:
    log_N = steady(np.random.default_rng(4), 50)
    assert estimate(log_N) == estimate(list(log_N))
