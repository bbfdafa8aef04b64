"""Exact distances, against every pair computed in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen_engine.evaluate.metrics import distances
from gen_engine.evaluate.metrics.distances import balls, nearest, prepare


def apart(x, y):
    """Return all distances, float64 [N, M]."""
    return np.sqrt(np.square(x[:, None].astype(np.float64) - y[None]).sum(2))


def grid(rng, count, width):
    return rng.integers(0, 3, (count, width)).astype(np.float32)


KINDS = {
    "normal": lambda rng, count: rng.normal(size=(count, 20)).astype(np.float32),
    "ties": lambda rng, count: grid(rng, count, 6),
    "many ties": lambda rng, count: np.eye(40, dtype=np.float32)[rng.integers(0, 40, count)] + grid(rng, count, 1),
    "duplicates": lambda rng, count: rng.normal(size=(8, 9)).astype(np.float32)[rng.integers(0, 8, count)],
    "far from zero": lambda rng, count: (1e4 + rng.normal(size=(count, 20))).astype(np.float32),
    "tiny": lambda rng, count: (1e-20 * rng.normal(size=(count, 20))).astype(np.float32),
    "an outlier": lambda rng, count: np.vstack([np.full((1, 5), 1e6), rng.normal(size=(count - 1, 5))]).astype("f4"),
    "constant": lambda rng, count: np.ones((count, 3), np.float32),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks, the last one narrower."""
    monkeypatch.setattr(distances, "_QUERIES", 64)
    monkeypatch.setattr(distances, "_BASE", 150)


@pytest.mark.parametrize("kind", KINDS)
def test_nearest_are_those_of_all_pairs(kind):
    rng = np.random.default_rng(1)
    x, y = KINDS[kind](rng, 333), KINDS[kind](rng, 410)
    found, ids = nearest(*prepare(x, y), 5)
    every = apart(x, y)
    np.testing.assert_array_max_ulp(found, np.sort(every, axis=1)[:, :5], 4)
    np.testing.assert_array_max_ulp(found, np.take_along_axis(every, ids, axis=1), 4)
    assert all(len(set(line)) == 5 for line in ids.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_is_its_own_neighbour(kind):
    x = KINDS[kind](np.random.default_rng(2), 333)
    (points,) = prepare(x)
    found, ids = nearest(points, points, 3, same=True)
    every = apart(x, x)
    np.fill_diagonal(every, np.inf)
    np.testing.assert_array_max_ulp(found, np.sort(every, axis=1)[:, :3], 4)
    assert not (ids == np.arange(333)[:, None]).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("synthetic", ["drawn", "copied", "the centre"])
def test_balls_are_those_of_all_pairs(kind, synthetic):
    rng = np.random.default_rng(3)
    x = KINDS[kind](rng, 333)
    y = {"drawn": KINDS[kind](rng, 290), "copied": x[:290], "the centre": np.repeat(x.mean(0)[None], 290, 0)}[synthetic]
    points_x, points_y = prepare(x, y)
    x_radii = nearest(points_x, points_x, 5, same=True)[0][:, -1]
    y_radii = nearest(points_y, points_y, 5, same=True)[0][:, -1]
    found = balls(points_x, points_y, x_radii, y_radii)
    every = np.sqrt(points_x.exactly(*pairs(333, 290, points_y))).reshape(333, 290)
    np.testing.assert_allclose(every, apart(x, y), rtol=1e-12)
    assert found.around_y_M.tolist() == (every <= x_radii[:, None]).sum(0).tolist()
    assert found.x_has_y_N.tolist() == (every <= x_radii[:, None]).any(1).tolist()
    assert found.y_has_x_N.tolist() == (every <= y_radii[None]).any(1).tolist()


def pairs(rows, columns, base):
    return np.repeat(np.arange(rows), columns), base, np.tile(np.arange(columns), rows)


def test_float32_products_stay_within_the_bound():
    """The bound that decides what is computed again. Rows that cancel most: far from the centre, near each other."""
    rng = np.random.default_rng(4)
    for width in (1, 3, 64, 512):
        near = rng.normal(size=(1, width)) * 100
        x = np.vstack([near + rng.normal(size=(200, width)) * 1e-3, -near + rng.normal(size=(200, width))])
        points, other = prepare(x.astype(np.float32), x[::-1].astype(np.float32))
        found = points.squared(slice(0, 400), other, slice(0, 400)).astype(np.float64)
        exact = points.exactly(*pairs(400, 400, other)).reshape(400, 400) / points.scale**2
        bound = points.error * (points.squares_N[:, None] + other.squares_N[None])
        assert (np.abs(found - exact) <= bound).all()


@settings(max_examples=30)
@given(
    width=st.integers(1, 5),
    counts=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    levels=st.integers(1, 50),
    seed=st.integers(0, 2**32),
)
def test_nearest_of_any_grid(width, counts, levels, seed):
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(0, levels, (count, width)).astype(np.float32) for count in counts)
    count = int(rng.integers(1, counts[1] + 1))
    found, ids = nearest(*prepare(x, y), count)
    np.testing.assert_array_max_ulp(found, np.sort(apart(x, y), axis=1)[:, :count], 4)
    assert ids[:, 0].tolist() == apart(x, y).argmin(1).tolist() or levels == 1


def test_what_cannot_be_compared_is_refused():
    x = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match=r"3 nearest of 2 rows"):
        nearest(*prepare(x) * 2, 3, same=True)
    with pytest.raises(ValueError, match="not finite"):
        prepare(x, np.full((2, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"\[3, 2\] and \[3, 1\]"):
        prepare(x, x[:, :1])
    with pytest.raises(ValueError, match=r"\[0, 2\]"):
        prepare(x[:0])
