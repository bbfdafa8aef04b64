"""Exact Euclidean distances between many rows, in bounded memory and on all cores.

Matrix products in float32 find candidates; what decides is computed again in float64 from the differences of the
rows. The float32 products lie within a bound of the exact squares (Higham, *Accuracy and Stability of Numerical
Algorithms*, 2nd ed., section 3.1: in any order of summation, an inner product of n terms errs by at most
n · 2^-24 times the sum of their sizes, to first order), and every pair that the bound leaves open is a candidate. So
the results do not depend on blocks, threads or the library of the products, and equal rows are at distance 0.

Shape suffixes: N queries, M base rows, D features, K neighbours, R rows and C columns of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from gen_engine.engine.base.processor import usable_cpus

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]
Ids = NDArray[np.intp]
_Result = TypeVar("_Result")

_QUERIES, _BASE = 512, 2048
"""Rows of a block: 4 MB of distances, which stay in the cache."""

_SPARE = 8
"""Candidates kept beyond the neighbours that are asked for, so that near ties rarely need a second look."""

_PAIR_VALUES = 1 << 20
"""Float64 values of a chunk of pairs whose distances are computed exactly."""


class Points:
    """Rows prepared for products: centred, scaled by a power of two, with their squared norms.

    Sets that are compared share a centre and a scale: make them by :func:`prepare`.
    """

    def __init__(self, rows_ND: Rows, centre_D: Floats, scale: float) -> None:
        self.rows_ND, self.scale = rows_ND, scale
        self._left_NE = np.empty((len(rows_ND), rows_ND.shape[1] + 2), np.float32)
        for rows in _slices(len(rows_ND), _BASE):
            self._left_NE[rows, :-2] = (rows_ND[rows] - centre_D) / scale
        centred_ND = self._left_NE[:, :-2]
        self.squares_N: Floats = np.einsum("nd,nd->n", centred_ND, centred_ND, dtype=np.float64)
        self._left_NE[:, -2] = self.squares_N
        self._left_NE[:, -1] = 1

    def __len__(self) -> int:
        return len(self.rows_ND)

    @property
    def error(self) -> float:
        """c: a float32 square differs from the exact one by at most c (|x|² + |y|²)."""
        return float(2 * (self.rows_ND.shape[1] + 18) * 2.0**-24)

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """A hash of each row's bytes: rows that are equal have equal keys."""
        words_NW = np.ascontiguousarray(self.rows_ND).view(np.uint32)
        odd_W = np.random.default_rng(0).integers(0, 1 << 63, words_NW.shape[1], np.uint64) * np.uint64(2) + np.uint64(
            1
        )
        keys = np.zeros(len(words_NW), np.uint64)
        for rows in _slices(len(words_NW), _BASE):
            mixed = (words_NW[rows].astype(np.uint64) + odd_W) * odd_W
            keys[rows] = ((mixed ^ (mixed >> np.uint64(29))) * odd_W[::-1]).sum(1, dtype=np.uint64)
        return keys

    def squared(self, rows: slice, base: Points, columns: slice) -> Rows:
        """Return squared distances of a block in units of ``scale²``, float32 [R, C], within the bound."""
        right_CE = base._left_NE[columns] * np.float32(-2)
        right_CE[:, -2], right_CE[:, -1] = 1, base.squares_N[columns]
        result: Rows = self._left_NE[rows] @ right_CE.T
        return result

    def exactly(self, rows: Ids, base: Points, columns: Ids) -> Floats:
        """Return the squared distances of pairs, float64, in the rows' own units."""
        result_P = np.zeros(len(rows))
        pairs = np.flatnonzero(self.keys[rows] != base.keys[columns])
        for part in _slices(len(pairs), max(1, _PAIR_VALUES // self.rows_ND.shape[1])):
            chosen = pairs[part]
            apart = self.rows_ND[rows[chosen]].astype(np.float64)
            apart -= base.rows_ND[columns[chosen]]
            result_P[chosen] = np.einsum("pd,pd->p", apart, apart)
        return result_P


def prepare(*sets: NDArray[np.floating]) -> list[Points]:
    """Return sets of rows, [N, D] each, prepared for comparison with one another.

    Raises:
        ValueError: a set is empty, a value is not finite, or the widths differ.
    """
    widths = {rows.shape[1] for rows in sets}
    if len(widths) != 1 or 0 in widths or not all(len(rows) for rows in sets):
        raise ValueError(f"distances of rows {' and '.join(str(list(rows.shape)) for rows in sets)}")
    if not all(np.isfinite(rows).all() for rows in sets):
        raise ValueError("distances of features that are not finite; check the extractor and the data")
    singles = [np.ascontiguousarray(rows, np.float32) for rows in sets]
    centre_D = singles[0].mean(0, dtype=np.float64)
    largest = max(float(np.abs(rows - centre_D.astype(np.float32)).max()) for rows in singles)
    scale = 2.0 ** np.ceil(np.log2(largest)) if largest > 0 else 1.0
    return [Points(rows, centre_D, scale) for rows in singles]


def nearest(queries: Points, base: Points, count: int, *, same: bool = False) -> tuple[Floats, Ids]:
    """Return each query's nearest base rows: distances, float64 [N, K], ascending, and their indices, [N, K].

    Of several at equal distance, the first ones in the base are returned, unless they are more than a handful.

    Args:
        queries: the N rows that look for neighbours.
        base: the M rows among which they look.
        count: K.
        same: the queries are the base, and no row is its own neighbour.

    Raises:
        ValueError: the base has too few rows.
    """
    others = len(base) - same
    if not 1 <= count <= others:
        raise ValueError(f"{count} nearest of {others:,} rows")
    distances_NK, ids_NK = np.empty((len(queries), count)), np.empty((len(queries), count), np.intp)

    def search(rows: slice) -> None:
        kept = _candidates(queries, rows, base, min(count + _SPARE, others), same)
        distances_NK[rows], ids_NK[rows] = _settle(queries, rows, base, kept, count, same)

    _on_all_cores(search, _slices(len(queries), _QUERIES))
    return distances_NK, ids_NK


def _candidates(queries: Points, rows: slice, base: Points, keep: int, same: bool) -> tuple[Rows, Ids]:
    """Return the ``keep`` least float32 squares of each query, ascending, and where they are."""
    slices = _slices(len(base), _BASE)
    best, ids = _least(_block(queries, rows, base, next(slices), same), None, keep)
    for columns in slices:
        squares_RC = _block(queries, rows, base, columns, same)
        hit_rows, hit_columns = np.nonzero(squares_RC < best[:, -1:])
        if not len(hit_rows):
            continue
        touched, first, hits = np.unique(hit_rows, return_index=True, return_counts=True)
        place = np.arange(len(hit_rows)) - np.repeat(first, hits)
        line = np.repeat(np.arange(len(touched)), hits)
        found = np.full((len(touched), int(hits.max())), np.inf, np.float32)
        found_ids = np.zeros(found.shape, np.intp)
        found[line, place] = squares_RC[hit_rows, hit_columns]
        found_ids[line, place] = hit_columns + columns.start
        both, both_ids = np.hstack([best[touched], found]), np.hstack([ids[touched], found_ids])
        best[touched], ids[touched] = _least(both, both_ids, keep)
    return best, ids


def _least(squares_RC: Rows, ids_RC: Ids | None, keep: int) -> tuple[Rows, Ids]:
    """Return the ``keep`` least of each row, ascending, filled with infinity, and their ids or else columns."""
    width = squares_RC.shape[1]
    least = np.argpartition(squares_RC, min(keep, width) - 1, axis=1)[:, :keep]
    values = np.take_along_axis(squares_RC, least, 1)
    order = np.argsort(values, axis=1)
    best = np.full((len(squares_RC), keep), np.inf, np.float32)
    ids = np.zeros(best.shape, np.intp)
    best[:, :width] = np.take_along_axis(values, order, 1)
    least = np.take_along_axis(least, order, 1)
    ids[:, :width] = least if ids_RC is None else np.take_along_axis(ids_RC, least, 1)
    return best, ids


def _settle(
    queries: Points, rows: slice, base: Points, kept: tuple[Rows, Ids], count: int, same: bool
) -> tuple[Floats, Ids]:
    """Return exact distances and indices of the nearest, of candidates; look again where those may not be all."""
    best, ids = kept
    lines = np.arange(rows.start, rows.stop)
    exact = queries.exactly(np.repeat(lines, ids.shape[1]), base, ids.ravel()).reshape(ids.shape)
    order = np.lexsort((ids, exact), axis=1)[:, :count]
    exact, ids = np.take_along_axis(exact, order, 1), np.take_along_axis(ids, order, 1)
    # A row that was not kept has a float32 square of at least the last one kept. With |y|² <= 2 (d² + |x|²), the bound
    # c (|x|² + |y|²) on its error gives d² >= (square - 3 c |x|²) / (1 + 2 c).
    error, scale = queries.error, queries.scale**2
    least_left_out = (best[:, -1] - 3 * error * queries.squares_N[rows]) / (1 + 2 * error) * scale
    everything = best.shape[1] == len(base) - same
    unsure = np.flatnonzero((least_left_out < exact[:, -1]) & (exact[:, -1] > 0)) if not everything else ()
    for line in unsure:
        exact[line], ids[line] = _look_again(queries, rows.start + int(line), base, float(exact[line, -1]), count, same)
    return np.sqrt(exact), ids


def _look_again(queries: Points, row: int, base: Points, farthest: float, count: int, same: bool) -> tuple[Floats, Ids]:
    """Return the nearest of one query among all base rows that may be as near as ``farthest``, a squared distance."""
    limit = _highest(queries, np.array([farthest]), queries.squares_N[row : row + 1])[0]
    found = np.concatenate(
        [
            np.flatnonzero(_block(queries, slice(row, row + 1), base, columns, same)[0] <= limit) + columns.start
            for columns in _slices(len(base), _BASE)
        ]
    )
    exact = queries.exactly(np.full(len(found), row), base, found)
    order = np.lexsort((found, exact))[:count]
    return exact[order], found[order]


def _block(queries: Points, rows: slice, base: Points, columns: slice, same: bool) -> Rows:
    squares_RC = queries.squared(rows, base, columns)
    if same:
        own = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
        squares_RC[own - rows.start, own - columns.start] = np.inf
    return squares_RC


def _highest(points: Points, radii_squared: Floats, squares: Floats) -> Floats:
    """Return the float32 square, in units of ``scale²``, that no pair within the radius exceeds."""
    return np.asarray(radii_squared / points.scale**2 * (1 + 2 * points.error) + 3 * points.error * squares)


def _lowest(points: Points, radii_squared: Floats, squares: Floats) -> Floats:
    """Return the float32 square, in units of ``scale²``, up to which every pair is within the radius."""
    return np.asarray(radii_squared / points.scale**2 * (1 - 2 * points.error) - 3 * points.error * squares)


@dataclass(frozen=True)
class Balls:
    """Which points lie in which balls: x around y, and y around x. Balls contain their surface."""

    around_y_M: NDArray[np.int64]
    """How many balls around rows of x contain each row of y."""

    x_has_y_N: NDArray[np.bool_]
    """Whether the ball around each row of x contains a row of y."""

    y_has_x_N: NDArray[np.bool_]
    """Whether each row of x lies in a ball around a row of y."""


def balls(x: Points, y: Points, x_radii_N: Floats, y_radii_M: Floats) -> Balls:
    """Count in one pass which rows lie in balls around the other set's, with these radii.

    Distances are compared, not squares: a radius that :func:`nearest` returned reaches the neighbour that it is of.
    """
    has_y_N, has_x_N = np.zeros(len(x), bool), np.zeros(len(x), bool)
    x_high, x_low = _highest(x, x_radii_N**2, x.squares_N), _lowest(x, x_radii_N**2, x.squares_N)
    y_high, y_low = _highest(x, y_radii_M**2, y.squares_N), _lowest(x, y_radii_M**2, y.squares_N)

    def count(rows: slice) -> NDArray[np.int64]:
        counted_M = np.zeros(len(y), np.int64)
        for columns in _slices(len(y), _BASE):
            squares_RC = x.squared(rows, y, columns)
            sure_RC, at, to = _open_pairs(squares_RC, x_high[rows, None], x_low[rows, None])
            within = np.sqrt(x.exactly(at + rows.start, y, to + columns.start)) <= x_radii_N[at + rows.start]
            at, to = at[within], to[within]
            counted_M[columns] += np.bincount(to, minlength=squares_RC.shape[1])
            has_y_N[at + rows.start] = True
            if sure_RC is not None:
                counted_M[columns] += np.count_nonzero(sure_RC, axis=0)
                has_y_N[rows] |= sure_RC.any(1)
            sure_RC, at, to = _open_pairs(squares_RC, y_high[None, columns], y_low[None, columns])
            within = np.sqrt(x.exactly(at + rows.start, y, to + columns.start)) <= y_radii_M[to + columns.start]
            has_x_N[at[within] + rows.start] = True
            if sure_RC is not None:
                has_x_N[rows] |= sure_RC.any(1)
        return counted_M

    counts = _on_all_cores(count, _slices(len(x), _QUERIES))
    return Balls(np.sum(counts, axis=0), has_y_N, has_x_N)


def _open_pairs(squares_RC: Rows, high: Floats, low: Floats) -> tuple[NDArray[np.bool_] | None, Ids, Ids]:
    """Return the pairs that are surely within, None if they were not looked for, and those to compute exactly."""
    maybe_RC = squares_RC <= high.astype(np.float32)
    if np.count_nonzero(maybe_RC) <= maybe_RC.size // 256:
        at, to = np.nonzero(maybe_RC)
        return None, at, to
    sure_RC = squares_RC <= np.nextafter(low.astype(np.float32), np.float32(-np.inf))
    at, to = np.nonzero(maybe_RC & ~sure_RC)
    return sure_RC, at, to


def _slices(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def _on_all_cores(call: Callable[[slice], _Result], parts: Iterable[slice]) -> list[_Result]:
    """Call with each part, one thread per core and one thread per product; return the results in order."""
    parts = list(parts)
    with _libraries().limit(limits=1, user_api="blas"):
        if len(parts) < 4:  # less work than starting threads
            return [call(part) for part in parts]
        with ThreadPoolExecutor(usable_cpus()) as pool:
            return list(pool.map(call, parts))


@cache
def _libraries() -> ThreadpoolController:
    """Return the libraries of matrix products; looking for them takes longer than a small product."""
    return ThreadpoolController()
