"""How the ready codes were derived: the data in ready_codes.py are what this makes."""

from __future__ import annotations

from collections.abc import Sequence

from gen_engine.engine.codecs import huffman
from gen_engine.engine.codecs.ready_codes import HEADS, SYMBOL_LENGTHS

ZEROS = (0.05, 0.20, 0.45, 0.70)
MAGNITUDES = (1.5, 3.0, 6.0, 12.0, 24.0, 48.0)
"""The spreads that have a code: the fraction of zeros, and the mean of |x| over the other bytes, taken as signed."""


def weights(zeros: float, mean: float) -> list[int]:
    """Return how often each of the 257 symbols is expected, as integers: floats differ between machines.

    |x| is 0 or geometric, with a small extra weight for every value, for the filter number "Up" at a row's start, and
    for the end of the block.
    """
    unit, m = 1 << 24, round(10 * mean)
    of = [unit // 13_000] * 257
    of[0] += round(100 * zeros) * unit // 100
    for k in range(1, 129):
        share = (unit - of[0]) // 2 * 10 * (m - 10) ** (k - 1) // m**k
        for value in {k, 256 - k}:
            of[value] += share
    of[2] += unit // 40
    of[256] = unit // 1000
    return of


def lengths(of: Sequence[int], longest: int) -> list[int]:
    """Return the lengths of a best prefix code by package-merge.

    Equal weights are ordered by their symbols, unlike in :func:`~gen_engine.engine.codecs.huffman.code_lengths`, which
    finds others that are as good.
    """
    leaves = sorted((weight, (symbol,)) for symbol, weight in enumerate(of) if weight)
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(longest):
        row = sorted(leaves + packages)
        packages = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(row[0::2], row[1::2], strict=False)]
    found = [0] * len(of)
    for _, members in packages[: len(leaves) - 1]:
        for symbol in members:
            found[symbol] += 1
    return found


def digits(values: Sequence[int]) -> str:
    return "".join(f"{value:x}" for value in values)


def test_the_codes_are_the_best_ones_for_their_spreads() -> None:
    symbols, heads = [], []
    for zeros in ZEROS:
        for mean in MAGNITUDES:
            code = lengths(weights(zeros, mean), 13)
            counts = [0] * 19
            for symbol, _, _ in huffman._run_lengths([*code, 1, 1]):
                counts[symbol] += 1
            bits, size = huffman._head(code, lengths(counts, 7))
            symbols.append(digits(code))
            heads.append((size, bits.to_bytes((size + 7) // 8, "little").hex()))
    assert tuple(symbols) == SYMBOL_LENGTHS
    assert tuple(heads) == HEADS
