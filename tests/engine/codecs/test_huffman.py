"""Deflate of many short rows at once."""

from __future__ import annotations

import hashlib
import heapq
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from gen_engine.engine.codecs import huffman

Rows = NDArray[np.uint8]


def laplacian(scale: float, rows: int, size: int) -> Rows:
    """Return rows as a picture's filter leaves them."""
    residuals = np.random.default_rng(7).laplace(0, scale, (rows, size))
    return np.rint(residuals).astype(np.int64).astype(np.uint8)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 70))))
def test_any_bytes_come_back(rows: Rows) -> None:
    assert [zlib.decompress(stream) for stream in huffman.deflate_rows(rows)] == [row.tobytes() for row in rows]


@pytest.mark.parametrize("size", [1, 3, 812, 813, 814, 815, 1100])
@pytest.mark.parametrize("scale", [0.01, 0.4, 1, 3, 7, 20, 60, 1000])
def test_every_spread_comes_back(scale: float, size: int) -> None:
    rows = laplacian(scale, 130, size)
    for row, stream in zip(rows, huffman.deflate_rows(rows), strict=True):
        assert zlib.decompress(stream) == row.tobytes()


def test_every_code_is_used_by_its_own_spread() -> None:
    codes = set()
    for zeros in (0.03, 0.2, 0.45, 0.75):
        for mean in (1.2, 3, 6, 12, 24, 60):
            rows = np.full((1, 1000), round(mean), np.uint8)
            rows[0, : round(1000 * zeros)] = 0
            codes.add(huffman.deflate_rows(rows)[0][:40])
    assert len(codes) == 24


def test_a_row_depends_on_no_other() -> None:
    rows = np.concatenate([laplacian(scale, 45, 812) for scale in (0.1, 0.5, 5, 50, 1e5)])
    assert huffman.deflate_rows(rows) == [huffman.deflate_rows(row[None])[0] for row in rows]


def block_kind(stream: bytes) -> str:
    """Return how the first block of a zlib stream is written."""
    return {0: "stored", 1: "fixed codes", 2: "dynamic codes"}[stream[2] >> 1 & 3]


def test_noise_is_stored_and_what_has_few_values_is_not() -> None:
    (noise,) = huffman.deflate_rows(laplacian(1e5, 1, 100_000))
    assert block_kind(noise) == "stored"
    assert len(noise) == 100_000 + 2 + 2 * 5 + 4
    values = np.random.default_rng(0).choice(np.array([0, 128], np.uint8), (1, 100_000))
    (two,) = huffman.deflate_rows(values)
    assert block_kind(two) == "dynamic codes"
    assert len(two) < 0.2 * values.size


@pytest.mark.parametrize("size", [1, 2, 3, 4, 258, 259, 260, 261, 262, 516, 517, 10_000, 70_000])
@pytest.mark.parametrize("byte", [0, 7])
def test_runs_of_every_length_are_matches(size: int, byte: int) -> None:
    rows = np.full((1, size), byte, np.uint8)
    (stream,) = huffman.deflate_rows(rows)
    assert zlib.decompress(stream) == rows.tobytes()
    if byte == 0 or size > 1100:  # a short row of other bytes has a ready code
        assert len(stream) <= 40 + size // 100


def test_sizes_are_near_those_of_zlib() -> None:
    for scale in (0.7, 2, 8, 30):
        rows = laplacian(scale, 100, 812)
        theirs = [zlib.compress(row, 6) for row in rows]
        assert sum(map(len, huffman.deflate_rows(rows))) < 1.03 * sum(map(len, theirs))


def test_the_bytes_are_the_same_on_every_machine() -> None:
    index = np.arange(40 * 812, dtype=np.uint64).reshape(40, 812)
    noise = (index * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    rows = ((noise & 0xFF) * (noise >> np.uint64(8) & 0xFF) >> np.uint64(9)) * (index % 40 + 1) // np.uint64(40)
    digest = hashlib.sha256(b"".join(huffman.deflate_rows(rows.astype(np.uint8)))).hexdigest()
    assert digest[:32] == "6cd99519801a20118bb21aac6204b9fc"


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=60).filter(lambda w: sum(map(bool, w)) > 1))
def test_lengths_are_those_of_huffman_where_the_limit_does_not_bind(weights: list[int]) -> None:
    lengths = huffman.code_lengths(weights, 60)
    heap = [weight for weight in weights if weight]
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        cost += joined
        heapq.heappush(heap, joined)
    assert sum(weight * length for weight, length in zip(weights, lengths, strict=True)) == cost


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=100), st.integers(7, 13))
def test_lengths_fill_a_code_within_the_limit(weights: list[int], longest: int) -> None:
    lengths = huffman.code_lengths(weights, longest)
    assert max(lengths) <= longest
    assert sum(2**-length for length in lengths) == 1
