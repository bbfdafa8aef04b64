"""Privacy on data whose answer is known: a memoriser, a leak, repetitions, and fresh rows that give nobody away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluations import by_name, figures_of, glyphs, image_sides, image_split, tables, vectors

from gen_engine.evaluate.features import open_extractor
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.distances import prepare
from gen_engine.evaluate.metrics.membership import Candidates, true_positives
from gen_engine.evaluate.metrics.nearest import Nearest

ATTACKS = ("distance", "calibrated", "neighbours", "density-ratio", "classifier")
REAL, FRESH = glyphs(1500, 1), glyphs(1500, 9)


def evaluation(synthetic, seed=0, **more):
    sides = replace(image_sides(synthetic), **more)
    extractor = open_extractor("pca:16", sides, 0)
    return Evaluation(synthetic=sides.synthetic, train=sides.train, test=sides.test, extractor=extractor, seed=seed)


def memoriser(noise=3):
    pixels, labels = REAL
    noisy = pixels + np.random.default_rng(0).normal(0, noise, pixels.shape)
    return image_split("synthetic", np.clip(noisy, 0, 255).astype(np.uint8), labels)


def test_a_memoriser_is_found_by_distances_and_by_the_best_attack():
    found = by_name("membership", evaluation(memoriser()))
    for attack in ("distance", "calibrated"):
        assert found[f"membership.{attack}.pixels.auc"].interval.low > 0.9, attack
        assert found[f"membership.{attack}.pixels.tpr_at_fpr_1"].interval.low > 0.3, attack
    assert found["membership.neighbours.pixels.auc"].interval.low > 0.75  # half of the others have a neighbour too
    assert found["membership.worst.auc"].interval.low > 0.9
    outliers = by_name("membership", evaluation(memoriser()), "outliers")
    assert outliers["membership.distance.pixels.auc"].interval.low > 0.8


def test_fresh_rows_give_nobody_away():
    found = by_name("membership", evaluation(image_split("synthetic", *FRESH)))
    assert {f"membership.{attack}.pixels.auc" for attack in ATTACKS} <= set(found)
    assert found["membership.worst.auc"].interval.low < 0.5
    assert all(found[f"membership.{attack}.pixels.auc"].against_ceiling != "short of" for attack in ATTACKS)


@pytest.mark.slow
def test_twenty_clean_sets_raise_no_alarm():
    """Of 20 sets at a level of 95 % one or two may; the best attack and exact copies never do by much."""
    alarms = 0
    for seed in range(20):
        clean = evaluation(image_split("synthetic", *glyphs(1500, 100 + seed)), seed)
        worst = by_name("membership", clean)["membership.worst.auc"]
        alarms += worst.interval.low > 0.5
        assert by_name("copies", clean)["copies.exact"].value == 0
    assert alarms <= 3


def test_a_rare_class_has_figures_of_its_own():
    pixels, labels = REAL
    kept = (labels != 3) | (np.arange(len(labels)) % 4 == 0)
    rare = evaluation(memoriser(), train=image_split("train", pixels[kept], labels[kept]))
    groups = {one.group for one in figures_of("membership", rare)}
    assert groups == {None, "outliers", "stroke 3"}


def test_without_enough_held_out_rows_it_says_so():
    for test, reason in ((None, "--test"), (image_split("test", *glyphs(90, 2)), "90 rows of --train or --test")):
        (figure,) = figures_of("membership", evaluation(memoriser(), test=test))
        assert reason in figure.not_computed


def test_true_positives_are_those_above_the_threshold():
    scores = Candidates(np.array([0.0, 1, 2, 3]), np.arange(-1, 99, 1.0))
    assert true_positives(scores, 0.1)[0] == 0
    scores = Candidates(np.array([95.5, 96.5, 97.5, 98.5]), np.arange(-1, 99, 1.0))
    assert true_positives(scores, 0.01)[0] == 0.5  # one of a hundred others, 98, is above 97
    value, interval = true_positives(Candidates(np.ones(400), np.ones(400)), 0.1)
    assert (value, interval.low) == (0, 0)  # ties are no evidence


def test_a_leak_of_training_rows_is_found():
    pixels, labels = FRESH
    leaked = pixels.copy()
    leaked[:75] = REAL[0][:75]  # 5 % of the training rows
    found = by_name("copies", evaluation(image_split("synthetic", leaked, labels)))["copies.exact"]
    assert found.value == pytest.approx(0.05)
    assert found.against_ceiling == "short of"
    clean = by_name("copies", evaluation(image_split("synthetic", *FRESH)))
    assert clean["copies.exact"].value == 0
    assert clean["copies.near"].against_ceiling == "level with"


def test_near_copies_are_found_and_shown():
    judged = evaluation(memoriser(1))
    assert by_name("copies", judged)["copies.near"].value > 0.9
    (exhibit,) = judged.exhibits
    synthetic, train, test = exhibit.lines[0]
    row, real = (int(one.caption.split("row ")[1].split(":")[0]) for one in (synthetic, train))
    assert row == real
    assert np.abs(synthetic.image.astype(int) - train.image).max() < 8
    assert "held out" in test.caption


def test_repetitions_are_found():
    pixels, labels = FRESH
    half = np.concatenate([pixels[:750], pixels[:750]])
    found = by_name("copies", evaluation(image_split("synthetic", half, labels)))["copies.duplicates"]
    assert found.value == 0.5
    assert found.ceiling.value == 0


def test_diagnostics_worked_by_hand():
    synthetic, train, test = prepare(
        np.float32([[0.0], [10.0]]), np.float32([[1.0], [4.0], [9.0]]), np.float32([[3.0], [10.0], [20.0]])
    )
    found = {one.name: one.value for one in Nearest()._diagnostics(synthetic, train, test, {})}
    # Nearest training rows: 1 at distance 1, then 4 at 4; 9 at distance 1, then 4 at 6.
    assert found["nearest.dcr.median"] == 1
    assert found["nearest.nndr.median"] == pytest.approx((1 / 4 + 1 / 6) / 2)
    assert found["nearest.dcr.share"] == 0.5  # 0 is nearer to train, 10 to its equal in test
    assert found["nearest.authenticity"] == 0  # 1 and 9 are 3 and 5 from their own neighbours


def test_diagnostics_of_a_memoriser_differ_from_held_out_rows():
    found = by_name("nearest", evaluation(memoriser()))
    assert found["nearest.dcr.median"].against_ceiling == "short of"
    assert found["nearest.dcr.share"].value > 0.95
    assert found["nearest.authenticity"].value < 0.1
    assert "limit" in found["nearest.dcr.share"].conditions
    clean = by_name("nearest", evaluation(image_split("synthetic", *FRESH)))
    assert clean["nearest.dcr.share"].against_ceiling == "level with"


def people(count, seed):
    rng = np.random.default_rng(seed)
    home = rng.integers(0, 20, count)
    return {"home": home, "age": rng.normal(40, 10, count), "sick": rng.integers(0, 2, count)}


CATEGORIES = {"home": tuple(f"place {one}" for one in range(20)), "sick": ("no", "yes")}


def test_what_is_learnt_of_a_training_rows_column():
    train, test = people(1500, 1), people(1500, 2)
    leak = tables(train, train, test, categories=CATEGORIES, target="sick")
    risks = {one.group: one for one in figures_of("attributes", leak)}
    assert risks["sick"].interval.low > 0.1
    clean = tables(train, people(1500, 3), test, categories=CATEGORIES, target="sick")
    assert all(one.interval.low < 0.05 for one in figures_of("attributes", clean))
    # What follows from the other columns for everybody is no risk.
    for rows in (train, test):
        rows["sick"] = (rows["age"] > 40).astype(np.int64)
    known = tables(train, train, test, categories=CATEGORIES, target="sick")
    found = {one.group: one for one in figures_of("attributes", known)}["sick"]
    assert found.not_computed is not None or found.interval.low < 0.6


def test_images_and_small_tables_say_why_they_have_no_attributes():
    (figure,) = figures_of("attributes", evaluation(memoriser()))
    assert "images, which have no columns" in figure.not_computed
    numbers = {"x": np.arange(200.0), "y": np.arange(200.0)}
    (figure,) = figures_of(
        "attributes", tables(numbers, numbers, {"x": -numbers["x"], "y": numbers["y"]}, categories={})
    )
    assert "no column has 2 to 50 categories" in figure.not_computed


def test_rows_of_vectors_are_compared_as_they_are():
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(300, 3)) for _ in range(3)]
    (figure,) = figures_of("attributes", vectors(*rows))
    assert figure.value is None
