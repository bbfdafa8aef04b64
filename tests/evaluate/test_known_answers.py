"""Planted faults are found by the figure that should find them, and clean data by none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from evaluations import by_name, figures_of, glyphs, image_sides, image_split, tables, vectors

from gen_engine.evaluate.features import open_extractor
from gen_engine.evaluate.figures import Figure
from gen_engine.evaluate.metrics.contract import Evaluation

pytestmark = pytest.mark.slow

FAITHFUL = ("frechet", "kernel", "manifold", "two-sample")
ROWS = 1200


def evaluation(images, labels, seed=0):
    sides = image_sides(image_split("synthetic", images, labels), ROWS, ROWS)
    extractor = open_extractor("pca:12", sides, 0)
    return Evaluation(synthetic=sides.synthetic, train=sides.train, test=sides.test, extractor=extractor, seed=seed)


def alarms(figures) -> Iterator[Figure]:
    """Yield the figures whose interval lies wholly apart from that of real against real."""
    for one in figures:
        if one.group is None and one.against_ceiling in ("short of", "beyond"):
            yield one


def test_a_collapsed_generator_lacks_variety_and_not_plausibility():
    images, labels = glyphs(ROWS, 7)
    kept = np.concatenate([np.flatnonzero(labels == one)[:2] for one in range(4)])
    chosen = np.resize(kept, ROWS)
    jitter = np.random.default_rng(0).integers(-2, 3, (ROWS, 8, 8, 1))
    collapsed = np.clip(images[chosen] + jitter, 0, 255).astype(np.uint8)
    found = by_name("manifold", evaluation(collapsed, labels[chosen]))
    assert found["recall"].against_ceiling == "short of"
    assert found["coverage"].against_ceiling == "short of"
    assert found["coverage"].interval.high < 0.2
    assert found["precision"].value > 0.8


def test_noise_costs_plausibility():
    images, labels = glyphs(ROWS, 7)
    noisy = np.clip(images + np.random.default_rng(0).normal(0, 60, images.shape), 0, 255).astype(np.uint8)
    judged = evaluation(noisy, labels)
    assert by_name("manifold", judged)["precision"].against_ceiling == "short of"
    assert by_name("frechet", judged)["frechet"].against_ceiling == "short of"
    assert by_name("two-sample", judged)["two-sample.trees.auc"].interval.low > 0.7


def test_a_missing_class_is_not_computed_for_it_and_shows_in_the_rest():
    images, labels = glyphs(ROWS * 2, 7)
    kept = np.flatnonzero(labels != 1)[:ROWS]
    judged = evaluation(images[kept], labels[kept])
    assert by_name("frechet", judged)["frechet"].against_ceiling == "short of"
    assert by_name("manifold", judged)["coverage"].against_ceiling == "short of"
    missing = [one for one in figures_of("frechet", judged) if one.group == "stroke 1"]
    assert "0 rows" in missing[0].not_computed


def test_twenty_clean_sets_raise_no_alarm():
    found = []
    for seed in range(20):
        judged = evaluation(*glyphs(ROWS, 50 + seed), seed=seed)
        found += [
            (seed, one.name)
            for metric in (*FAITHFUL, "copies", "nearest")
            for one in alarms(figures_of(metric, judged))
        ]
    assert found == []


def people(seed, count=800):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, count)
    age = rng.normal(40 + 5 * group, 10)
    return {
        "group": group,
        "age": age,
        "spent": np.where(rng.random(count) < 0.2, np.nan, age * rng.gamma(2, 1, count)),
    }


def test_twenty_clean_tables_raise_no_alarm():
    found = []
    for seed in range(20):
        judged = tables(
            *(people(3 * seed + side) for side in range(3)), categories={"group": ("a", "b", "c")}, seed=seed
        )
        found += [
            (seed, one.name)
            for metric in ("columns", "pairs", "two-sample")
            for one in alarms(figures_of(metric, judged))
        ]
    assert found == []


@pytest.mark.parametrize("metric", ["frechet", "kernel", "manifold"])
@pytest.mark.parametrize("apart", [0.0, 0.5])
def test_intervals_cover_the_expected_value(metric, apart):
    """Two hundred repetitions: what is covered is the mean of the same estimator over all of them."""
    values, intervals = {}, {}
    for seed in range(200):
        rng = np.random.default_rng([seed, 11])
        train, synthetic, test = (rng.normal(size=(400, 3)) for _ in range(3))
        for figure in figures_of(metric, vectors(train, synthetic + apart, test, seed=seed)):
            values.setdefault(figure.name, []).append(figure.value)
            intervals.setdefault(figure.name, []).append(figure.interval)
    for name, found in values.items():
        expected = float(np.mean(found))
        share = np.mean([expected in one for one in intervals[name]])
        assert share >= 0.9, (name, share)


@pytest.mark.parametrize("metric", ["columns", "pairs"])
def test_intervals_of_tables_cover_the_expected_value(metric):
    """The share of violations is left out: its interval is given the ranges of the real rows."""
    values, intervals = {}, {}
    for seed in range(200):
        rows = [people(1000 + 3 * seed + side, 600) for side in range(3)]
        for figure in figures_of(metric, tables(*rows, categories={"group": ("a", "b", "c")}, seed=seed)):
            if figure.group is None and figure.name != "columns.violations":
                values.setdefault(figure.name, []).append(figure.value)
                intervals.setdefault(figure.name, []).append(figure.interval)
    for name, found in values.items():
        expected = float(np.mean(found))
        share = np.mean([expected in one for one in intervals[name]])
        assert share >= 0.9, (name, share)
