"""Columns as pictures: each row is in one bar, and a bar is as high as its share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_engine.engine.sample.schema import Field
from gen_engine.evaluate.metrics.marginals import (
    A_LINE,
    BAR,
    BARS,
    GAP,
    HEIGHT,
    MOST_COLUMNS,
    REAL,
    SYNTHETIC,
    marginals,
    picture,
    shares,
)

NUMBER = Field(name="n", kind="float", dtype="float64", title="n", nullable=True)
KEY = Field(
    name="key", kind="category", dtype="int32", categories=tuple(map(str, range(40))), title="key", nullable=True
)


@given(
    st.lists(st.floats(allow_infinity=False), min_size=1, max_size=40),
    st.lists(st.floats(allow_infinity=False), min_size=1, max_size=40),
)
def test_every_number_is_in_one_bar(real: list[float], synthetic: list[float]) -> None:
    for made, values in zip(shares(NUMBER, np.array(real), np.array(synthetic)), (real, synthetic), strict=True):
        assert made.shape == (BARS + 1,)
        assert made.sum() == pytest.approx(1)
        assert made[-1] == pytest.approx(np.isnan(values).mean())


@given(st.lists(st.integers(-1, 39), min_size=1, max_size=60), st.lists(st.integers(-1, 39), min_size=1, max_size=60))
def test_categories_stand_by_their_real_frequency(real: list[int], synthetic: list[int]) -> None:
    as_numbers = [np.where(np.array(ids) < 0, np.nan, ids) for ids in (real, synthetic)]
    of_real, of_synthetic = shares(KEY, *as_numbers)
    assert (np.diff(of_real[: BARS - 1]) <= 1e-12).all()
    for made, ids in ((of_real, real), (of_synthetic, synthetic)):
        assert made.sum() == pytest.approx(1)
        assert made[-1] == pytest.approx(np.mean([one < 0 for one in ids]))


def test_a_number_outside_the_real_range_is_in_the_bar_at_that_end() -> None:
    _, made = shares(NUMBER, np.arange(100.0), np.array([-1e9, 1e300, 50.0, np.nan]))
    assert made[0] == made[BARS - 1] == made[-1] == 0.25


@pytest.mark.parametrize("real", [[np.nan, np.nan], [3.0, 3.0], [-1.7e308, 1.7e308]])
def test_constants_missing_columns_and_the_largest_numbers_are_drawn(real: list[float]) -> None:
    made = picture(*shares(NUMBER, np.array(real), np.array(real)))
    assert made.shape == (HEIGHT, (BARS + 1) * (BAR + GAP) + BAR, 3)
    assert (made == SYNTHETIC).all(axis=2).any()


def test_bars_are_as_high_as_their_shares() -> None:
    real_K, synthetic_K = np.zeros(BARS + 1), np.zeros(BARS + 1)
    real_K[0], real_K[1], synthetic_K[0], synthetic_K[-1] = 0.5, 0.5, 0.25, 0.75
    made = picture(real_K, synthetic_K)
    grey, blue = ((made == colour).all(axis=2) for colour in (REAL, SYNTHETIC))
    assert grey[:, 0].sum() == pytest.approx(HEIGHT * 0.5 / 0.75, abs=2)
    assert blue[:, BAR // 2].sum() == pytest.approx(HEIGHT * 0.25 / 0.75, abs=2)
    assert blue[:, -BAR + BAR // 2 - GAP].sum() == HEIGHT
    assert not grey[:, -BAR:].any()


def test_wide_tables_show_their_first_columns() -> None:
    fields = tuple(
        Field(name=f"f{i}", kind="float", dtype="float64", title=f"column {i}") for i in range(MOST_COLUMNS + 5)
    )
    rows_ND = np.random.default_rng(0).random((30, len(fields)))
    shown = marginals("columns", fields, rows_ND, rows_ND)
    assert sum(map(len, shown.lines)) == MOST_COLUMNS
    assert {len(line) for line in shown.lines} == {A_LINE}
    assert shown.lines[0][0].caption == "column 0"
    assert f"The first {MOST_COLUMNS} of {len(fields)} columns." in shown.note
