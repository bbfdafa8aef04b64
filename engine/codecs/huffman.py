"""Deflate of many short rows at once, with precomputed Huffman codes.

For a row of a few hundred bytes, most of a compressor's work is overhead: it clears tables, counts symbols and builds a
code. Filter residuals are distributed about zero in much the same way in all images, more widely in some than in
others. So there is one code per bin of spreads; each row is written with the code of its bin, without searching for
repeats, and all rows of a batch are written at once, in NumPy.

The formats are RFC 1950 (zlib) and RFC 1951 (deflate), a row being one block with dynamic codes.
Shape suffixes: R rows, N bytes of a row, Q groups of symbols, W words.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Increment whenever the encoded bytes of a row change."""

_ZEROS = (0.05, 0.20, 0.45, 0.70)
_MAGNITUDES = (1.5, 3.0, 6.0, 12.0, 24.0, 48.0)
"""The spreads that have a code: the fraction of zeros, and the mean of |x| over the other bytes, taken as signed."""

_ZEROS_BETWEEN = (0.125, 0.325, 0.575)
_MAGNITUDES_BETWEEN = (2.12, 4.24, 8.49, 17.0, 33.9)
"""Boundaries between adjacent bins."""

_MAX_ZEROS, _NOISE = 0.8, 44.0
"""Limits of the fraction of zeros and of the mean of |x| over all bytes for suited rows. White noise has mean 64."""

_LONGEST = 13
"""Maximum bits per symbol, so that four symbols are shorter than a word."""

_END = 256
"""The symbol that ends a block."""

_ROWS_AT_ONCE = 64
"""Rows per pass, so that intermediate arrays stay in a core's cache."""

_U64 = np.uint64
_6, _63 = _U64(6), _U64(63)
_16, _LOW16 = np.uint32(16), np.uint32(0xFFFF)


class Spread(NamedTuple):
    """How the bytes of rows are distributed about zero."""

    zeros_R: NDArray[np.float64]
    """The fraction of zeros."""

    magnitude_R: NDArray[np.float64]
    """The mean of |x| over all other bytes, taken as signed."""


class Streams(NamedTuple):
    """Zlib streams in one array."""

    data: NDArray[np.uint8]
    """[R, …]: in each row a reserved prefix, then the stream without its checksum."""

    stop_R: NDArray[np.int64]
    """Offset of each stream's end in its row."""

    checksums: list[bytes]
    """The four bytes that follow. Separate, since whoever assembles files extracts each stream as bytes anyway."""


def spread(rows_RN: NDArray[np.uint8]) -> Spread:
    """Return the spread of each row of uint8 [R, N]."""
    others_R = (rows_RN != 0).view(np.uint8).sum(axis=1, dtype=np.uint32)
    sum_R = np.abs(rows_RN.view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.uint32)  # |-128| is 128 in a uint8
    return Spread(1 - others_R / rows_RN.shape[1], sum_R / np.maximum(others_R, 1))


def suited(spread_R: Spread) -> NDArray[np.bool_]:
    """Return which rows this encoder suits, bool [R].

    Rows of mostly zeros compress better with repeats; noise is incompressible.
    """
    noise_R = spread_R.magnitude_R * (1 - spread_R.zeros_R) > _NOISE
    return (spread_R.zeros_R <= _MAX_ZEROS) & ~noise_R


def deflate_rows(rows_RN: NDArray[np.uint8], spread_R: Spread, *, prefix: int) -> Iterator[Streams]:
    """Yield the rows as zlib streams, in groups. Each stream depends on its row alone.

    Args:
        rows_RN: uint8 [R, N].
        spread_R: their spread.
        prefix: bytes to reserve before each stream; they are 0.
    """
    code_R = np.searchsorted(_ZEROS_BETWEEN, spread_R.zeros_R) * len(_MAGNITUDES)
    code_R += np.searchsorted(_MAGNITUDES_BETWEEN, spread_R.magnitude_R)
    for first in range(0, len(rows_RN), _ROWS_AT_ONCE):
        some = slice(first, first + _ROWS_AT_ONCE)
        yield _write(rows_RN[some], code_R[some], _codes(prefix))


def _write(rows_RN: NDArray[np.uint8], code_R: NDArray[np.intp], codes: _Codes) -> Streams:
    bits_RQ, lengths_RQ = _groups_of_four(rows_RN, codes.symbols, code_R)
    stop_RQ = np.cumsum(lengths_RQ, axis=1, dtype=np.uint64)
    stop_RQ += codes.head_bits[code_R][:, None]
    head_words = codes.heads.shape[1]
    words = np.zeros((len(rows_RN), head_words + (rows_RN.shape[1] + 1) * _LONGEST // 64 + 2), np.uint64)
    words[:, :head_words] = codes.heads[code_R]
    _put(words, bits_RQ, stop_RQ - lengths_RQ)
    stop_R = (stop_RQ[:, -1].astype(np.int64) + 7) >> 3
    return Streams(words.astype("<u8", copy=False).view(np.uint8), stop_R, _checksums(rows_RN))


def _checksums(rows_RN: NDArray[np.uint8]) -> list[bytes]:
    plain, size = rows_RN.tobytes(), rows_RN.shape[1]  # slicing bytes takes half as long as slicing an array
    return [zlib.adler32(plain[at : at + size]).to_bytes(4, "big") for at in range(0, len(plain), size)]


def _groups_of_four(
    rows_RN: NDArray[np.uint8], symbols: NDArray[np.uint32], code_R: NDArray[np.intp]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the codes of four bytes each, joined, and their lengths in bits: uint64 [R, Q].

    The last group has the remaining bytes, at most three, and the end of the block.
    """
    rows, fours = len(rows_RN), rows_RN.shape[1] // 4
    table, place_R = symbols.ravel(), code_R * symbols.shape[1]
    # All first bytes of a group, all second ones and so on: each step then runs over adjacent values.
    at_4RQ = np.empty((4, rows, fours), np.intp)
    np.copyto(at_4RQ, rows_RN[:, : 4 * fours].reshape(rows, fours, 4).transpose(2, 0, 1))
    at_4RQ += place_R[:, None]
    # mode: every index is in range; "wrap" is NumPy's fastest mode that skips the check.
    bits = table.take(at_4RQ, mode="wrap")
    length = bits >> _16
    bits &= _LOW16
    pairs = bits[0::2] | bits[1::2] << length[0::2]
    lengths = length[0::2] + length[1::2]
    bits_RQ, lengths_RQ = np.empty((2, rows, fours + 1), np.uint64)
    np.left_shift(pairs[1], lengths[0], out=bits_RQ[:, :fours], dtype=np.uint64)
    bits_RQ[:, :fours] |= pairs[0]
    np.add(lengths[0], lengths[1], out=lengths_RQ[:, :fours])
    bits_R, length_R = np.zeros((2, rows), np.uint64)
    for byte_R in (*rows_RN[:, 4 * fours :].T, _END):
        symbol_R = table[place_R + byte_R]
        bits_R |= (symbol_R & _LOW16).astype(np.uint64) << length_R
        length_R += symbol_R >> _16
    bits_RQ[:, fours], lengths_RQ[:, fours] = bits_R, length_R
    return bits_RQ, lengths_RQ


def _put(words_RW: NDArray[np.uint64], bits_RQ: NDArray[np.uint64], start_RQ: NDArray[np.uint64]) -> None:
    """Write groups of less than 64 bits, consecutive in each row, at their start bits."""
    start_RQ += (np.arange(len(words_RW), dtype=np.uint64) * _U64(64 * words_RW.shape[1]))[:, None]
    shift = start_RQ & _63
    word = (start_RQ >> _6).ravel()
    low = (bits_RQ << shift).ravel()
    # In a row at least one group starts in each word, so those that start in one word are adjacent. They share no
    # bits: their union is their sum, a difference of cumulative sums, even when those overflow.
    last = np.append(np.flatnonzero(word[1:] != word[:-1]), word.size - 1)
    union = np.diff(np.cumsum(low, dtype=np.uint64)[last], prepend=_U64(0))
    flat, at = words_RW.reshape(-1), word[last].astype(np.intp)
    flat[at] |= union
    flat[at + 1] |= (bits_RQ.ravel()[last] >> _U64(1)) >> (_63 - shift.ravel()[last])  # the carry into the next word


class _Codes(NamedTuple):
    """All codes, by number: the bin of the zeros times the number of magnitudes, plus the bin of the magnitude."""

    symbols: NDArray[np.uint32]
    """[code, 257]: each symbol's bits, lowest first, and their number in the high half."""

    heads: NDArray[np.uint64]
    """[code, words]: what precedes a row's first symbol: the reserved prefix, the zlib header and the block header."""

    head_bits: NDArray[np.uint64]
    """[code]."""


@lru_cache(maxsize=4)
def _codes(prefix: int) -> _Codes:
    lengths = [_lengths(_weights(zeros, mean), _LONGEST) for zeros in _ZEROS for mean in _MAGNITUDES]
    symbols = [[bits | size << 16 for bits, size in zip(_canonical(code), code, strict=True)] for code in lengths]
    heads = [(bits << 8 * prefix, size + 8 * prefix) for bits, size in map(_head, lengths)]
    words = max(size for _, size in heads) // 64 + 1
    cut = [[bits >> 64 * word & 2**64 - 1 for word in range(words)] for bits, _ in heads]
    return _Codes(
        np.array(symbols, np.uint32), np.array(cut, np.uint64), np.array([size for _, size in heads], np.uint64)
    )


def _weights(zeros: float, mean: float) -> list[int]:
    """Return how often each of the 257 symbols is expected, as integers: floats differ between machines.

    |x| is 0 or geometric, with a small extra weight for every value, for the filter number "Up" at a row's start, and
    for the end of the block.
    """
    unit, m = 1 << 24, round(10 * mean)
    weights = [unit // 13_000] * (_END + 1)
    weights[0] += round(100 * zeros) * unit // 100
    for k in range(1, 129):
        share = (unit - weights[0]) // 2 * 10 * (m - 10) ** (k - 1) // m**k
        for value in {k, 256 - k}:
            weights[value] += share
    weights[2] += unit // 40
    weights[_END] = unit // 1000
    return weights


def _lengths(weights: Sequence[int], longest: int) -> list[int]:
    """Return the lengths of the best prefix code with none above ``longest``; 0 for symbols of weight 0.

    Package-merge: Larmore and Hirschberg, "A fast algorithm for optimal length-limited Huffman codes", 1990.
    """
    leaves = sorted((weight, (symbol,)) for symbol, weight in enumerate(weights) if weight)
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(longest):
        row = sorted(leaves + packages)
        packages = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(row[0::2], row[1::2], strict=False)]
    lengths = [0] * len(weights)
    for _, members in packages[: len(leaves) - 1]:
        for symbol in members:
            lengths[symbol] += 1
    return lengths


def _canonical(lengths: Sequence[int]) -> list[int]:
    """Return the code of each symbol, lowest bit first, as RFC 1951, 3.2.2, derives them from the lengths."""
    codes, code, before = [0] * len(lengths), 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        code <<= length - before
        codes[symbol] = int(f"{code:0{length}b}"[::-1], 2)
        code, before = code + 1, length
    return codes


_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
"""The order in which the lengths of the code-length code are sent."""


def _head(lengths: Sequence[int]) -> tuple[int, int]:
    """Return the zlib header and the header of a final block with this code, as bits, lowest first, and their number.

    As in zlib, two distance codes are defined though none is used: some readers refuse fewer.
    """
    sent = list(_run_lengths([*lengths, 1, 1]))
    counts = [0] * len(_ORDER)
    for symbol, _, _ in sent:
        counts[symbol] += 1
    sizes = _lengths(counts, 7)
    codes = _canonical(sizes)
    shown = max(place for place, symbol in enumerate(_ORDER) if sizes[symbol]) + 1
    fields = [(0x0178, 16), (1, 1), (2, 2), (len(lengths) - 257, 5), (1, 5), (shown - 4, 4)]
    fields += [(sizes[symbol], 3) for symbol in _ORDER[:shown]]
    for symbol, extra, extra_bits in sent:
        fields += [(codes[symbol], sizes[symbol]), (extra, extra_bits)]
    bits = size = 0
    for value, width in fields:
        bits, size = bits | value << size, size + width
    return bits, size


def _run_lengths(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield symbols with the value and number of their extra bits: lengths, none being 0, and repeats of the last."""
    for length, run in groupby(lengths):
        left = len(list(run)) - 1
        yield length, 0, 0
        while left >= 3:
            repeat = min(left, 6)
            yield 16, repeat - 3, 2
            left -= repeat
        yield from [(length, 0, 0)] * left
