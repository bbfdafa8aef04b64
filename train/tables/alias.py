"""Walker's alias method (Walker 1977, with the construction of Vose 1991), for many distributions at once.

A cell of K equal ones is chosen by one uniform u: k = ⌊u·K⌋. It yields k where the fraction u·K − k is below its
probability, and its alias otherwise. So a draw costs two look-ups, whatever K is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def alias_tables(weights_CK: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return each row's probabilities of keeping a cell, float32 [C, K], and its alias, int32 [C, K].

    Args:
        weights_CK: not negative, finite, the sum of each row positive.
    """
    count, size = weights_CK.shape
    scaled_CK = weights_CK / weights_CK.sum(axis=1, keepdims=True) * size
    keep_CK = np.ones((count, size))
    alias_CK = np.tile(np.arange(size, dtype=np.int32), (count, 1))
    # In every step each row gives its least open cell what it lacks, from its greatest one: K - 1 steps close all.
    open_CK = scaled_CK.copy()
    rows = np.arange(count)
    closed_CK = np.zeros((count, size), bool)
    for _ in range(size - 1):
        least_C = np.where(closed_CK, np.inf, open_CK).argmin(axis=1)
        most_C = np.where(closed_CK, -np.inf, open_CK).argmax(axis=1)
        share_C = np.clip(open_CK[rows, least_C], 0.0, 1.0)
        keep_CK[rows, least_C] = share_C
        alias_CK[rows, least_C] = most_C
        closed_CK[rows, least_C] = True
        open_CK[rows, most_C] -= 1.0 - share_C
    return keep_CK.astype(np.float32), alias_CK


def alias_of_one(weights_K: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the same of one distribution of any size, in time linear in it: float32 [K], int32 [K]."""
    size = len(weights_K)
    scaled = (weights_K / weights_K.sum() * size).tolist()
    keep, alias = np.ones(size), np.arange(size, dtype=np.int32)
    small = [place for place, value in enumerate(scaled) if value < 1.0]
    large = [place for place, value in enumerate(scaled) if value >= 1.0]
    while small and large:
        least, most = small.pop(), large[-1]
        keep[least], alias[least] = scaled[least], most
        scaled[most] -= 1.0 - scaled[least]
        if scaled[most] < 1.0:
            small.append(large.pop())
    return keep.astype(np.float32), alias


def probabilities(keep_CK: NDArray[np.float32], alias_CK: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the distributions that the tables draw from, float64 [C, K]."""
    count, size = keep_CK.shape
    made_CK = keep_CK.astype(np.float64)
    rows_CK = np.broadcast_to(np.arange(count)[:, None], (count, size))
    np.add.at(made_CK, (rows_CK, alias_CK), 1.0 - keep_CK.astype(np.float64))
    made_CK /= size
    return made_CK


def draw(
    u: NDArray[np.float32],
    decide: NDArray[np.float32] | None,
    size: NDArray[np.int32],
    first: NDArray[np.int32],
    keep: NDArray[np.float32],
    alias: NDArray[Any],
) -> NDArray[np.int32]:
    """Draw cells from alias tables, int32 of the shape of `u`.

    Args:
        u: uniforms over [0, 1].
        decide: a second uniform, between a cell and its alias; None: the fraction of the first one is.
        size: cells of the table that is drawn from.
        first: its place in `keep` and `alias`.
        keep: alias tables, one after the other.
        alias: int32 or uint8, of the same length.
    """
    scaled = u * size.astype(np.float32)
    cell = np.minimum(np.floor(scaled).astype(np.int32), size - 1)
    fraction = scaled - cell.astype(np.float32) if decide is None else decide
    place = first + cell
    drawn: NDArray[np.int32] = np.where(fraction < keep[place], cell, alias[place].astype(np.int32))
    return drawn
