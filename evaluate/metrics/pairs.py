"""Pairs of a table's columns: does each pair hang together as strongly as in the real rows?

The association of two numbers is Pearson's correlation; of two categories Cramér's V, less its bias (W. Bergsma,
*A bias-correction for Cramér's V and Tschuprow's T*, 2013); of a category and a number the correlation ratio η: the
square root of the share of the variance that lies between the categories. A missing category is a category, and
rows with a missing number are left out of that number's pairs. The figure is the mean absolute difference.

Shape suffixes: N rows, D columns, C categories, P partitions, G blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Field
from gen_engine.evaluate.figures import Figure, Interval, Question, Reference, not_computed
from gen_engine.evaluate.metrics import intervals
from gen_engine.evaluate.metrics.columns import mean_over, refusal
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.scalars import is_category, scalar_fields, table_matrix
from gen_engine.evaluate.metrics.yardstick import SHUFFLED, Comparison, compare_all, independent

Values = NDArray[np.float64]
Codes = NDArray[np.int64]

WORST: Final = 10
"""Pairs that are listed, the worst first."""

MOST_CATEGORIES: Final = 50
"""Categories of a column that are told apart: the most frequent real ones; all others count as one."""


@dataclass(frozen=True)
class Table:
    """Columns prepared for their associations; rows of it may be taken."""

    numbers_ND: Values
    """The numeric columns, NaN where missing."""

    codes_ND: Codes
    """The categorical columns, with at most ``MOST_CATEGORIES`` + 1 codes from 0 each."""

    def take(self, rows: NDArray[np.intp]) -> Table:
        """Return some of the rows."""
        return Table(self.numbers_ND[rows], self.codes_ND[rows])


def prepare(real_ND: Values, others: list[Values], fields: tuple[Field, ...]) -> list[Table]:
    """Return the real rows and other rows as tables with the same codes of categories."""
    named = [place for place, field in enumerate(fields) if is_category(field)]
    counted = [place for place in range(len(fields)) if place not in named]
    kept = []
    for place in named:
        values, counts = np.unique(real_ND[:, place], return_counts=True, equal_nan=True)
        kept.append(np.sort(values[np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]]))
    tables = []
    for rows_ND in (real_ND, *others):
        codes = [_codes(rows_ND[:, place], known) for place, known in zip(named, kept, strict=True)]
        codes_ND = np.stack(codes, axis=1) if codes else np.empty((len(rows_ND), 0), np.int64)
        tables.append(Table(rows_ND[:, counted], codes_ND))
    return tables


def _codes(values_N: Values, known_C: Values) -> Codes:
    """Return where each value is among the known ones, which are sorted; their number where it is not."""
    places = np.minimum(np.searchsorted(known_C, values_N), len(known_C) - 1)
    found = (known_C[places] == values_N) | (np.isnan(known_C[places]) & np.isnan(values_N))
    return np.where(found, places, len(known_C))


def associations(table: Table) -> Values:
    """Return the association of each pair: of two numbers, of two categories, of a category and a number.

    A constant column is associated with nothing: 0.
    """
    numbers, names = range(table.numbers_ND.shape[1]), range(table.codes_ND.shape[1])
    correlations_DD = correlations(table.numbers_ND)
    between = [correlation_ratios(table.codes_ND[:, name], table.numbers_ND) for name in names]
    return np.array(
        [
            *(correlations_DD[one, other] for one, other in combinations(numbers, 2)),
            *(cramers_v(table.codes_ND[:, one], table.codes_ND[:, other]) for one, other in combinations(names, 2)),
            *(between[name][number] for name in names for number in numbers),
        ]
    )  # fmt: skip


def pair_names(fields: tuple[Field, ...]) -> list[str]:
    """Return the names of the pairs in the order of :func:`associations`."""
    names = [field.name for field in fields if is_category(field)]
    numbers = [field.name for field in fields if not is_category(field)]
    pairs = [
        *combinations(numbers, 2),
        *combinations(names, 2),
        *((name, number) for name in names for number in numbers),
    ]
    return [f"{one} × {other}" for one, other in pairs]


def correlations(numbers_ND: Values) -> Values:
    """Return Pearson's correlations, [D, D], each of the rows in which neither number is missing; 0 of a constant."""
    present_ND = np.isfinite(numbers_ND)
    scaled_ND = _standardised(numbers_ND, present_ND)
    mask_ND = present_ND.astype(np.float64)
    count_DD = np.maximum(mask_ND.T @ mask_ND, 1)
    mean_DD = scaled_ND.T @ mask_ND / count_DD
    variance_DD = np.square(scaled_ND).T @ mask_ND / count_DD - mean_DD**2
    covariance_DD = scaled_ND.T @ scaled_ND / count_DD - mean_DD * mean_DD.T
    return _ratio(covariance_DD, np.sqrt(np.maximum(variance_DD * variance_DD.T, 0)), -1.0)


def cramers_v(a_N: Codes, b_N: Codes) -> float:
    """Return Bergsma's Cramér's V of two columns of codes; 0 if one is constant."""
    rows, columns = int(a_N.max()) + 1, int(b_N.max()) + 1
    counts = np.bincount(a_N * columns + b_N, minlength=rows * columns).reshape(rows, columns).astype(np.float64)
    counts = counts[counts.any(1)][:, counts.any(0)]
    (rows, columns), total = counts.shape, len(a_N)
    if min(rows, columns) < 2 or total < 2:
        return 0.0
    expected = np.outer(counts.sum(1), counts.sum(0)) / total
    phi = float(np.sum(np.square(counts - expected) / expected)) / total
    phi = max(0.0, phi - (rows - 1) * (columns - 1) / (total - 1))
    smaller = min(rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1))
    return float(np.sqrt(min(1.0, phi / (smaller - 1)))) if smaller > 1 else 0.0


def correlation_ratios(codes_N: Codes, numbers_ND: Values) -> Values:
    """Return η of a categorical column and each number, [D]; 0 of a constant number."""
    present_ND = np.isfinite(numbers_ND)
    scaled_ND = _standardised(numbers_ND, present_ND)
    one_hot_NC = np.zeros((len(codes_N), int(codes_N.max()) + 1))
    one_hot_NC[np.arange(len(codes_N)), codes_N] = 1
    count_CD = one_hot_NC.T @ present_ND
    sum_CD = one_hot_NC.T @ scaled_ND
    between_D = (sum_CD**2 / np.maximum(count_CD, 1)).sum(0)
    return np.sqrt(_ratio(between_D, np.square(scaled_ND).sum(0), 0.0))


def _standardised(numbers_ND: Values, present_ND: NDArray[np.bool_]) -> Values:
    """Return numbers of mean 0 and size 1 at most, so that no square overflows; 0 where missing or constant."""
    finite_ND = np.where(present_ND, numbers_ND, 0)
    largest_D = np.abs(finite_ND).max(0, initial=0)
    finite_ND /= np.where(largest_D > 0, largest_D, 1)
    mean_D = finite_ND.sum(0) / np.maximum(present_ND.sum(0), 1)
    apart_ND = np.where(present_ND, finite_ND - mean_D, 0)
    spread_D = np.abs(apart_ND).max(0, initial=0)
    constant_D = spread_D <= 1e-12
    return np.where(constant_D, 0, apart_ND / np.where(constant_D, 1, spread_D))


def _ratio(above: Values, below: Values, least: float) -> Values:
    """Return a quotient within [least, 1]; 0 where the divisor is 0 up to rounding."""
    defined = below > 1e-12
    return np.clip(np.where(defined, above / np.where(defined, below, 1), 0), least, 1)


class Pairs:
    """The mean absolute difference of the associations of all pairs of columns."""

    name = "pairs"
    question: Question = "faithful"

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield the mean over all pairs, then the worst pairs."""
        fields, comparison = scalar_fields(evaluation.train), compare_all(evaluation)
        why = refusal(fields, comparison) or ("there is only one column" if len(fields) < 2 else None)
        if why is not None:
            yield not_computed(self.name, "pairs", self.question, "lower", why, conditions=comparison.conditions)
            return
        rows = (
            (evaluation.train, comparison.real_N),
            (evaluation.synthetic, comparison.synthetic_N),
            (comparison.other, comparison.other_N),
        )
        real_ND, *others = (table_matrix(split, rows_N) for split, rows_N in rows)
        shuffled = independent(evaluation.train, comparison.real_N, evaluation.random("floor"))
        others.append(table_matrix(shuffled, np.arange(len(shuffled))))
        real, *tables = prepare(real_ND, others, fields)
        yield from self._figures(pair_names(fields), differences(real, tables), comparison)

    def _figures(
        self, names: list[str], found: list[tuple[Values, NDArray[np.float64]]], comparison: Comparison
    ) -> Iterator[Figure]:
        worst = np.argsort(-found[0][0], kind="stable")[:WORST].tolist()
        for places, group in [(list(range(len(names))), None), *(([one], names[one]) for one in worst)]:
            (value, interval), best, floor = (mean_over(places, *one, (0, 2)) for one in found)
            yield Figure(
                metric=self.name,
                name="pairs",
                question=self.question,
                better="lower",
                value=value,
                interval=interval,
                floor=_reference(floor, SHUFFLED),
                ceiling=_reference(best, comparison.yardstick),
                group=group,
                conditions=comparison.conditions | {"pairs": len(places)},
            )


def differences(real: Table, tables: list[Table]) -> list[tuple[Values, NDArray[np.float64]]]:
    """Return each table's absolute differences from the real associations, [D], and the same of blocks, [P, G, D]."""
    real_D = associations(real)
    found = []
    parts = list(intervals.partitions(len(real.numbers_ND)))
    real_PG = np.array([[associations(real.take(rows_B)) for rows_B in blocks] for blocks in parts])
    for table in tables:
        other_PG = np.array([[associations(table.take(rows_B)) for rows_B in blocks] for blocks in parts])
        found.append((np.abs(associations(table) - real_D), np.abs(other_PG - real_PG)))
    return found


def _reference(found: tuple[float, Interval], what: str) -> Reference:
    return Reference(value=found[0], interval=found[1], what=what)
