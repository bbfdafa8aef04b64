"""The random numbers are those of the published algorithm, and depend on the seed and the index alone."""

from __future__ import annotations

import numpy as np
import pytest

from gen_engine.train.augment.philox import fractions, philox4x32, words
from gen_engine.train.errors import ConfigError


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # kat_vectors of Random123
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, (2**32 - 1,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers(counter, key, expected):
    drawn = philox4x32(tuple(np.array([one], np.uint64) for one in counter), key)
    assert [int(one[0]) for one in drawn] == expected


def test_an_index_has_the_same_words_in_any_company():
    indices = np.array([5, 2**40, 0, 5])
    drawn = words(2**63 + 7, 1, indices, 6)
    assert drawn.shape == (4, 6)
    for at, index in enumerate(indices):
        np.testing.assert_array_equal(drawn[at], words(2**63 + 7, 1, np.array([index]), 9)[0, :6])
    assert len({row.tobytes() for row in drawn}) == 3


@pytest.mark.parametrize("other", [(1, 0), (0, 1), (2**32, 0)])
def test_seeds_and_streams_differ(other):
    indices = np.arange(100)
    assert (words(0, 0, indices, 4) != words(*other, indices, 4)).mean() > 0.99


def test_fractions_are_uniform():
    unit = fractions(words(3, 0, np.arange(20_000), 9))
    assert unit.dtype == np.float64
    assert 0 <= unit.min() < unit.max() < 1
    np.testing.assert_allclose(unit.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(unit.T), np.eye(9), atol=0.03)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ConfigError, match=str(seed)):
        words(seed, 0, np.arange(1), 1)
