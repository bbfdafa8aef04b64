"""Scores over resamples against scikit-learn, row by row."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from gen_engine.evaluate.metrics import scores


def cases(classes, seed=0, rows=300):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    raw = rng.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[truth]
    predicted = np.round(np.exp(raw) / np.exp(raw).sum(1, keepdims=True), 2)  # rounded, so that there are ties
    return predicted, truth, scores.resampled(rows, 20, rng)


@pytest.mark.parametrize("classes", [2, 5])
def test_classification_scores_are_scikit_learns_on_every_resample(classes):
    predicted, truth, weights = cases(classes)
    found = scores.of_classes(predicted, truth, weights)
    for one, weight in enumerate(weights):
        rows = np.repeat(np.arange(len(truth)), weight)
        chosen = predicted[rows].argmax(1)
        assert found["accuracy"][one] == pytest.approx(metrics.accuracy_score(truth[rows], chosen))
        assert found["balanced_accuracy"][one] == pytest.approx(metrics.balanced_accuracy_score(truth[rows], chosen))
        areas = [metrics.roc_auc_score(truth[rows] == k, predicted[rows, k]) for k in range(classes)]
        assert found["auc"][one] == pytest.approx(np.mean(areas))
        for k in range(classes):
            recall = metrics.recall_score(truth[rows] == k, chosen == k)
            assert found[f"recall.{k}"][one] == pytest.approx(recall)
        if classes == 2:
            rarer = int(np.argmin(np.bincount(truth)))
            expected = metrics.average_precision_score(truth[rows] == rarer, predicted[rows, rarer])
            assert found["average_precision"][one] == pytest.approx(expected)


def test_regression_scores_are_scikit_learns_on_every_resample():
    rng = np.random.default_rng(0)
    truth, weights = rng.normal(5, 2, 200), scores.resampled(200, 20, rng)
    predicted = truth + rng.normal(size=200)
    found = scores.of_numbers(predicted, truth, weights)
    for one, weight in enumerate(weights):
        rows = np.repeat(np.arange(200), weight)
        assert found["r2"][one] == pytest.approx(metrics.r2_score(truth[rows], predicted[rows]))
        assert found["rmse"][one] == pytest.approx(metrics.root_mean_squared_error(truth[rows], predicted[rows]))


def test_a_constant_target_has_no_r2():
    weights = scores.resampled(30, 5, np.random.default_rng(0))
    assert "r2" not in scores.of_numbers(np.zeros(30), np.ones(30), weights)


def test_intervals_add_the_variance_of_seeds_and_of_rows():
    rows_only = np.array([[0.5, 0.4, 0.5, 0.6]] * 3)
    value, interval = scores.value_and_interval(rows_only)
    assert value == 0.5
    assert interval.high - 0.5 == pytest.approx(1.96 * 0.1, rel=1e-3)
    seeds_only = np.array([[0.4] * 4, [0.5] * 4, [0.6] * 4])
    value, interval = scores.value_and_interval(seeds_only)
    assert interval.high - value == pytest.approx(4.303 * 0.1 / np.sqrt(3), rel=1e-3)
    assert "3 seeds" in interval.method


def test_one_seed_has_the_interval_of_the_rows_alone():
    _, interval = scores.value_and_interval(np.array([[0.5, 0.4, 0.5, 0.6]]))
    assert interval.method == "bootstrap over test rows, 3 resamples"


def test_resamples_without_a_row_of_a_class_say_nothing_of_it():
    truth = np.array([0, 0, 0, 1])
    predicted = np.eye(2)[truth]
    weights = np.array([[1, 1, 1, 1], [2, 1, 1, 0], [0, 1, 1, 2]], np.uint8)
    found = scores.of_classes(predicted, truth, weights)
    np.testing.assert_array_equal(found["recall.1"], [1, np.nan, 1])
    np.testing.assert_array_equal(found["balanced_accuracy"], [1, 1, 1])
    np.testing.assert_array_equal(found["auc"], [1, np.nan, 1])
    assert scores.value_and_interval(found["recall.1"][None])[1].low == 1


def test_what_no_seed_or_resample_changes_has_the_exact_interval_of_its_rows():
    """None of 10 rows: Clopper and Pearson's upper bound is 1 - 0.025 ** (1 / 10)."""
    bound = 1 - 0.025 ** (1 / 10)
    _, right = scores.value_and_interval(np.ones((3, 5)), within=(0, 1), rows=10)
    assert (right.low, right.high) == (pytest.approx(1 - bound), 1)
    _, wrong = scores.value_and_interval(np.zeros((3, 5)), within=(0, 1), rows=10)
    assert (wrong.low, wrong.high) == (0, pytest.approx(bound))
    _, ratio = scores.value_and_interval(np.ones((3, 5)), within=(0, np.inf), rows=10, ends=(1.0,))
    assert (ratio.low, ratio.high) == (pytest.approx(1 - bound), pytest.approx(1 + bound))
    _, constant = scores.value_and_interval(np.full((1, 5), 0.5), within=(0, 1), rows=10)
    assert (constant.low, constant.high) == (0.5, 0.5)


def test_intervals_stay_within_the_range():
    spread = np.array([[0.2] * 4, [0.9] * 4])
    _, interval = scores.value_and_interval(spread, within=scores.range_of("accuracy"))
    assert (interval.low, interval.high) == (0, 1)
    assert scores.value_and_interval(spread)[1].high > 1
    assert scores.range_of("r2")[1] == 1
    assert scores.range_of("rmse")[0] == 0


def test_intervals_of_an_accuracy_cover_it():
    """Two hundred test sets of one model that is right 80 % of the time."""
    rng, hits = np.random.default_rng(7), 0
    for _ in range(200):
        right = rng.random(400) < 0.8
        predicted = np.stack([right, ~right], 1).astype(float)
        weights = scores.resampled(400, 100, rng)
        result = scores.of_classes(predicted, np.zeros(400, np.int64), weights)["accuracy"][None]
        _, interval = scores.value_and_interval(result)
        hits += 0.8 in interval
    assert 180 <= hits <= 198
