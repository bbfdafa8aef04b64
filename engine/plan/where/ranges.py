"""Sets of stored values as ranges: ascending, apart from each other, both ends of each included.

Every dtype has finitely many values in one order, so each set of values is such a list, and so is its complement.
Ends are Python's integers, or floats that the dtype holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Number: TypeAlias = int | float
Ranges: TypeAlias = tuple[tuple[Number, Number], ...]

_FEW = 4
"""Ranges up to which it is faster to compare with each than to search."""


@dataclass(frozen=True)
class Domain:
    """The values that a field can have, missing ones aside."""

    low: Number
    high: Number
    after: Callable[[Number], Number]
    """The next greater value of the dtype."""

    before: Callable[[Number], Number]

    def merge(self, ranges: Iterable[tuple[Number, Number]]) -> Ranges:
        """Return the union of any ranges within the domain."""
        merged: list[tuple[Number, Number]] = []
        for low, high in sorted(ranges):
            low, high = max(low, self.low), min(high, self.high)
            if low > high:
                continue
            if merged and (low <= merged[-1][1] or low == self.after(merged[-1][1])):
                merged[-1] = merged[-1][0], max(high, merged[-1][1])
            else:
                merged.append((low, high))
        return tuple(merged)

    def complement(self, ranges: Ranges) -> Ranges:
        """Return the values of the domain outside of all ranges."""
        left, start = [], self.low
        for low, high in ranges:
            if low > start:
                left.append((start, self.before(low)))
            if high >= self.high:
                return tuple(left)
            start = self.after(high)
        return (*left, (start, self.high))

    def meet(self, one: Ranges, other: Ranges) -> Ranges:
        """Return the values in both."""
        return self.complement(self.merge((*self.complement(one), *self.complement(other))))


def integers(low: int, high: int) -> Domain:
    """Return the domain of the integers from ``low`` to ``high``."""
    return Domain(low, high, lambda value: value + 1, lambda value: value - 1)


def floats(dtype: str) -> Domain:
    """Return the domain of the finite numbers of a floating-point dtype, -0 being 0."""
    kind = np.dtype(dtype).type
    most = float(np.finfo(dtype).max)

    def towards(end: float) -> Callable[[Number], Number]:
        # -0 and 0 are equal, so the number beside 0 is not the other zero: adding 0 makes one of both.
        return lambda value: float(np.nextafter(kind(value), kind(end))) + 0.0

    return Domain(-most, most, towards(np.inf), towards(-np.inf))


def contains(ranges: Ranges, values_B: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which values lie in one of the ranges, bool [B]; NaN lies in none."""
    if len(ranges) <= _FEW:
        found_B = np.zeros(len(values_B), bool)
        for low, high in ranges:
            found_B |= (values_B == low) if low == high else (values_B >= low) & (values_B <= high)
        return found_B
    lows, highs = (np.array(ends, values_B.dtype) for ends in zip(*ranges, strict=True))
    at_B = np.searchsorted(lows, values_B, side="right") - 1
    within_B: NDArray[np.bool_] = (at_B >= 0) & (values_B <= highs[at_B])
    return within_B
