"""Usefulness on data whose answer is known: fresh real rows, shuffled labels, a missing class, regressions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluations import Itself, by_name, figures_of, glyphs, image_sides, image_split, tables, vectors

from gen_engine.engine.sample.schema import Field, Schema
from gen_engine.evaluate.features import open_extractor
from gen_engine.evaluate.learners.cnn import Cnn, arithmetic
from gen_engine.evaluate.metrics.contract import Budget, Evaluation
from gen_engine.evaluate.split import Split

SMALL = Budget(seeds=3, resamples=100, steps=80, small_steps=40)
TINY = Budget(seeds=2, resamples=20, steps=3, small_steps=2)


def images(synthetic, budget=SMALL, **more):
    sides = replace(image_sides(synthetic), **more)
    extractor = open_extractor("pca:16", sides, 0)
    return Evaluation(synthetic=sides.synthetic, train=sides.train, test=sides.test, extractor=extractor, budget=budget)


def fresh(count=1500, seed=9):
    return glyphs(count, seed)


def test_fresh_real_rows_are_level_with_the_real_ones():
    found = by_name("usefulness", images(image_split("synthetic", *fresh())))
    figure = found["tstr.cnn.accuracy"]
    assert figure.against_ceiling == "level with"
    assert figure.value > 0.8
    assert figure.floor.what == "majority class"
    assert figure.floor.value == pytest.approx(0.25, abs=0.03)
    assert 1 in found["tstr_over_trtr.cnn.accuracy"].interval
    assert {"tstr.probe.accuracy", "tstr.cnn.auc", "both.cnn.accuracy", "tstr.cnn.balanced_accuracy"} <= set(found)
    assert found["rare.cnn.balanced_accuracy"].not_computed.startswith("no class has less than 0.5")


def test_shuffled_labels_fall_to_the_floor():
    pixels, labels = fresh()
    shuffled = np.random.default_rng(0).permutation(labels)
    figure = by_name("usefulness", images(image_split("synthetic", pixels, shuffled)))["tstr.cnn.accuracy"]
    assert figure.against_ceiling == "short of"
    assert figure.value < 0.4


def test_a_missing_class_has_no_recall_and_is_named():
    pixels, labels = fresh()
    kept = labels != 2
    evaluation = images(image_split("synthetic", pixels[kept], labels[kept]))
    figures = {one.group: one for one in figures_of("usefulness", evaluation) if one.name == "tstr.cnn.recall"}
    assert figures["stroke 2"].interval.high < 0.05
    assert figures["stroke 1"].value > 0.7
    assert figures["stroke 1"].conditions["classes without synthetic rows"] == "stroke 2"


def test_the_same_seed_gives_the_same_figures():
    for metric in ("usefulness", "budgets"):
        one, two = (figures_of(metric, images(image_split("synthetic", *fresh(300)), TINY)) for _ in range(2))
        assert one == two


def test_every_training_has_the_same_number_of_steps_and_as_many_rows(monkeypatch):
    seen = []
    learn = Cnn.fit

    def fit(self, train, seed):
        seen.append((self.steps, len(train)))
        return learn(self, train, seed)

    monkeypatch.setattr(Cnn, "fit", fit)
    evaluation = images(image_split("synthetic", *fresh(500)), TINY)
    by_name("usefulness", evaluation)
    # Three kinds of training with two seeds each: synthetic, real, and both, of twice as many rows.
    assert seen == [(3, 500)] * 4 + [(3, 1000)] * 2
    seen.clear()
    by_name("budgets", evaluation)
    assert {steps for steps, _ in seen} == {2}
    assert {40, 1000} <= {rows for _, rows in seen}


def test_conditions_say_what_the_interval_leaves_out_and_which_classes_are_missing():
    pixels, labels = glyphs(400, 1)
    kept = labels != 2
    train = image_split("train", pixels[kept], labels[kept])
    found = by_name("usefulness", images(image_split("synthetic", *fresh(800)), TINY, train=train))
    conditions = found["tstr.cnn.accuracy"].conditions
    assert conditions["drawn with replacement"] == "real rows"
    assert conditions["classes without real rows"] == "stroke 2"
    assert conditions["arithmetic"] == arithmetic()


def test_what_cannot_be_trained_says_why():
    pixels, labels = fresh(300)
    synthetic = image_split("synthetic", pixels, labels)
    reasons = [
        (images(synthetic, test=None), "--test"),
        (images(synthetic, test=image_split("test", *glyphs(10, 2))), "10 rows of --test have a target"),
        (images(synthetic, train=image_split("train", pixels, np.zeros(300, np.int64))), "has one class"),
        (images(image_split("synthetic", pixels, None), train=image_split("train", pixels, None)), "--target"),
        (vectors(np.eye(30), np.eye(30), np.eye(30), [np.arange(30) % 2] * 3), "these rows are neither"),
        (image_regression(), "height is a number, and models of images predict classes"),
    ]
    for evaluation, reason in reasons:
        for metric in ("usefulness", "budgets"):
            (figure,) = figures_of(metric, evaluation)
            assert reason in figure.not_computed


def test_gains_at_small_budgets_are_paired_and_what_lacks_rows_says_so():
    figures = by_name("budgets", images(image_split("synthetic", *fresh())))
    assert figures["gain.cnn.10.accuracy"].interval.low > 0  # forty real rows against fifteen hundred more
    assert figures["gain_over_augmentation.cnn.10.accuracy"].conditions["rows"] == 40
    assert "gain_beside_augmentation.cnn.100.accuracy" in figures
    for name in ("gain", "gain_over_augmentation", "gain_beside_augmentation"):
        assert "500 real rows per class are needed" in figures[f"{name}.cnn.500.accuracy"].not_computed


def image_regression():
    def side(role, seed):
        pixels, labels = glyphs(100, seed)
        fields = (*image_split(role, pixels, None).schema, Field(name="height", kind="float", dtype="float64"))
        return Split(role, role, Schema(fields), {"image": pixels, "height": labels / 2}, "height")

    return Evaluation(
        synthetic=side("synthetic", 1), train=side("train", 2), test=side("test", 3), extractor=Itself(), budget=TINY
    )


def test_scores_that_the_test_rows_do_not_allow_say_why():
    pixels, labels = glyphs(400, 2)
    one = image_split("test", pixels[labels == 1], labels[labels == 1])
    found = by_name("usefulness", images(image_split("synthetic", *fresh(300)), TINY, test=one))
    for name in ("tstr.cnn.auc", "both.probe.auc", "tstr_over_trtr.cnn.auc"):
        assert "all of one class" in found[name].not_computed
    assert found["tstr.cnn.accuracy"].value is not None
    constant = table(census(900, 3), test_y=1.0)
    assert "the same value in every test row" in by_name("usefulness", constant)["tstr.trees.r2"].not_computed
    assert "the same value in every test row" in by_name("budgets", constant)["gain.trees.10.r2"].not_computed


def outcomes(count, seed, rare=0.05):
    rng = np.random.default_rng(seed)
    y = (rng.random(count) < rare).astype(np.int64)
    # Whole numbers: a bin of LightGBM may span the gap between two continuous groups, and would split one of them.
    return {"x": 2.0 * y, "z": rng.normal(size=count), "y": y}


def test_rare_classes_have_a_figure_of_their_own():
    sides = [outcomes(900, 1), outcomes(900, 3), outcomes(900, 2)]
    names = {"y": ("common", "rare")}
    figure = by_name("usefulness", tables(*sides, categories=names, target="y"))["rare.trees.balanced_accuracy"]
    assert figure.against_ceiling == "level with"
    assert figure.conditions["rare classes"] == "rare"
    count = int(sides[2]["y"].sum())
    # Every rare row is recognised: the interval is the exact one of so few rows, and reaches below 1.
    assert figure.value == 1
    assert figure.interval.low == pytest.approx(0.025 ** (1 / count))
    blind = outcomes(900, 3)
    blind["x"] = np.random.default_rng(5).permutation(blind["x"])
    found = by_name("usefulness", tables(sides[0], blind, sides[2], categories=names, target="y"))
    assert found["rare.trees.balanced_accuracy"].against_ceiling == "short of"
    assert found["tstr.trees.accuracy"].value > 0.9  # which alone would hide it
    none = outcomes(900, 2, rare=0)
    untested = by_name("usefulness", tables(*sides[:2], none, categories=names, target="y"))
    assert untested["rare.trees.balanced_accuracy"].not_computed == "no test row is of a rare class: rare"


def census(count, seed, *, slope=2.0):
    rng = np.random.default_rng(seed)
    code, x = rng.integers(0, 3, count), rng.normal(size=count)
    y = slope * x + code + 0.3 * rng.normal(size=count)
    gap = np.where(rng.random(count) < 0.2, np.nan, x)
    return {"code": np.where(rng.random(count) < 0.1, -1, code), "x": x, "gap": gap, "y": y}


def table(synthetic, target="y", classes=None, test_y=None):
    rows = [census(900, 1), synthetic, census(900, 2)]
    if test_y is not None:
        rows[2]["y"] = np.full(900, test_y)
    categories = {"code": ("a", "b", "c")}
    if classes:
        for one in rows:
            one["y"] = (one["y"] > 1).astype(np.int64)
        categories["y"] = classes
    return tables(*rows, categories=categories, target=target)


def test_a_regression_on_a_table():
    found = by_name("usefulness", table(census(900, 3)))
    figure = found["tstr.trees.r2"]
    assert figure.value > 0.9
    assert figure.floor.what == "trained on independent marginals"
    assert figure.floor.value < 0.1
    assert found["tstr.trees.rmse"].better == "lower"
    wrong = by_name("usefulness", table(census(900, 3, slope=-2)))["tstr.trees.r2"]
    assert wrong.against_ceiling == "short of"


def test_a_classification_on_a_table():
    found = by_name("usefulness", table(census(900, 3), classes=("low", "high")))
    assert found["tstr.trees.auc"].against_ceiling == "level with"
    assert found["tstr.trees.average_precision"].value > 0.8
    assert 0.4 < found["tstr.trees.auc"].conditions["accuracy of the majority class"] < 0.7
    gains = by_name("budgets", table(census(900, 3), classes=("low", "high")))
    assert gains["gain.trees.10.accuracy"].value > 0


def test_targets_that_are_missing_are_left_out():
    synthetic = census(900, 3)
    synthetic["y"][:300] = np.nan
    assert by_name("usefulness", table(synthetic))["tstr.trees.r2"].conditions["rows"] == 600
    synthetic["y"][:] = np.nan
    assert "finite y" in by_name("usefulness", table(synthetic))["tstr"].not_computed


@pytest.mark.slow
def test_the_ratio_of_fresh_rows_covers_1():
    """Sixty repetitions at 200 rows, all of which every training takes: without replacement 48 of 60 covered it."""

    def rows(count, seed):
        rng = np.random.default_rng(seed)
        code, x = rng.integers(0, 3, count), rng.normal(size=count)
        return {"code": code, "x": x, "y": (x + 0.5 * code + rng.normal(size=count) > 0.5).astype(np.int64)}

    hits = 0
    for seed in range(60):
        splits = [rows(size, 3 * seed + side) for side, size in enumerate((200, 200, 1000))]
        judged = tables(*splits, categories={"code": ("a", "b", "c"), "y": ("no", "yes")}, target="y", seed=seed)
        hits += 1 in by_name("usefulness", judged)["tstr_over_trtr.trees.accuracy"].interval
    assert hits >= 53
