"""Philox4x32-10, a counter-based random number generator: any index is reached without those before it.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The key is the seed; the counter
holds an index, the number of a block of it, and a stream, one per purpose. Unlike NumPy's generator it takes any
array of indices, as training batches have them. Legend: N indices, W words.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.errors import ConfigError

PARAMETER_STREAM: Final = 0
ORDER_STREAM: Final = 1

_MULTIPLIERS: Final = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL: Final = 0x9E3779B9, 0xBB67AE85
_ROUNDS: Final = 10
_LOW: Final = np.uint64(0xFFFF_FFFF)
_HALF: Final = np.uint64(32)


def words(seed: int, stream: int, indices_N: NDArray[Any], count: int) -> NDArray[np.uint32]:
    """The first `count` words of each index, uint32 [N, W].

    Args:
        seed: 0 to 2^64 - 1; ConfigError for another.
        stream: one of those above.
        indices_N: integers [N], 0 to 2^64 - 1.
        count: W.
    """
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed is {seed}: it must be 0 to 2^64 - 1")
    blocks = -(-count // 4)
    indices_NB = np.asarray(indices_N).astype(np.uint64)[:, None]
    block_NB = np.broadcast_to(np.arange(blocks, dtype=np.uint64), (len(indices_NB), blocks))
    counter = (
        np.broadcast_to(indices_NB & _LOW, block_NB.shape),
        np.broadcast_to(indices_NB >> _HALF, block_NB.shape),
        block_NB,
        np.full(block_NB.shape, stream, np.uint64),
    )
    drawn = np.stack(philox4x32(counter, (seed & 0xFFFF_FFFF, seed >> 32)), axis=-1)
    return drawn.reshape(len(indices_NB), -1)[:, :count].astype(np.uint32)


def philox4x32(counter: tuple[NDArray[np.uint64], ...], key: tuple[int, int]) -> tuple[NDArray[np.uint64], ...]:
    """Ten rounds: four arrays of 32-bit words, kept in uint64, under a key of two words, give four others."""
    one, two, three, four = counter
    first, second = key
    for _ in range(_ROUNDS):
        left, right = one * _MULTIPLIERS[0], three * _MULTIPLIERS[1]  # 32 × 32 bits never exceed 64
        one, two, three, four = (
            (right >> _HALF) ^ two ^ np.uint64(first),
            right & _LOW,
            (left >> _HALF) ^ four ^ np.uint64(second),
            left & _LOW,
        )
        first, second = (first + _WEYL[0]) & 0xFFFF_FFFF, (second + _WEYL[1]) & 0xFFFF_FFFF
    return one, two, three, four


def fractions(drawn: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Words as numbers in [0, 1), multiples of 2^-24: float64 of the same shape."""
    unit: NDArray[np.float64] = (drawn >> np.uint32(8)).astype(np.float64) * 2.0**-24
    return unit
