"""Intervals against SciPy and worked cases; how often they cover is in test_coverage.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from gen_engine.evaluate.metrics import intervals


def bounds(interval):
    return (interval.low, interval.high)


@given(st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_proportions_are_scipys(trial):
    successes, total = trial
    test = stats.binomtest(successes, total)
    assert bounds(intervals.of_proportion(successes, total)) == pytest.approx(
        tuple(test.proportion_ci(0.95, "wilson")), abs=1e-12
    )
    exact = intervals.of_rare(successes, total)
    assert bounds(exact) == pytest.approx(tuple(test.proportion_ci(0.95, "exact")), abs=1e-12)
    assert successes / total in exact


def test_no_trials_are_refused():
    for call in (intervals.of_proportion, intervals.of_rare):
        with pytest.raises(ValueError, match="3 of 2 is no proportion"):
            call(3, 2)
        with pytest.raises(ValueError, match="0 of 0"):
            call(0, 0)


def test_seeds_give_students_interval():
    values = [0.8, 0.82, 0.87]
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert bounds(intervals.over_seeds(values)) == pytest.approx(expected)
    assert intervals.over_seeds([0.8]) is None
    with pytest.raises(ValueError, match="no seeds"):
        intervals.over_seeds([])


def test_blocks_of_a_mean_give_students_interval():
    """The mean of disjoint blocks: nothing but a mean of independent values."""
    blocks = np.random.default_rng(0).normal(size=20)
    expected = stats.t.interval(0.95, 19, blocks.mean(), stats.sem(blocks))
    assert bounds(intervals.over_blocks(blocks.mean(), blocks)) == pytest.approx(expected)
    assert intervals.over_blocks(0.9, [0.2, 1.9], within=(0, 1)).high == 1
    with pytest.raises(ValueError, match="1 blocks"):
        intervals.over_blocks(1, [1])


@pytest.mark.parametrize("rows", [3, 400, 999, 2_500, 7_000, 100_000])
def test_partitions_hold_every_row_once(rows):
    found = list(intervals.partitions(rows))
    for blocks in found:
        assert sorted(np.concatenate(blocks).tolist()) == list(range(rows))
        assert np.ptp([len(block) for block in blocks]) <= 1
    assert sum(len(blocks) - 1 for blocks in found) >= intervals.BLOCKS - 1
    assert len(found[0][0]) >= min(rows // 2, 999)


def test_the_jackknife_of_a_mean_and_of_its_square():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 50))

    def of(statistic, values):
        without = [statistic(np.delete(values, one, 0)) for one in range(20)]
        pairs = [statistic(np.delete(values, [one, one + 1], 0)) for one in range(0, 20, 2)]
        return intervals.jackknife(statistic(values), without, pairs)

    expected = stats.t.interval(0.95, 19, rows.mean(), stats.sem(rows.mean(1)))
    assert bounds(of(np.mean, rows)) == pytest.approx(expected, rel=1e-6)
    # The squared mean of many coordinates at 0 is quadratic: its variance is known, 2 · coordinates / n².
    squares, widths = [], []
    for _ in range(200):
        values = rng.normal(size=(20, 400))
        squares.append(np.sum(values.mean(0) ** 2))
        widths.append(np.diff(bounds(of(lambda v: np.sum(v.mean(0) ** 2), values)))[0] / 2)
    error = np.mean(widths) / stats.t.ppf(0.975, 19)
    assert error == pytest.approx(np.sqrt(2 * 400) / 20, rel=0.15)
    with pytest.raises(ValueError, match="3 blocks and 1 pairs"):
        intervals.jackknife(1, [1, 2, 3], [1])


def test_the_bootstrap_is_scipys():
    rng = np.random.default_rng(0)
    x = rng.exponential(size=80)

    def deviation(means):
        return np.sqrt(np.maximum(means[:, 1] - means[:, 0] ** 2, 0))

    found = intervals.bootstrap(np.stack([x, x**2], 1), deviation, np.random.default_rng(1), resamples=20_000)
    expected = stats.bootstrap((x,), np.std, n_resamples=20_000, method="BCa", rng=np.random.default_rng(2))
    assert bounds(found) == pytest.approx(tuple(expected.confidence_interval), rel=0.02)
    constant = intervals.bootstrap(np.ones((9, 1)), lambda means: means[:, 0], rng, resamples=50)
    assert bounds(constant) == (1, 1)


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=40), st.lists(st.integers(-5, 5), min_size=2, max_size=40))
def test_auc_is_scikit_learns(positive, negative):
    value, error = intervals.auc(positive, negative)
    classes = [1] * len(positive) + [0] * len(negative)
    assert value == pytest.approx(roc_auc_score(classes, positive + negative), abs=1e-12)
    # DeLong's structural components, pair by pair.
    kernel = np.array([[(p > n) + 0.5 * (p == n) for n in negative] for p in positive])
    variance = kernel.mean(1).var(ddof=1) / len(positive) + kernel.mean(0).var(ddof=1) / len(negative)
    assert error == pytest.approx(np.sqrt(variance), abs=1e-12)


def test_a_perfect_auc_is_not_certain():
    value, interval = intervals.of_auc(np.arange(30) + 100, np.arange(40))
    assert value == 1
    assert interval.high == 1
    assert 0.85 < interval.low < 0.95
