"""A latency histogram in bounded memory, with the buckets of HdrHistogram: linear within each octave.

A value's relative error is at most 1/128 whatever its size, so the 99.99th percentile is as precise as the median. Own
code, because the package hdrhistogram would be a compiled dependency of every installation for thirty lines.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_BITS = 7
_HALF = 1 << _BITS
"""Buckets per octave."""

_OCTAVES = 48
_MAX_VALUE = (2 * _HALF << (_OCTAVES - 1)) - 1
"""The largest value with a bucket: in nanoseconds, more than a year."""


class Histogram:
    """Counts integers of 0 or more, such as nanoseconds; those above 3.6e16 fall into the last bucket."""

    def __init__(self) -> None:
        self._counts = np.zeros((_OCTAVES + 1) * _HALF, np.int64)
        self.count = 0
        self.max = 0
        """The largest value, exactly."""

    def add(self, value: int) -> None:
        """Count a value."""
        assert value >= 0, "a latency cannot be negative"
        self.count += 1
        self.max = max(self.max, value)
        self._counts[_bucket(min(value, _MAX_VALUE))] += 1

    def quantile(self, share: float) -> int:
        """Return the upper bound of the bucket that holds a quantile.

        Args:
            share: above 0, up to 1.

        Raises:
            ValueError: nothing was counted.
        """
        if self.count == 0:
            raise ValueError("an empty histogram has no quantiles")
        rank = max(1, int(np.ceil(share * self.count - 1e-9)))
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(_upper_bound(bucket), self.max)

    def curve(self) -> Iterator[tuple[float, int]]:
        """Yield the cumulative distribution: for each nonempty bucket, the share of values up to its upper bound."""
        nonempty: NDArray[np.int64] = np.flatnonzero(self._counts)
        for bucket, cumulative in zip(nonempty, np.cumsum(self._counts[nonempty]), strict=True):
            yield float(cumulative) / self.count, min(_upper_bound(int(bucket)), self.max)


def _bucket(value: int) -> int:
    octave = max(value.bit_length() - _BITS - 1, 0)
    return octave * _HALF + (value >> octave)


def _upper_bound(bucket: int) -> int:
    """Return the largest value of a bucket."""
    octave = max(bucket // _HALF - 1, 0)
    return ((bucket - octave * _HALF + 1) << octave) - 1
