"""The kernel distance against its definition, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

from gen_engine.evaluate.metrics.kernel import BLOCK_ROWS, discrepancy, with_interval


def by_pairs(x, y):
    """Return the unbiased estimate of formula 4 of the paper, one pair after the other."""

    def kernel(a, b):
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    first = np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    second = np.mean([kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    return first + second - 2 * np.mean([kernel(a, b) for a in x for b in y])


@pytest.mark.parametrize(("count", "other", "width"), [(2, 2, 1), (9, 5, 3), (20, 30, 12)])
def test_it_is_the_mean_over_pairs(count, other, width):
    rng = np.random.default_rng(count)
    x, y = rng.normal(size=(count, width)), rng.normal(size=(other, width)) + 1
    assert discrepancy(x, y) == pytest.approx(by_pairs(x, y), rel=1e-9)


def test_worked_by_hand():
    """x = 0, 0 and y = 1, 1 of one feature: 1 + 8 − 2."""
    assert discrepancy(np.zeros((2, 1)), np.ones((2, 1))) == 7


def test_it_has_no_bias():
    rng = np.random.default_rng(0)
    found = [discrepancy(rng.normal(size=(20, 3)), rng.normal(size=(20, 3))) for _ in range(2000)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(2000)
    assert min(found) < 0


def test_all_rows_are_in_one_block_each():
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(410, 4)).astype(np.float32) for _ in range(2))
    value, interval = with_interval(x, y)
    blocks = [discrepancy(x[i : i + 20].astype(float), y[i : i + 20].astype(float)) for i in range(0, 400, 20)]
    assert value == pytest.approx(np.mean(blocks), rel=1e-12)
    assert value in interval
    many = rng.normal(size=(25 * BLOCK_ROWS, 1)).astype(np.float32)
    assert with_interval(many, many + 1)[1].method == "t, 25 blocks of rows"
    with pytest.raises(ValueError, match="at least 40"):
        with_interval(x[:39], y)
