"""Codes and back: exact where a column is exact, inside a piece of occurring values where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen_engine.train.tables.coding import BINS, FEW, HEAD, fit_coding
from gen_engine.train.tables.values import LEAST, Values


def grid(values, missing=()):
    values_N = np.array(values, np.int64)
    missing_N = np.isin(np.arange(len(values_N)), missing)
    values_N[missing_N] = LEAST
    return Values(form="grid", values_N=values_N, missing_N=missing_N, kind="integer", dtype="int64")


def real(values):
    values_N = np.array(values, np.float64)
    return Values(form="real", values_N=values_N, missing_N=np.isnan(values_N), kind="float", dtype="float64")


def categories(ids, count):
    ids_N = np.array(ids, np.int64)
    names = tuple(map(str, range(count)))
    return Values(
        form="category", values_N=ids_N, missing_N=ids_N < 0, categories=names, kind="category", dtype="int32"
    )


integers = st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=300)


@given(integers, st.data())
@settings(max_examples=60)
def test_integers_stay_within_their_code(values, data):
    values = values * data.draw(st.sampled_from([1, 3]))
    missing = data.draw(st.sets(st.integers(0, len(values) - 1), max_size=3))
    coding, codes_N = fit_coding(grid(values, sorted(missing)))
    assert coding.codes <= 256
    ends_K = coding.low_KJ[:, -1].astype(object) + coding.span_KJ[:, -1].astype(object) - 1
    for row, (value, code) in enumerate(zip(values, codes_N.tolist(), strict=True)):
        if row in missing:
            assert coding.missing
            assert code == coding.codes - 1
            assert coding.low_KJ[code, 0] == LEAST
        else:
            assert coding.low_KJ[code, 0] <= value <= max(ends_K[code], coding.low_KJ[code, -1])
            if len(set(values)) <= FEW:
                assert coding.low_KJ[code, 0] == value
                assert coding.span_KJ[code, 0] == 1


@given(integers)
@settings(max_examples=60)
def test_no_piece_leaves_the_range_of_the_data(values):
    coding, _ = fit_coding(grid(values))
    last_KJ = coding.low_KJ.astype(object) + coding.span_KJ.astype(object) - 1
    assert (coding.span_KJ >= 1).all()
    assert coding.low_KJ.min() >= min(values)
    assert last_KJ.max() <= max(values)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=300))
@settings(max_examples=60)
def test_floats_stay_within_the_range_of_the_data(values):
    coding, codes_N = fit_coding(real(values))
    assert (coding.span_KJ >= 0).all()
    most = coding.low_KJ + coding.span_KJ * (1 - 2.0**-24)
    assert coding.low_KJ.min() >= min(values)
    assert most.max() <= max(values)
    if len(set(values)) <= FEW:
        assert coding.low_KJ[codes_N, 0].tolist() == values


def test_a_frequent_value_has_a_code_of_its_own():
    rng = np.random.default_rng(0)
    values = np.where(rng.random(5000) < 0.8, 0, rng.integers(1, 10**6, 5000))
    coding, codes_N = fit_coding(grid(values))
    (spike,) = np.unique(codes_N[values == 0])
    assert coding.low_KJ[spike].tolist() == [0] * 16
    assert coding.span_KJ[spike].tolist() == [1] * 16
    assert coding.codes == 1 + BINS
    assert not (codes_N[values != 0] == spike).any()
    assert np.bincount(codes_N[values != 0] - 1).std() < 2  # bins of equal mass


def test_rare_categories_share_a_code_and_keep_their_frequencies():
    rows = np.concatenate([np.repeat(np.arange(300), 5), np.repeat(np.arange(300, 1000), 2)])
    coding, codes_N = fit_coding(categories(rows, 1000))
    assert coding.form == "tail"
    assert coding.codes == HEAD + 1
    assert len(coding.tail_ids) == 1000 - HEAD
    assert coding.tail_weights.sum() == (codes_N == coding.tail).sum()
    assert sorted([*coding.low_KJ[:HEAD, 0].tolist(), *coding.tail_ids.tolist()]) == list(range(1000))


def test_missing_categories_are_minus_one():
    coding, codes_N = fit_coding(categories([0, 1, -1, 1], 2))
    assert coding.low_KJ[codes_N, 0].tolist() == [0, 1, -1, 1]


def test_all_missing_is_one_code():
    coding, codes_N = fit_coding(real([np.nan] * 4))
    assert coding.codes == 1
    assert codes_N.tolist() == [0] * 4
    assert np.isnan(coding.low_KJ).all()


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 255, 256, 5000])
def test_codes_fit_a_byte(count):
    for values in (grid(np.arange(count) ** 2), categories(np.arange(count), count), real(np.arange(count) / 7)):
        coding, codes_N = fit_coding(values)
        assert codes_N.max() < coding.codes <= 256
