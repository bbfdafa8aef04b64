"""The kernel distance: the squared maximum mean discrepancy, by KID's kernel, without bias.

M. Bińkowski et al., *Demystifying MMD GANs*, 2018: k(x, y) = (x·y / D + 1)³, and the unbiased estimate of
E k(x, x') + E k(y, y') − 2 E k(x, y). It may be negative. The value is the mean over disjoint blocks of rows, which are
independent: so their spread gives the interval, also where the distributions are equal.

Shape suffixes: N rows, D features, B blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.evaluate.figures import Better, Interval
from gen_engine.evaluate.metrics import intervals
from gen_engine.evaluate.metrics.compared import FeatureMetric, Measured
from gen_engine.evaluate.metrics.contract import Budget
from gen_engine.evaluate.metrics.yardstick import Features

BLOCK_ROWS: Final = 1_000
"""Most rows of a block, as published."""


def discrepancy(x_ND: NDArray[np.float64], y_MD: NDArray[np.float64]) -> float:
    """Return the unbiased squared discrepancy of two sets of at least two rows each."""
    count, other = len(x_ND), len(y_MD)
    within_x, within_y = _kernel(x_ND, x_ND), _kernel(y_MD, y_MD)
    pairs_x = (within_x.sum() - np.trace(within_x)) / (count * (count - 1))
    pairs_y = (within_y.sum() - np.trace(within_y)) / (other * (other - 1))
    return float(pairs_x + pairs_y - 2 * _kernel(x_ND, y_MD).mean())


def _kernel(x_ND: NDArray[np.float64], y_MD: NDArray[np.float64]) -> NDArray[np.float64]:
    base = x_ND @ y_MD.T
    base /= x_ND.shape[1]
    base += 1
    return np.asarray(base * base * base)


def with_interval(x_ND: Features, y_MD: Features) -> tuple[float, Interval]:
    """Return the mean discrepancy of disjoint blocks, and its interval.

    Raises:
        ValueError: a set has fewer than ``2 * intervals.BLOCKS`` rows.
    """
    fewest = min(len(x_ND), len(y_MD))
    if fewest < 2 * intervals.BLOCKS:
        raise ValueError(f"a kernel distance of {fewest} rows: at least {2 * intervals.BLOCKS} are needed")
    blocks = max(intervals.BLOCKS, fewest // BLOCK_ROWS)
    size = min(BLOCK_ROWS, fewest // blocks)
    found_B = [
        discrepancy(x_ND[rows].astype(np.float64), y_MD[rows].astype(np.float64))
        for rows in (slice(start, start + size) for start in range(0, blocks * size, size))
    ]
    value = float(np.mean(found_B))
    return value, intervals.over_blocks(value, found_B)


class Kernel(FeatureMetric):
    """The kernel distance, of all rows and of each class."""

    name = "kernel"
    better: ClassVar[Mapping[str, Better]] = {"kernel": "lower"}

    def refusal(self, rows: int, width: int, budget: Budget) -> str | None:
        """Return why the distance is not computed."""
        least = 2 * intervals.BLOCKS
        return None if rows >= least else f"{rows:,} rows of each set: at least {least} are needed for an interval"

    def measure(self, real_ND: Features, sets: Sequence[Features], budget: Budget) -> Iterator[Measured]:
        """Yield the distance of each set from the real rows."""
        for rows_ND in sets:
            yield {self.name: with_interval(rows_ND, real_ND)}
