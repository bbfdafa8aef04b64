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
from isal import isal_zlib
from numpy.typing import NDArray

from gen_engine.engine.codecs import huffman

Rows = NDArray[np.uint8]


def streams(rows_RN: Rows, prefix: int = 0) -> list[bytes]:
    """Return each row's whole zlib stream, with what is left before it."""
    made = []
    for data, stop_R, checksums in huffman.deflate_rows(rows_RN, huffman.spread(rows_RN), prefix=prefix):
        made += [row[:stop].tobytes() + end for row, stop, end in zip(data, stop_R, checksums, strict=True)]
    return made


def laplacian(scale: float, rows: int, size: int) -> Rows:
    """Return rows as a picture's filter leaves them."""
    residuals = np.random.default_rng(7).laplace(0, scale, (rows, size))
    return np.rint(residuals).astype(np.int64).astype(np.uint8)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 70))))
def test_any_bytes_come_back(rows: Rows) -> None:
    assert [zlib.decompress(stream) for stream in streams(rows)] == [row.tobytes() for row in rows]


@pytest.mark.parametrize("size", [1, 3, 812, 813, 814, 815, 1100])
@pytest.mark.parametrize("scale", [0.01, 0.4, 1, 3, 7, 20, 60, 1000])
def test_every_spread_comes_back_from_two_readers(scale: float, size: int) -> None:
    rows = laplacian(scale, 130, size)
    for row, stream in zip(rows, streams(rows), strict=True):
        assert zlib.decompress(stream) == isal_zlib.decompress(stream) == row.tobytes()


def test_every_code_is_used_by_its_own_spread() -> None:
    codes = set()
    for zeros in (0.03, 0.2, 0.45, 0.75):
        for mean in (1.2, 3, 6, 12, 24, 60):
            rows = np.full((1, 1000), round(mean), np.uint8)
            rows[0, : round(1000 * zeros)] = 0
            codes.add(streams(rows)[0][:40])
    assert len(codes) == 24


@pytest.mark.parametrize("prefix", [0, 1, 8, 41])
def test_a_row_depends_on_no_other_and_keeps_its_prefix(prefix: int) -> None:
    rows = np.concatenate([laplacian(scale, 45, 812) for scale in (0.5, 5, 50)])
    alone = [streams(row[None])[0] for row in rows]
    assert streams(rows, prefix) == [bytes(prefix) + stream for stream in alone]


def test_rows_that_others_write_better_are_told() -> None:
    rows = np.concatenate([laplacian(scale, 1, 812) for scale in (0.2, 0.5, 5, 50, 1e5)])
    assert huffman.suited(huffman.spread(rows)).tolist() == [False, True, True, True, False]


def test_sizes_are_near_those_of_zlib() -> None:
    for scale in (0.7, 2, 8, 30):
        rows = laplacian(scale, 100, 812)
        theirs = [zlib.compress(row, 6) for row in rows]
        assert sum(map(len, streams(rows))) < 1.03 * sum(map(len, theirs))


def test_the_bytes_are_the_same_on_every_machine() -> None:
    index = np.arange(40 * 812, dtype=np.uint64).reshape(40, 812)
    noise = (index * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    rows = ((noise & 0xFF) * (noise >> np.uint64(8) & 0xFF) >> np.uint64(9)) * (index % 40 + 1) // np.uint64(40)
    digest = hashlib.sha256(b"".join(streams(rows.astype(np.uint8)))).hexdigest()
    assert digest[:32] == "6cd99519801a20118bb21aac6204b9fc"


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=60).filter(lambda w: sum(map(bool, w)) > 1))
def test_lengths_are_those_of_huffman_where_the_limit_does_not_bind(weights: list[int]) -> None:
    lengths = huffman._lengths(weights, 60)
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
    lengths = huffman._lengths(weights, longest)
    assert max(lengths) <= longest
    assert sum(2**-length for length in lengths) == 1
