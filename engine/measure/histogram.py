"""A histogram of latencies in bounded memory: buckets that are linear within an octave, as HdrHistogram's are.

A value is known to 1 part in 128 however large it is, so the hundredth of a per cent at the end is as sharp as the
middle. Own code: it is thirty lines, and the package of that name would be a compiled dependency of every install.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_BITS = 7
_HALF = 1 << _BITS
"""Buckets an octave."""

_OCTAVES = 48
_MOST = (2 * _HALF << (_OCTAVES - 1)) - 1
"""The largest value: in nanoseconds, 10 hours."""


class Histogram:
    """Counts of whole numbers from 0 to 3.6e16, say nanoseconds; larger ones count as that."""

    def __init__(self) -> None:
        self._counts = np.zeros((_OCTAVES + 1) * _HALF, np.int64)
        self.count = 0
        self.max = 0
        """The largest value, exactly."""

    def add(self, value: int) -> None:
        """Count a value."""
        assert value >= 0, "a latency before its request"
        self.count += 1
        self.max = max(self.max, value)
        self._counts[_bucket(min(value, _MOST))] += 1

    def quantile(self, share: float) -> int:
        """Return the least value that so large a share of all is not above: the top of its bucket.

        Args:
            share: above 0, up to 1.

        Raises:
            ValueError: nothing was counted.
        """
        if self.count == 0:
            raise ValueError("an empty histogram has no quantiles")
        wanted = max(1, int(np.ceil(share * self.count - 1e-9)))
        found = int(np.searchsorted(np.cumsum(self._counts), wanted))
        return min(_top(found), self.max)

    def curve(self) -> Iterator[tuple[float, int]]:
        """Yield ``(share, value)`` of every bucket that is not empty: so large a share is not above the value."""
        filled: NDArray[np.int64] = np.flatnonzero(self._counts)
        for bucket, below in zip(filled, np.cumsum(self._counts[filled]), strict=True):
            yield float(below) / self.count, min(_top(int(bucket)), self.max)


def _bucket(value: int) -> int:
    octave = max(value.bit_length() - _BITS - 1, 0)
    return octave * _HALF + (value >> octave)


def _top(bucket: int) -> int:
    """Return the largest value of a bucket."""
    octave = max(bucket // _HALF - 1, 0)
    return ((bucket - octave * _HALF + 1) << octave) - 1
