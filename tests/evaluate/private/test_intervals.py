"""Intervals of privacy figures cover what they should, and values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from evaluations import figures_of, tables
from scipy import stats

from gen_engine.evaluate.metrics.attacks import Candidates
from gen_engine.evaluate.metrics.distances import nearest, prepare
from gen_engine.evaluate.metrics.membership import true_positives
from gen_engine.evaluate.metrics.nearest import LIMITS, Nearest, nearer_share


@pytest.mark.parametrize(("rate", "rows"), [(0.01, 400), (0.1, 100)])
def test_intervals_of_true_positives_cover_the_truth(rate: float, rows: int) -> None:
    """The threshold's own error counts: exact intervals of a given threshold would miss a fifth to two fifths."""
    shift, inside, trials = 1.0, 0, 400
    truth = stats.norm.sf(stats.norm.isf(rate) - shift)
    rng = np.random.default_rng(0)
    for _ in range(trials):
        _, interval = true_positives(Candidates(rng.normal(shift, 1, rows), rng.normal(0, 1, rows)), rate)
        inside += truth in interval
    assert inside / trials > 0.92


def test_the_share_nearer_to_training_rows_counts_rows_that_share_a_neighbour_together() -> None:
    # Three synthetic rows beside training row 0, one beside held-out row 1, one between two equal rows.
    value, interval = nearer_share(np.array([-1.0, -1, -1, 1, 0]), np.zeros(5, int), np.ones(5, int), 2)
    assert value == (3 + 0.5) / 5
    _, apart = nearer_share(np.array([-1.0, -1, -1, 1, 0]), np.arange(5), np.arange(5), 5)
    assert interval.high - interval.low > apart.high - apart.low


@pytest.mark.slow
def test_the_share_of_clean_rows_is_seldom_far_from_a_half() -> None:
    rng, alarms, trials = np.random.default_rng(1), 0, 300
    for _ in range(trials):
        synthetic, train, test = prepare(*(rng.normal(size=(300, 3)) for _ in range(3)))
        (a, at), (b, bt) = (nearest(synthetic, one, 1) for one in (train, test))
        _, interval = nearer_share(a[:, 0] - b[:, 0], at[:, 0], bt[:, 0], 300)
        alarms += 0.5 not in interval
    assert alarms / trials < 0.08


def test_every_diagnostic_says_what_it_does_not_show() -> None:
    rows = prepare(*(np.random.default_rng(seed).normal(size=(60, 2)) for seed in range(3)))
    found = list(Nearest()._diagnostics(*rows, {}))
    limits = {one.name: one.conditions["limit"] for one in found}
    assert set(limits.values()) == set(LIMITS.values())
    assert limits["nearest.dcr.share"] == LIMITS["nearest.dcr.share"] != limits["nearest.dcr.median"]


def test_a_number_that_is_the_target_is_attacked_too() -> None:
    def people(seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {"a": rng.normal(size=800), "b": rng.normal(size=800), "wage": rng.normal(size=800)}

    train, test = people(1), people(2)
    (leak,) = figures_of("attributes", tables(train, train, test, categories={}, target="wage"))
    (clean,) = figures_of("attributes", tables(train, people(3), test, categories={}, target="wage"))
    assert leak.group == clean.group == "wage"
    assert leak.interval.low > 0
    assert clean.against_ceiling == "level with"
