"""A column's values as codes 0 … K-1 with K ≤ 256, and the tables that turn codes back into values.

A column with at most 64 distinct values has a code for each. Otherwise values that are at least 1 % of the rows have a
code each (spikes, as of zero-inflated amounts), and the rest is cut into 64 bins of equal mass. A bin is drawn from by
a piecewise linear quantile function with 16 pieces, rounded down to the column's grid; a piece begins and ends at
values that occur. Of categories the 254 most frequent have a code each and all others share one, the tail, whose
categories are drawn by their frequencies: memory does not grow with the cardinality times the components. The last
code is the missing value, if there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.tables.values import LEAST, Values

Numbers: TypeAlias = NDArray[Any]
"""int64 of grids and categories, float64 of reals."""

FEW = 64
"""Distinct values up to which each has a code."""

SPIKE = 0.01
"""Share of the rows with a value from which it has a code of its own."""

BINS, PIECES = 64, 16
HEAD = 254
"""Categories with a code of their own, where there are more than 255."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Coding:
    """How a column is coded. A code's value is `low` + ⌊`span`·fraction⌋ of the piece that a uniform chooses."""

    form: str
    """exact, binned or tail."""

    low_KJ: Numbers
    """First value of each piece; one piece per code unless binned. For a missing value LEAST (category: -1) or NaN."""

    span_KJ: Numbers
    """int64: how many values of the grid a piece has; float64: its length."""

    missing: bool
    """Whether the last code is the missing value."""

    tail_ids: NDArray[np.int32]
    """The categories that share the code `tail`; empty for other forms."""

    tail_weights: NDArray[np.float64]
    """Rows of each of them."""

    tail: int = -1

    @property
    def codes(self) -> int:
        """K."""
        return len(self.low_KJ)


def fit_coding(values: Values) -> tuple[Coding, NDArray[np.int32]]:
    """Return a column's coding and its codes, int32 [N]."""
    present = values.values_N[~values.missing_N]
    if values.form == "category":
        coding, codes = _categories(present, len(values.categories))
    else:
        coding, codes = _numbers(present)
    codes_N = np.zeros(len(values.values_N), np.int32)
    codes_N[~values.missing_N] = codes
    if not values.missing_N.any():
        return coding, codes_N
    codes_N[values.missing_N] = coding.codes
    absent = {"category": -1, "grid": LEAST, "real": np.nan}[values.form]
    pieces = coding.low_KJ.shape[1]
    kind = np.float64 if values.form == "real" else np.int64
    return Coding(
        form=coding.form,
        low_KJ=np.concatenate([coding.low_KJ.astype(kind), np.full((1, pieces), absent, kind)]),
        span_KJ=np.concatenate([coding.span_KJ.astype(kind), np.full((1, pieces), int(kind is np.int64), kind)]),
        missing=True,
        tail_ids=coding.tail_ids,
        tail_weights=coding.tail_weights,
        tail=coding.tail,
    ), codes_N


def _exact(values_K: Numbers, form: str = "exact") -> Coding:
    low_K1 = values_K[:, None]
    span_K1 = np.ones_like(low_K1) if low_K1.dtype == np.int64 else np.zeros_like(low_K1)
    return Coding(
        form=form,
        low_KJ=low_K1,
        span_KJ=span_K1,
        missing=False,
        tail_ids=np.zeros(0, np.int32),
        tail_weights=np.zeros(0),
    )


def _categories(ids: NDArray[np.int64], count: int) -> tuple[Coding, NDArray[np.int64]]:
    if count <= HEAD + 1:
        return _exact(np.arange(count, dtype=np.int64)), ids
    rows = np.bincount(ids, minlength=count)
    by_frequency = np.argsort(-rows, kind="stable")
    head, rest = np.sort(by_frequency[:HEAD]), np.sort(by_frequency[HEAD:])
    code_of = np.full(count, HEAD)
    code_of[head] = np.arange(HEAD)
    coding = Coding(
        form="tail",
        low_KJ=np.append(head, 0)[:, None],
        span_KJ=np.ones((HEAD + 1, 1), np.int64),
        missing=False,
        tail_ids=rest.astype(np.int32),
        tail_weights=rows[rest].astype(np.float64),
        tail=HEAD,
    )
    return coding, code_of[ids]


def _numbers(present: Numbers) -> tuple[Coding, NDArray[np.int64]]:
    distinct, inverse, rows = np.unique(present, return_inverse=True, return_counts=True)
    if len(distinct) <= FEW:
        return _exact(distinct), inverse
    is_spike = rows >= SPIKE * len(present)
    spikes, rest = distinct[is_spike], present[~is_spike[inverse]]
    if not len(rest):
        return _exact(distinct), inverse
    ordered = np.sort(rest)
    at = np.linspace(0, len(ordered), BINS + 1).astype(np.int64)[1:-1]
    edges = np.unique(ordered[at])
    edges = edges[edges > ordered[0]]
    bins = np.searchsorted(edges, rest, side="right")
    low_BJ, span_BJ = _pieces(ordered, edges)
    low_SJ = np.repeat(spikes[:, None], PIECES, axis=1)
    flat = np.ones_like(low_SJ) if low_SJ.dtype == np.int64 else np.zeros_like(low_SJ)
    codes = np.empty(len(present), np.int64)
    in_bins = ~is_spike[inverse]
    codes[in_bins] = len(spikes) + bins
    codes[~in_bins] = (np.cumsum(is_spike) - 1)[inverse[~in_bins]]
    coding = Coding(
        form="binned",
        low_KJ=np.concatenate([low_SJ, low_BJ]),
        span_KJ=np.concatenate([flat, span_BJ]),
        missing=False,
        tail_ids=np.zeros(0, np.int32),
        tail_weights=np.zeros(0),
    )
    return coding, codes


def _pieces(ordered: Numbers, edges: Numbers) -> tuple[Numbers, Numbers]:
    """Return where each bin's pieces begin and how long they are, [bins, PIECES]: between its own quantiles."""
    bounds = np.concatenate([[0], np.searchsorted(ordered, edges, side="left"), [len(ordered)]])
    knots = []
    for first, end in pairwise(bounds.tolist()):
        places = np.rint(np.linspace(first, end - 1, PIECES + 1)).astype(np.int64)
        knots.append(ordered[places])
    knots_BQ = np.stack(knots)
    low_BJ = knots_BQ[:, :-1]
    if ordered.dtype == np.float64:
        return low_BJ, knots_BQ[:, 1:] - low_BJ
    # Python's integers: the difference of two of 64 bits can need 65. The last piece of a bin includes its end.
    wide_BJ = knots_BQ[:, 1:].astype(object) - low_BJ.astype(object)
    wide_BJ[:, -1] += 1
    return low_BJ, np.clip(wide_BJ, 1, 2**62).astype(np.int64)
