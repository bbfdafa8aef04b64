"""Trees: what depends on what is kept, leaves are as large as asked, and no array leads a walk out of its tree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from gen_engine.train.errors import ConfigError
from gen_engine.train.tables.classes import Classes, one_class
from gen_engine.train.tables.coded import Coded
from gen_engine.train.tables.columns import ColumnSpec
from gen_engine.train.tables.options import TreesOptions
from gen_engine.train.tables.trees import grow
from gen_engine.train.tables.trees.codes import load_codes

SIZES = [4, 3, 4, 250]


def coded(count: int = 4000, classes: int = 2) -> Coded:
    """Four columns: the second is that the first is odd, of the third half are the first, the fourth has many codes."""
    rng = np.random.default_rng(3)
    label_N = rng.integers(0, classes, count)
    first_N = np.where(label_N == 1, rng.integers(2, 4, count), rng.integers(0, 4, count))
    third_N = np.where(rng.random(count) < 0.5, first_N, rng.integers(0, 4, count))
    codes_ND = np.stack([first_N, first_N % 2, third_N, rng.integers(0, 250, count)], 1).astype(np.int32)
    specs = [
        ColumnSpec(name=f"c{place}", kind="integer", dtype="int64", group="exact", codes=size, nullable=False)
        for place, size in enumerate(SIZES)
    ]
    rows = tuple(np.flatnonzero(label_N == place) for place in range(classes))
    of_class = one_class(count) if classes == 1 else Classes(names=tuple("ab"), rows_Y=rows)
    return Coded(specs=tuple(specs), codings=(), codes_ND=codes_ND, order=(0, 1, 2, 3), classes=of_class)


def fitted(data: Coded, **options):
    return grow.fit_codes(data, TreesOptions(data="t.csv", **options), lambda step, figures: None)


def drawn(codes, count: int, label: int = 0):
    u_ZB = np.random.default_rng(5).random((codes.latents, count), np.float32)
    return codes.draw(u_ZB, np.full(count, label))


def test_a_function_of_a_column_stays_one():
    codes, figures = fitted(coded())
    for label in (0, 1):
        first_B, odd_B, *_ = drawn(codes, 3000, label)
        assert (odd_B == first_B % 2).all()
        assert set(first_B.tolist()) == ({2, 3} if label else {0, 1, 2, 3})
    assert figures["depth"] >= 2


@pytest.mark.parametrize("label", [0, 1])
def test_conditional_frequencies_are_those_of_the_rows(label):
    data = coded(20_000)
    codes, _ = fitted(data)
    made = drawn(codes, 20_000, label)
    real = data.codes_ND[data.classes.rows_Y[label]].T
    joint = np.bincount(made[0] * 4 + made[2], minlength=16)
    expected = np.bincount(real[0] * 4 + real[2], minlength=16) / real.shape[1] * made.shape[1]
    assert (joint[expected == 0] == 0).all()
    common = expected > 0
    # Both are samples, so the variance of the difference is twice that of one.
    statistic = ((joint - expected)[common] ** 2 / (2 * expected[common])).sum()
    assert statistic < chi2.ppf(1 - 1e-4, common.sum() - 1) * 1.5


def test_one_leaf_draws_the_frequencies_of_all_rows():
    data = coded(1000, classes=1)
    codes, figures = fitted(data, min_leaf=600)
    assert figures["leaves"] == len(SIZES)
    assert figures["depth"] == 0
    made = drawn(codes, 50_000)
    for place, size in enumerate(SIZES):
        real_K = np.bincount(data.codes_ND[:, place], minlength=size) / 1000
        assert np.abs(np.bincount(made[place], minlength=size) / 50_000 - real_K).max() < 0.02


@pytest.mark.parametrize(("min_leaf", "max_depth"), [(1, 30), (20, 3), (500, 20)])
def test_leaves_are_as_large_and_walks_as_short_as_asked(min_leaf, max_depth):
    data = coded()
    codes, figures = fitted(data, min_leaf=min_leaf, max_depth=max_depth)
    assert figures["depth"] == codes.arrays["depth_D"].max() <= max_depth
    a = codes.arrays
    for step, column in enumerate(a["order_D"].tolist()):
        values_FN = np.vstack([np.zeros(4000), data.codes_ND[:, a["order_D"]].T]).astype(int)
        values_FN[0, data.classes.rows_Y[1]] = 1
        node_N = np.full(4000, a["root_D"][step])
        for _ in range(a["depth_D"][step]):
            node_N = a["left_M"][node_N] + (
                values_FN[a["feature_M"][node_N], np.arange(4000)] > a["threshold_M"][node_N]
            )
        leaves, rows = np.unique(node_N, return_counts=True)
        assert rows.min() >= min_leaf
        for leaf in leaves.tolist():
            cells = slice(a["cell_first_M"][leaf], a["cell_first_M"][leaf] + a["cells_M"][leaf])
            assert set(a["code_G"][cells].tolist()) == set(data.codes_ND[node_N == leaf, column].tolist())


def test_the_same_seed_makes_the_same_arrays():
    one, other = (fitted(coded(), seed=4)[0].arrays for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("end", [0.0, 1.0, 1.0 - 2.0**-24])
def test_the_ends_of_the_uniforms_draw_codes_that_there_are(end):
    codes, _ = fitted(coded())
    made_D = codes.draw(np.full((4, 2), end, np.float32), np.array([0, 1])).max(axis=1)
    assert (made_D < SIZES).all()


@pytest.mark.filterwarnings("error")
def test_rows_that_all_differ_are_grown_without_a_warning():
    data = coded(240, classes=1)
    data = replace(
        data, codes_ND=np.stack([np.arange(240) % 4, np.arange(240) % 2, np.arange(240) % 4, np.arange(240)], 1)
    )
    fitted(data)


def test_few_rows_are_one_leaf():
    data = coded(3, classes=1)
    codes, _ = fitted(data)
    assert set(drawn(codes, 200)[0].tolist()) == set(data.codes_ND[:, 0].tolist())


def test_too_many_columns_are_refused(monkeypatch):
    monkeypatch.setattr(grow, "MOST_COLUMNS", 3)
    with pytest.raises(ConfigError, match="4 columns, and trees are grown for at most 3: use --model mixture"):
        fitted(coded())


@pytest.mark.parametrize("options", [{"min_leaf": 0}, {"max_depth": 0}, {"max_depth": 31}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="it must be 1 to"):
        TreesOptions(data="t.csv", **options)


CODES = fitted(coded(500))[0]


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_arrays_are_refused_or_draw_codes_that_there_are(data):
    name = data.draw(st.sampled_from(sorted(CODES.arrays)))
    array = CODES.arrays[name].copy()
    place = data.draw(st.integers(0, len(array) - 1))
    if array.dtype == np.float32:
        array[place] = data.draw(st.floats(width=32))
    else:
        bounds = np.iinfo(array.dtype)
        near = st.integers(-3, 3).map(lambda step: int(np.clip(int(array[place]) + step, bounds.min, bounds.max)))
        array[place] = data.draw(near | st.integers(bounds.min, bounds.max))
    try:
        codes = load_codes({**CODES.arrays, name: array}, SIZES, 2)
    except ValueError:
        return
    made = np.concatenate([drawn(codes, 300, label) for label in (0, 1)], axis=1)
    assert (made >= 0).all()
    assert (made.max(axis=1) < SIZES).all()


def test_whole_arrays_are_read():
    assert load_codes(CODES.arrays, SIZES, 2).arrays is CODES.arrays
    with pytest.raises(ValueError, match="is no array of this model"):
        load_codes({**CODES.arrays, "more_M": np.zeros(1, np.int32)}, SIZES, 2)
    with pytest.raises(ValueError, match="codes that their columns do not have"):
        load_codes(CODES.arrays, [4, 3, 4, 100], 2)
    assert replace(CODES).exact
