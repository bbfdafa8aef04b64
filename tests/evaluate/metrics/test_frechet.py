"""The Fréchet distance against the usual recipe, and its refusals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from evaluations import by_name, figures_of, vectors

from gen_engine.evaluate.metrics.frechet import Moments, distance, with_interval


def usual(x, y):
    """Return what torch-fidelity and clean-fid compute: NumPy's covariances and SciPy's matrix square root."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    first, second = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    root = scipy.linalg.sqrtm(first @ second)
    apart = x.mean(0) - y.mean(0)
    return float(apart @ apart + np.trace(first) + np.trace(second) - 2 * np.trace(np.real(root)))


def of(x, y):
    return distance(Moments.of(x, x.mean(0, dtype=np.float64)), Moments.of(y, x.mean(0, dtype=np.float64)))


@pytest.mark.parametrize("width", [1, 2, 17, 64, 200])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_it_is_the_usual_distance(width, offset):
    rng = np.random.default_rng(width)
    x = (rng.normal(size=(5000, width)) @ rng.normal(size=(width, width)) + offset).astype(np.float32)
    y = (rng.normal(size=(4321, width)) @ rng.normal(size=(width, width)) + offset + 0.3).astype(np.float32)
    assert of(x, y) == pytest.approx(usual(x, y), rel=1e-6)


def test_it_is_the_distance_of_normal_distributions_worked_by_hand():
    """Means 0 and 3, deviations 1 and 2: 9 + (2 − 1)²."""
    x = np.tile([[-1.0], [1.0]], (500, 1)).astype(np.float32) * np.float32(np.sqrt(999 / 1000))
    assert of(x, 2 * x + 3) == pytest.approx(10, rel=1e-6)


def test_constant_features_do_not_matter():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(900, 6)), rng.normal(size=(900, 6)) * 1.5
    x, y = x.astype(np.float32), y.astype(np.float32)
    padded = [np.hstack([rows, np.full((900, 3), 7, np.float32), rows[:, :1]]) for rows in (x, y)]
    bare = [np.hstack([rows, rows[:, :1]]) for rows in (x, y)]
    assert of(*padded) == pytest.approx(of(*bare), rel=1e-9)
    # A feature twice is one of twice the variance.
    assert of(*bare) == pytest.approx(
        of(*(rows * np.float32([np.sqrt(2), 1, 1, 1, 1, 1]) for rows in (x, y))), rel=1e-6
    )


def test_equal_rows_are_at_distance_0():
    x = np.random.default_rng(0).normal(size=(500, 30)).astype(np.float32)
    value, interval = with_interval(x, x)
    assert value == pytest.approx(0, abs=1e-9)
    assert interval.low == pytest.approx(0, abs=1e-9)


def test_moments_of_parts_add_up_and_come_apart():
    x = np.random.default_rng(0).normal(size=(9000, 5)).astype(np.float32) + 1e3
    centre = x[:100].mean(0, dtype=np.float64)
    parts = [Moments.of(part, centre) for part in (x[:5000], x[5000:])]
    whole = parts[0] + parts[1]
    np.testing.assert_allclose(whole.covariance, np.cov(x.T.astype(np.float64)), rtol=1e-10)
    np.testing.assert_allclose((whole - parts[0]).covariance, np.cov(x[5000:].T.astype(np.float64)), rtol=1e-9)
    np.testing.assert_allclose((whole - parts[0]).mean + centre, x[5000:].mean(0, dtype=np.float64), rtol=1e-12)


def test_fewer_rows_than_features_are_refused_by_name():
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(60, 60)) for _ in range(3)]
    (figure,) = figures_of("frechet", vectors(rows[0], rows[1], rows[2]))
    assert figure.value is None
    assert figure.not_computed == (
        "60 rows of each set: 60 features need at least 61; give more rows or use fewer features"
    )
    rows = [rng.normal(size=(61, 60)) for _ in range(3)]
    (figure,) = figures_of("frechet", vectors(rows[0], rows[1], rows[2]))
    assert figure.value is not None
    assert np.isfinite(figure.value)


def test_features_that_are_not_finite_say_so():
    rng = np.random.default_rng(0)
    train, synthetic = rng.normal(size=(300, 4)), rng.normal(size=(300, 4))
    synthetic[7, 1] = np.nan
    for metric in ("frechet", "kernel", "manifold"):
        for figure in figures_of(metric, vectors(train, synthetic, rng.normal(size=(300, 4)))):
            assert figure.value is None
            assert "not finite" in figure.not_computed


def test_classes_with_too_few_rows_are_named():
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(600, 8)) for _ in range(3)]
    labels = [np.where(np.arange(600) < 30, 0, 1) for _ in range(3)]
    figures = {one.group: one for one in figures_of("frechet", vectors(*rows, labels))}
    assert set(figures) == {None, "class 0", "class 1"}
    assert figures["class 0"].not_computed.startswith("30 rows of each set")
    assert figures["class 1"].conditions["rows"] == 570
    assert figures["class 1"].value is not None


def test_without_a_test_split_halves_of_train_are_the_yardstick():
    rng = np.random.default_rng(0)
    figure = by_name("frechet", vectors(rng.normal(size=(800, 8)), rng.normal(size=(900, 8))))["frechet"]
    assert figure.conditions["rows"] == 400
    assert figure.conditions["yardstick"] == figure.ceiling.what == "halves of train"
