"""Columns of a table, one at a time: their shapes, missing values, and values that the real rows rule out.

- shape: 1 − the distance of a column's distributions: total variation for categories, Kolmogorov and Smirnov's largest
  difference of the cumulative shares for numbers. A missing value is a category of its own, and is
  larger than every number.
- wasserstein: the mean distance that a unit of probability moves from one to the other (Wasserstein-1), in units of
  the real standard deviation; numbers that are not missing.
- missing: difference of the shares of missing values.
- violations: share of rows with a value outside the real range, a category that no real row has, or a missing value
  where no real row misses one.

Shape suffixes: N rows, D columns, G blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Field
from gen_engine.evaluate.figures import Better, Figure, Interval, Question, Reference, not_computed
from gen_engine.evaluate.metrics import intervals
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.marginals import marginals
from gen_engine.evaluate.metrics.scalars import is_category, other_fields, scalar_fields, table_matrix
from gen_engine.evaluate.metrics.yardstick import Comparison, compare_all

Values = NDArray[np.float64]

WORST: Final = 10
"""Columns that are listed for each figure, the worst first."""

LEAST_ROWS: Final = 2 * intervals.BLOCKS


def total_variation(x_N: Values, y_M: Values) -> float:
    """Return half the sum of the differences of categories' shares; NaN is a category."""
    both, ids = np.unique(np.concatenate([x_N, y_M]), return_inverse=True, equal_nan=True)
    x = np.bincount(ids[: len(x_N)], minlength=len(both)) / len(x_N)
    y = np.bincount(ids[len(x_N) :], minlength=len(both)) / len(y_M)
    return float(np.abs(x - y).sum() / 2)


def kolmogorov_smirnov(x_N: Values, y_M: Values) -> float:
    """Return the largest difference of the cumulative shares; NaN comes after every number."""
    x_sorted, y_sorted = np.sort(x_N), np.sort(y_M)
    points = np.concatenate([x_sorted, y_sorted])
    points = points[~np.isnan(points)]
    if not len(points):
        return 0.0
    x, y = (np.searchsorted(one, points, side="right") / len(one) for one in (x_sorted, y_sorted))
    return float(np.abs(x - y).max())


def wasserstein(x_N: Values, y_M: Values) -> float | None:
    """Return the Wasserstein-1 distance in standard deviations of y, the real column, without missing values.

    None where it has no value: a side has no number or an infinite one, or y is constant and x is not equal to it.
    """
    x_sorted, y_sorted = (np.sort(one[~np.isnan(one)]) for one in (x_N, y_M))
    if not len(x_sorted) or not len(y_sorted) or not (np.isfinite(x_sorted).all() and np.isfinite(y_sorted).all()):
        return None
    points = np.sort(np.concatenate([x_sorted, y_sorted]))
    x, y = (np.searchsorted(one, points[:-1], side="right") / len(one) for one in (x_sorted, y_sorted))
    # Scaled before they are squared or subtracted: a range of float64's largest values overflows.
    largest = float(np.abs(points).max()) or 1.0
    moved = float(np.sum(np.abs(x - y) * np.diff(points / largest)))
    deviation = float((y_sorted / largest).std())
    if moved == 0:
        return 0.0
    return moved / deviation if y_sorted[0] != y_sorted[-1] and deviation > 0 else None


def violations(x_ND: Values, known: list[Values], fields: tuple[Field, ...]) -> NDArray[np.bool_]:
    """Return which values break what holds for every known real row, [N, D]. ``known`` has a sorted column each."""
    broken_ND = np.zeros(x_ND.shape, bool)
    for place, (field, column) in enumerate(zip(fields, known, strict=True)):
        values, present = x_ND[:, place], column[~np.isnan(column)]
        missing = np.isnan(values)
        if not len(present):
            broken_ND[:, place] = ~missing
        elif is_category(field):
            broken_ND[:, place] = ~np.isin(values, present) & ~missing
        else:
            broken_ND[:, place] = (values < present[0]) | (values > present[-1])
        if len(present) == len(column):
            broken_ND[:, place] |= missing
    return broken_ND


def per_column(x_ND: Values, y_ND: Values, fields: tuple[Field, ...]) -> dict[str, Values]:
    """Return shape, wasserstein and missing, with its sign, of each column, [D]; NaN where one has no value."""
    found = {name: np.full(len(fields), np.nan) for name in ("shape", "wasserstein", "missing")}
    for place, field in enumerate(fields):
        x_N, y_M = x_ND[:, place], y_ND[:, place]
        apart = total_variation(x_N, y_M) if is_category(field) else kolmogorov_smirnov(x_N, y_M)
        found["shape"][place] = 1 - apart
        found["missing"][place] = np.isnan(x_N).mean() - np.isnan(y_M).mean()
        moved = None if is_category(field) else wasserstein(x_N, y_M)
        found["wasserstein"][place] = np.nan if moved is None else moved
    return found


class Columns:
    """Shapes, missing values and violations of the columns of a table."""

    name = "columns"
    question: Question = "faithful"
    better: ClassVar[Mapping[str, Better]] = {"shape": "higher", "wasserstein": "lower", "missing": "lower"}

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield each figure's mean over the columns, then its worst columns."""
        fields, comparison = scalar_fields(evaluation.train), compare_all(evaluation)
        for field in other_fields(evaluation.train):
            why = f"fields of kind {field.kind} are not compared"
            yield not_computed(self.name, "columns.shape", self.question, "higher", why, group=field.name)
        if why_not := refusal(fields, comparison):
            for name, better in (*self.better.items(), ("violations", "lower")):
                yield not_computed(
                    self.name, f"columns.{name}", self.question, better, why_not, conditions=comparison.conditions
                )
            return
        real_ND = table_matrix(evaluation.train, comparison.real_N)
        synthetic_ND = table_matrix(evaluation.synthetic, comparison.synthetic_N)
        other_ND = table_matrix(comparison.other, comparison.other_N)
        found, best = (_measured(rows_ND, real_ND, fields) for rows_ND in (synthetic_ND, other_ND))
        for name, better in self.better.items():
            yield from self._distances(name, better, fields, found[name], best[name], comparison)
        yield from self._violations(evaluation, fields, comparison, synthetic_ND, other_ND)
        evaluation.exhibits.append(marginals(self.name, fields, real_ND, synthetic_ND))

    def _distances(
        self,
        name: str,
        better: Better,
        fields: tuple[Field, ...],
        found: tuple[Values, NDArray[np.float64]],
        best: tuple[Values, NDArray[np.float64]],
        comparison: Comparison,
    ) -> Iterator[Figure]:
        asked = [place for place, field in enumerate(fields) if name != "wasserstein" or not is_category(field)]
        usable = [place for place in asked if not np.isnan(found[0][place] + best[0][place])]
        full = f"columns.{name}"
        within = (0.0, np.inf if name == "wasserstein" else 1.0)
        if not usable:
            why = "there is no numeric column with finite numbers on both sides"
            yield not_computed(self.name, full, self.question, better, why, conditions=comparison.conditions)
        worst = sorted(usable, key=lambda place: float(found[0][place]), reverse=better == "lower")[:WORST]
        for places, group in [(usable, None)] * bool(usable) + [([one], fields[one].name) for one in worst]:
            value, interval = mean_over(places, *found, within)
            ceiling, ceiling_interval = mean_over(places, *best, within)
            yield Figure(
                metric=self.name,
                name=full,
                question=self.question,
                better=better,
                value=value,
                interval=interval,
                ceiling=Reference(value=ceiling, interval=ceiling_interval, what=comparison.yardstick),
                group=group,
                conditions=comparison.conditions | {"columns": len(places)},
            )
        for place in sorted(set(asked) - set(usable)):
            why = "the real column is constant and the synthetic one differs, or a side has no finite numbers"
            yield not_computed(self.name, full, self.question, better, why, group=fields[place].name)

    def _violations(
        self,
        evaluation: Evaluation,
        fields: tuple[Field, ...],
        comparison: Comparison,
        synthetic_ND: Values,
        other_ND: Values,
    ) -> Iterator[Figure]:
        """Yield the share of rows that break a constraint, which all real rows set, and that of the worst columns."""
        rows_N = np.arange(len(evaluation.train)) if comparison.other.role == "test" else comparison.real_N
        known = [np.sort(column) for column in table_matrix(evaluation.train, rows_N).T]
        broken_ND, other_broken_ND = (violations(rows, known, fields) for rows in (synthetic_ND, other_ND))
        counts_D = broken_ND.sum(0)
        worst = [place for place in np.argsort(-counts_D, kind="stable").tolist() if counts_D[place]][:WORST]
        every = list(range(len(fields)))
        for places, group in [(every, None), *(([one], fields[one].name) for one in worst)]:
            hits, other_hits = (int(broken[:, places].any(1).sum()) for broken in (broken_ND, other_broken_ND))
            total = comparison.rows
            yield Figure(
                metric=self.name,
                name="columns.violations",
                question=self.question,
                better="lower",
                value=hits / total,
                interval=_given(intervals.of_rare(hits, total)),
                ceiling=Reference(
                    value=other_hits / total,
                    interval=_given(intervals.of_rare(other_hits, total)),
                    what=comparison.yardstick,
                ),
                group=group,
                conditions=comparison.conditions | {"known rows": len(rows_N)},
            )


def _given(interval: Interval) -> Interval:
    """Say what the interval is given: other real rows would have set other ranges."""
    return replace(interval, method=f"{interval.method}, given what these real rows hold")


def refusal(fields: tuple[Field, ...], comparison: Comparison) -> str | None:
    """Return why nothing is computed of a table's columns, or None."""
    if not fields:
        return "the rows have no columns of numbers or categories"
    if comparison.rows < LEAST_ROWS:
        return f"{comparison.rows:,} rows of each set: at least {LEAST_ROWS} are needed for an interval"
    return None


def mean_over(
    places: list[int], values_D: Values, blocks_PGD: NDArray[np.float64], within: tuple[float, float]
) -> tuple[float, Interval]:
    """Return the mean over some columns, and its interval from the blocks, columns without a value left out."""
    value = float(values_D[places].mean())
    blocks_PGC = blocks_PGD[:, :, places]
    present_PG = np.maximum(1, np.count_nonzero(~np.isnan(blocks_PGC), axis=2))
    blocks_PG = np.nansum(blocks_PGC, axis=2) / present_PG
    return value, intervals.over_blocks(value, blocks_PG, within=within)


def _measured(
    x_ND: Values, real_ND: Values, fields: tuple[Field, ...]
) -> dict[str, tuple[Values, NDArray[np.float64]]]:
    """Return each figure of each column, [D], and the same of blocks of rows, [P, G, D]."""
    found = per_column(x_ND, real_ND, fields)
    blocks_PG = [
        [per_column(x_ND[rows_B], real_ND[rows_B], fields) for rows_B in parts]
        for parts in intervals.partitions(len(x_ND))
    ]
    measured = {
        name: (values, np.array([[block[name] for block in blocks_G] for blocks_G in blocks_PG]))
        for name, values in found.items()
    }
    # Blocks keep the sign of the whole: near 0 the absolute differences of two halves are alike.
    missing_D, missing_PGD = measured["missing"]
    return measured | {"missing": (np.abs(missing_D), missing_PGD * np.where(missing_D < 0, -1, 1))}
