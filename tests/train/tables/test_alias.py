"""Alias tables draw from exactly the distributions that they were made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gen_engine.train.tables.alias import alias_of_one, alias_tables, probabilities

weights = st.integers(1, 40).flatmap(
    lambda size: arrays(np.float64, (3, size), elements=st.floats(0, 1e6, allow_subnormal=False)).filter(
        lambda made: bool((made.sum(axis=1) > 0).all())
    )
)


@given(weights)
def test_the_cells_sum_to_the_probabilities(weights_CK):
    keep_CK, alias_CK = alias_tables(weights_CK)
    wanted_CK = weights_CK / weights_CK.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(keep_CK, alias_CK), wanted_CK, atol=1e-6)
    assert alias_CK.min() >= 0
    assert alias_CK.max() < weights_CK.shape[1]


@given(weights)
def test_nothing_impossible_is_drawn(weights_CK):
    keep_CK, alias_CK = alias_tables(weights_CK)
    for keep_K, alias_K, weights_K in zip(keep_CK, alias_CK, weights_CK, strict=True):
        impossible = np.flatnonzero(weights_K == 0)
        assert not keep_K[impossible].any()
        assert not np.isin(alias_K[keep_K < 1], impossible).any()


@given(weights)
def test_one_distribution_in_linear_time_is_the_same(weights_CK):
    keep_K, alias_K = alias_of_one(weights_CK[0])
    wanted_K = weights_CK[0] / weights_CK[0].sum()
    np.testing.assert_allclose(probabilities(keep_K[None], alias_K[None])[0], wanted_K, atol=1e-6)


def test_a_million_categories_take_moments():
    weights_K = np.random.default_rng(0).pareto(1.0, 1_000_000) + 1e-9
    keep_K, alias_K = alias_of_one(weights_K)
    made_K = probabilities(keep_K[None], alias_K[None])[0]
    assert made_K == pytest.approx(weights_K / weights_K.sum(), rel=1e-3, abs=1e-11)
