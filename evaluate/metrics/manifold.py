"""Precision, recall, density and coverage: balls around each row, as wide as the distance to its k-th neighbour.

T. Kynkäänniemi et al., *Improved precision and recall metric for assessing generative models*, 2019;
M. F. Naeem et al., *Reliable fidelity and diversity metrics for generative models*, 2020. With x real and
y synthetic, and balls that contain their surface:

- precision: share of y that lie in a ball around some x; recall: share of x in a ball around some y;
- density: mean number of balls around x that contain a y, over k; it may exceed 1;
- coverage: share of balls around x that contain some y.

Shape suffixes: N real rows, M synthetic rows, D features, K neighbours, P partitions into G blocks of B rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from gen_engine.evaluate.figures import Better, Interval
from gen_engine.evaluate.metrics import intervals
from gen_engine.evaluate.metrics.compared import FeatureMetric, Measured
from gen_engine.evaluate.metrics.contract import Budget
from gen_engine.evaluate.metrics.distances import Floats, Points, balls, nearest, prepare
from gen_engine.evaluate.metrics.yardstick import Features


def radii(points: Points, neighbours: int) -> Floats:
    """Return the distance of each row to its k-th nearest other row, float64 [N]."""
    return nearest(points, points, neighbours, same=True)[0][:, -1]


def compare(real: Points, real_radii_N: Floats, synthetic: Points, neighbours: int) -> dict[str, float]:
    """Return the four figures of one set by name."""
    found = balls(real, synthetic, real_radii_N, radii(synthetic, neighbours))
    return {
        "precision": float(np.mean(found.around_y_M > 0)),
        "recall": float(found.y_has_x_N.mean()),
        "density": float(found.around_y_M.mean()) / neighbours,
        "coverage": float(found.x_has_y_N.mean()),
    }


class Manifold(FeatureMetric):
    """Precision, recall, density and coverage, of all rows and of each class."""

    name = "manifold"
    most_rows, most_table_rows = 60_000, 30_000  # every pair of rows is looked at
    better: ClassVar[Mapping[str, Better]] = {
        "precision": "higher",
        "recall": "higher",
        "density": "equal",
        "coverage": "higher",
    }

    def conditions(self, budget: Budget) -> Mapping[str, str | int]:
        """Return k."""
        return {"neighbours": budget.neighbours}

    def refusal(self, rows: int, width: int, budget: Budget) -> str | None:
        """Return why the figures are not computed."""
        least = 10 * (budget.neighbours + 1)
        if rows >= least:
            return None
        return f"{rows:,} rows of each set: {budget.neighbours} neighbours need at least {least}"

    def measure(self, real_ND: Features, sets: Sequence[Features], budget: Budget) -> Iterator[Measured]:
        """Yield the figures of each set; blocks of rows, each against a block of real rows, give the intervals."""
        count = budget.neighbours
        real, *others = prepare(real_ND, *sets)
        real_radii_N = radii(real, count)
        for rows_ND, points in zip(sets, others, strict=True):
            values = compare(real, real_radii_N, points, count)
            blocks_PG = [
                [_compare_block(real_ND[rows_B], rows_ND[rows_B], count) for rows_B in parts]
                for parts in intervals.partitions(len(rows_ND))
            ]
            yield {
                name: (
                    value,
                    _interval(name, value, [[one[name] for one in blocks] for blocks in blocks_PG], len(rows_ND)),
                )
                for name, value in values.items()
            }


def _interval(name: str, value: float, blocks_PG: list[list[float]], rows: int) -> Interval:
    """Return the blocks' interval; of a share no narrower than Wilson's, which holds for given balls."""
    if name == "density":
        return intervals.over_blocks(value, blocks_PG, within=(0.0, np.inf))
    found = intervals.over_blocks(value, blocks_PG, within=(0.0, 1.0))
    given_balls = intervals.of_proportion(value * rows, rows)
    return Interval(
        low=min(found.low, given_balls.low), high=max(found.high, given_balls.high), method=f"{found.method}, or Wilson"
    )


def _compare_block(real_ND: Features, rows_ND: Features, neighbours: int) -> dict[str, float]:
    real, points = prepare(real_ND, rows_ND)
    return compare(real, radii(real, neighbours), points, neighbours)
