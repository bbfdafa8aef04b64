"""Latents addressed by sample index: the same bits however the range is partitioned, and on every machine.

Sample ``i`` owns the Philox4x64-10 blocks ``[i * B, (i + 1) * B)`` with ``B = ceil(dim / 8)``: a block is four
64-bit words, a word two 32-bit integers, an integer one latent. The key is ``(seed, stream)``. So any range of
samples is one contiguous run of words, reached without generating those before it.

An integer becomes a latent by the quantile function of the latent's distribution, tabulated piecewise linearly over
256 segments per octave of the tail probability (so the tails are as fine as the centre, out to 6.2 standard
deviations; the largest error is 1e-6). Every distribution is a table and all share one code path made of integer
operations, one int-to-float conversion, one multiplication and one addition: all correctly rounded, hence the same
bits at every SIMD level and on a GPU, where log, cos and erfinv are not.

Philox: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

Shape suffixes: B samples, Z latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import RequestError
from gen_engine.engine.native import core

ALGORITHM = "philox4x64-10/quantile-v1"
"""Identifies the bits: any change to them needs a new name."""

DISTRIBUTIONS = ("normal", "uniform")
"""Distributions of each latent: standard normal, or uniform over (-1, 1)."""

LATENT_STREAM, LABEL_STREAM, ATTACK_STREAM, FILTER_STREAM = 0, 1, 2, 3
"""Second half of the Philox key: one stream per purpose, so that draws are independent."""

MAX_SEED = 2**64 - 1

_WORDS_A_BLOCK = 4
_LATENTS_A_BLOCK = 8
_MAX_BLOCKS = MAX_SEED  # of the compiled core, whose counter has one word of Philox's four
_CHUNK = 1 << 15  # latents per pass: scratch arrays stay in the L2 cache

_MANTISSA_BITS = 8  # 256 segments per octave
_SHIFT = 23 - _MANTISSA_BITS
_ONE = 127 << _MANTISSA_BITS  # top bits of float32 1.0, the smallest magnitude that occurs
_TOP = 158 << _MANTISSA_BITS  # top bits of float32 2**31, the largest
_NEGATIVE = 256 << _MANTISSA_BITS  # the sign bit


class QuantileTable(NamedTuple):
    """The line ``intercept + slope * x`` for each segment, indexed by the top bits of a float32 ``x``."""

    intercept: NDArray[np.float32]
    slope: NDArray[np.float32]

    lines: NDArray[np.float32]
    """float32 [segments, 2], both together: the compiled core loads them at once."""


class PhiloxWords:
    """The words of Philox4x64-10 under one key. Keeps its position: use one per thread.

    Most draws continue where the last one ended, and then cost only the words; NumPy takes microseconds to create a
    generator, or to advance one.
    """

    def __init__(self, seed: int, stream: int) -> None:
        self._key = seed, stream
        self._bits: np.random.Philox | None = None
        self._next = 0

    def draw(self, first_block: int, blocks: int) -> NDArray[np.uint64]:
        """Return the words of blocks ``[first_block, first_block + blocks)``: uint64 [4 * blocks], new."""
        compiled = core()
        if compiled is not None and 0 <= first_block <= _MAX_BLOCKS - blocks:
            words = np.empty(blocks * _WORDS_A_BLOCK, np.uint64)
            compiled.philox_words(*self._key, first_block, words)
            return words
        if self._bits is None:  # NumPy increments the counter before each block; the definition does not
            self._bits = np.random.Philox(counter=2**256 - 1, key=np.array(self._key, np.uint64))
        if first_block != self._next:
            self._bits.advance((first_block - self._next) % 2**256)
        self._next = first_block + blocks
        drawn: NDArray[np.uint64] = self._bits.random_raw(blocks * _WORDS_A_BLOCK)
        return drawn


def philox_words(seed: int, stream: int, first_block: int, blocks: int) -> NDArray[np.uint64]:
    """Return the words of Philox4x64-10 blocks ``[first_block, first_block + blocks)``, uint64 [4 * blocks]."""
    return PhiloxWords(seed, stream).draw(first_block, blocks)


class Latents:
    """The latents of one job.

    Holds scratch memory: make one per thread (tables are shared between them).

    Args:
        dim: latent dimensions of a sample.
        distribution: one of :data:`DISTRIBUTIONS`.
        seed: 0 to :data:`MAX_SEED`.
        truncation: for normal latents, draw from the normal distribution conditioned on ``|z| <= truncation``
            (the truncation trick of Brock et al. 2019, by inversion instead of rejection); None for no truncation.

    Raises:
        RequestError: a value is out of range, or uniform latents are to be truncated.
    """

    def __init__(
        self, *, dim: int, distribution: str = "normal", seed: int = 0, truncation: float | None = None
    ) -> None:
        if dim < 1:
            raise RequestError(f"latent dimension {dim}: it must be at least 1")
        check_seed(seed)
        check_truncation(distribution, truncation)
        self.dim, self.seed = dim, seed
        self.table = quantile_table(distribution, truncation)
        """With :attr:`seed` and :attr:`dim`, everything that a kernel needs to draw the same latents on a GPU."""
        self._max_stop = _MAX_BLOCKS // -(-dim // _LATENTS_A_BLOCK)
        self._numpy: _NumPyLatents | None = None

    def draw(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the latents of samples ``[start, stop)``: float32 [stop - start, dim], C-contiguous and new."""
        z_BZ = np.empty((stop - start, self.dim), np.float32)
        self.fill(start, z_BZ)
        return z_BZ

    def fill(self, start: int, z_BZ: NDArray[np.float32]) -> None:
        """Write the latents of samples from ``start`` on into ``z_BZ``, C-contiguous float32 [B, dim]."""
        compiled, samples = core(), len(z_BZ)
        if compiled is not None and start >= 0 and start + samples <= self._max_stop:
            compiled.draw_latents(self.seed, LATENT_STREAM, start, samples, self.dim, self.table.lines, z_BZ)
            return
        if self._numpy is None:
            self._numpy = _NumPyLatents(self.dim, self.seed, self.table)
        self._numpy.draw(start, z_BZ)


class _NumPyLatents:
    """The same in NumPy: the reference, and what runs without the compiled core."""

    def __init__(self, dim: int, seed: int, table: QuantileTable) -> None:
        self._dim, self._table = dim, table
        self._words = PhiloxWords(seed, LATENT_STREAM)
        self._blocks_a_sample = -(-dim // _LATENTS_A_BLOCK)
        self._samples_a_pass = max(1, _CHUNK // dim)
        self._index = np.empty((self._samples_a_pass, dim), np.intp)
        self._line = np.empty((self._samples_a_pass, dim), np.float32)
        self._x = np.empty((self._samples_a_pass, dim), np.float32)

    def draw(self, start: int, z_BZ: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fill and return ``z_BZ`` with the latents of samples from ``start`` on."""
        stop = start + len(z_BZ)
        for first in range(start, stop, self._samples_a_pass):
            part_BZ = z_BZ[first - start : first - start + self._samples_a_pass]
            blocks = len(part_BZ) * self._blocks_a_sample
            self._transform(self._words.draw(first * self._blocks_a_sample, blocks), part_BZ)
        return z_BZ

    def _transform(self, words: NDArray[np.uint64], z: NDArray[np.float32]) -> None:
        """Turn the halves of the words into latents, written into ``z``, float32 [n, dim]; a row's last are spare."""
        index, line, x = self._index[: len(z)], self._line[: len(z)], self._x[: len(z)]
        # Odd integers are never 0 and as often positive as negative, so the sign needs no separate step.
        np.bitwise_or(words, np.uint64(0x0000_0001_0000_0001), out=words)
        halves = words.astype("<u8", copy=False).view("<i4").reshape(len(z), -1)
        np.copyto(x, halves[:, : self._dim], casting="unsafe")
        np.right_shift(x.view(np.uint32), np.uint32(_SHIFT), out=index)
        # mode: every index is in range; "wrap" is NumPy's fastest mode that skips the check.
        np.take(self._table.slope, index, out=z, mode="wrap")
        np.multiply(z, x, out=z)
        np.take(self._table.intercept, index, out=line, mode="wrap")
        np.add(z, line, out=z)


def check_seed(seed: int) -> None:
    """Raise RequestError unless ``seed`` fits the 64 bits of the Philox key."""
    if not 0 <= seed <= MAX_SEED:
        raise RequestError(f"seed {seed}: it must be between 0 and {MAX_SEED} (2**64 - 1)")


def check_truncation(distribution: str, truncation: float | None) -> None:
    """Raise RequestError unless ``distribution`` is known and can be truncated at ``truncation``."""
    if distribution not in DISTRIBUTIONS:
        raise RequestError(f"latent distribution {distribution!r}: known are {', '.join(DISTRIBUTIONS)}")
    if truncation is None:
        return
    if distribution != "normal":
        raise RequestError(
            f"truncation {truncation:g}: this generator's latents are {distribution}, and only normal ones "
            "have tails to truncate; leave the truncation out"
        )
    if not 0.0 < truncation <= 10.0:  # also refuses NaN
        raise RequestError(f"truncation {truncation:g}: it must be above 0 and at most 10; leave it out for none")


@lru_cache(maxsize=8)
def quantile_table(distribution: str, truncation: float | None) -> QuantileTable:
    """Tabulate an odd quantile function over the odd int32 numbers ``x``.

    ``|x| / 2**32`` is the probability of the tail beyond the latent, on the side of x's sign: |x| = 1 is the
    outermost latent, |x| = 2**31 is 0. Knots are float64 and rounded once to float32.
    """
    quantile = _tail_quantile(distribution, truncation)
    knots = (np.arange(_ONE, _TOP + 1, dtype=np.uint32) << np.uint32(_SHIFT)).view(np.float32).astype(np.float64)
    z = np.array([quantile(x / 2.0**32) for x in knots.tolist()])
    slope = np.diff(z) / np.diff(knots)
    intercept = z[:-1] - slope * knots[:-1]
    lines = np.zeros((2 * _NEGATIVE, 2), np.float32)
    table = QuantileTable(np.zeros(2 * _NEGATIVE, np.float32), np.zeros(2 * _NEGATIVE, np.float32), lines)
    for side, sign in ((_ONE, 1.0), (_ONE + _NEGATIVE, -1.0)):
        table.intercept[side : side + slope.size] = sign * intercept
        table.slope[side : side + slope.size] = slope
        # Integers near 2**31 round up to it in float32: its segment continues the last one.
        table.intercept[side + slope.size] = sign * intercept[-1]
        table.slope[side + slope.size] = slope[-1]
    lines[:, 0], lines[:, 1] = table.intercept, table.slope
    for part in table:
        part.flags.writeable = False
    return table


def _tail_quantile(distribution: str, truncation: float | None) -> Callable[[float], float]:
    """Return the function from the upper tail's probability p in (0, 0.5] to the latent that bounds it."""
    if distribution == "uniform":
        return lambda p: 1.0 - 2.0 * p
    normal = NormalDist()
    if truncation is None:
        return lambda p: -normal.inv_cdf(p)
    cut = normal.cdf(-truncation)
    return lambda p: -normal.inv_cdf(cut + p * (1.0 - 2.0 * cut))
