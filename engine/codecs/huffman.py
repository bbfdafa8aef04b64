"""Deflate of rows of filter residuals, as zlib streams, without searching for repeated strings.

Filter residuals are distributed about zero in much the same way in all images, more widely in some than in others. So
there is one ready code per bin of spreads; a row is written with the code of its bin, literals only. A row that no
ready code suits, of mostly zeros or of noise, gets a code of its own, in which repeats of a byte are matches of
distance 1; if that saves nothing, it is stored.

The compiled core does the same in C (``engine/native/src/deflate.c``): this is its reference, and what runs without it.
The bytes are a function of the row alone, on every machine.

The formats are RFC 1950 (zlib) and RFC 1951 (deflate), a row being one block, of dynamic codes unless it is stored.
Shape suffixes: R rows, N bytes of a row, Q groups of symbols, T tokens, W words.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.codecs.ready_codes import HEADS, SYMBOL_LENGTHS

VERSION: Final = 2
"""Increment whenever the encoded bytes of a row change."""

_ZEROS_BETWEEN = (0.125, 0.325, 0.575)
_MAGNITUDES_BETWEEN = (2.12, 4.24, 8.49, 17.0, 33.9)
"""Boundaries between adjacent bins of the spread: the fraction of zeros, and the mean of |x| over the other bytes."""

_MAX_ZEROS, _NOISE = 0.8, 44.0
"""Limits of the fraction of zeros and of the mean of |x| over all bytes for a ready code. White noise has mean 64."""

_MAX_REPEATS, _SHORT = 0.7, 1100
"""Limit of the fraction of bytes that equal the one before, as in a gradient, for a ready code; of longer rows only,
since a code of a row's own takes 90 bytes."""

_LONGEST, _OWN_LONGEST = 13, 15
"""Maximum bits per symbol of a ready code, so that four symbols are shorter than a word, and of a row's own."""

_END: Final = 256
"""The symbol that ends a block."""

_MIN_RUN, _MAX_RUN = 3, 258
"""Lengths of a match."""

_MAX_STORED = 0xFFFF
"""Bytes of a stored block."""

_ZLIB_HEADER = b"\x78\x01"

_ROWS_AT_ONCE = 64
"""Rows per pass, so that intermediate arrays stay in a core's cache."""

_U64 = np.uint64
_6, _63 = _U64(6), _U64(63)
_LENGTH, _LENGTH_BITS = np.uint32(63), np.uint32(6)
"""Mask and size of the part of an entry that holds the length."""


class ReadyCodes(NamedTuple):
    """The codes by number: the bin of the zeros times the number of magnitudes, plus the bin of the magnitude."""

    entries: NDArray[np.uint32]
    """[code, 257]: each symbol's bits, lowest first, shifted by 6, and their number in the low 6 bits."""

    heads: NDArray[np.uint8]
    """[code, 64]: zlib's header and the block's, followed by zeros."""

    head_bits: NDArray[np.uint32]
    """[code]: bits of the head."""


@lru_cache(maxsize=1)
def ready_codes() -> ReadyCodes:
    """Return the codes that :mod:`gen_engine.engine.codecs.ready_codes` defines."""
    lengths = np.array([[int(digit, 16) for digit in symbols] for symbols in SYMBOL_LENGTHS], np.uint32)
    heads = np.array([list(bytes.fromhex(head).ljust(64, b"\0")) for _, head in HEADS], np.uint8)
    head_bits = np.array([bits for bits, _ in HEADS], np.uint32)
    return ReadyCodes(_canonical(lengths) << _LENGTH_BITS | lengths, heads, head_bits)


def deflate_rows(rows_RN: NDArray[np.uint8]) -> list[bytes]:
    """Return each row of uint8 [R, N] as a zlib stream."""
    streams: list[bytes] = []
    for first in range(0, len(rows_RN), _ROWS_AT_ONCE):
        some_RN = rows_RN[first : first + _ROWS_AT_ONCE]
        code_R = _codes_of(some_RN)
        ready_R = code_R >= 0
        ready = iter(_with_ready_codes(some_RN[ready_R], code_R[ready_R]))
        streams += [next(ready) if suits else _own(row) for suits, row in zip(ready_R, some_RN, strict=True)]
    return streams


def _codes_of(rows_RN: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the number of the ready code for each row, -1 where none suits."""
    others_R = (rows_RN != 0).view(np.uint8).sum(axis=1, dtype=np.uint32)
    sum_R = np.abs(rows_RN.view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.uint64)  # |-128| is 128 in a uint8
    zeros_R = 1 - others_R / rows_RN.shape[1]
    magnitude_R = sum_R / np.maximum(others_R, 1)
    code_R: NDArray[np.intp] = np.searchsorted(_ZEROS_BETWEEN, zeros_R) * (len(_MAGNITUDES_BETWEEN) + 1)
    code_R += np.searchsorted(_MAGNITUDES_BETWEEN, magnitude_R)
    code_R[(zeros_R > _MAX_ZEROS) | (magnitude_R * (1 - zeros_R) > _NOISE)] = -1
    if rows_RN.shape[1] > _SHORT:
        code_R[(rows_RN[:, 1:] == rows_RN[:, :-1]).sum(axis=1) / rows_RN.shape[1] > _MAX_REPEATS] = -1
    return code_R


def _with_ready_codes(rows_RN: NDArray[np.uint8], code_R: NDArray[np.intp]) -> list[bytes]:
    if len(rows_RN) == 0:
        return []
    codes = ready_codes()
    bits_RQ, lengths_RQ = _groups_of_four(rows_RN, codes.entries, code_R)
    stop_RQ = np.cumsum(lengths_RQ, axis=1, dtype=np.uint64)
    stop_RQ += codes.head_bits[code_R][:, None]
    heads = codes.heads.view("<u8")[code_R]
    words = np.zeros((len(rows_RN), heads.shape[1] + (rows_RN.shape[1] + 1) * _LONGEST // 64 + 2), np.uint64)
    words[:, : heads.shape[1]] = heads
    _put(words, bits_RQ, stop_RQ - lengths_RQ)
    return _cut(words, stop_RQ[:, -1], rows_RN)


def _cut(words_RW: NDArray[np.uint64], bits_R: NDArray[np.uint64], rows_RN: NDArray[np.uint8]) -> list[bytes]:
    """Return the streams in rows of words, with the checksums of what they hold."""
    packed, width = words_RW.astype("<u8", copy=False).tobytes(), 8 * words_RW.shape[1]
    plain, size = rows_RN.tobytes(), rows_RN.shape[1]  # slicing bytes takes half as long as slicing an array
    return [
        packed[row * width : row * width + (bits + 7 >> 3)] + _checksum(plain[row * size : (row + 1) * size])
        for row, bits in enumerate(bits_R.tolist())
    ]


def _checksum(data: bytes) -> bytes:
    return zlib.adler32(data).to_bytes(4, "big")


def _groups_of_four(
    rows_RN: NDArray[np.uint8], entries: NDArray[np.uint32], code_R: NDArray[np.intp]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the codes of four bytes each, joined, and their lengths in bits: uint64 [R, Q].

    The last group has the remaining bytes, at most three, and the end of the block.
    """
    rows, fours = len(rows_RN), rows_RN.shape[1] // 4
    table, place_R = entries.ravel(), code_R * entries.shape[1]
    # All first bytes of a group, all second ones and so on: each step then runs over adjacent values.
    at_4RQ = np.empty((4, rows, fours), np.intp)
    np.copyto(at_4RQ, rows_RN[:, : 4 * fours].reshape(rows, fours, 4).transpose(2, 0, 1))
    at_4RQ += place_R[:, None]
    # mode: every index is in range; "wrap" is NumPy's fastest mode that skips the check.
    bits = table.take(at_4RQ, mode="wrap")
    length = bits & _LENGTH
    bits >>= _LENGTH_BITS
    pairs = bits[0::2] | bits[1::2] << length[0::2]
    lengths = length[0::2] + length[1::2]
    bits_RQ, lengths_RQ = np.empty((2, rows, fours + 1), np.uint64)
    np.left_shift(pairs[1], lengths[0], out=bits_RQ[:, :fours], dtype=np.uint64)
    bits_RQ[:, :fours] |= pairs[0]
    np.add(lengths[0], lengths[1], out=lengths_RQ[:, :fours])
    bits_R, length_R = np.zeros((2, rows), np.uint64)
    for byte_R in (*rows_RN[:, 4 * fours :].T, _END):
        symbol_R = table[place_R + byte_R]
        bits_R |= (symbol_R >> _LENGTH_BITS).astype(np.uint64) << length_R
        length_R += symbol_R & _LENGTH
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


def _own(row_N: NDArray[np.uint8]) -> bytes:
    """Return a row with a code of its own, or stored if that is not larger."""
    symbol_T, extra_T, extra_bits_T = _tokens(row_N)
    counts = np.bincount(symbol_T, minlength=286)
    lengths = code_lengths(counts.tolist(), _OWN_LONGEST)
    length_T = np.array(lengths, np.uint64)[symbol_T]
    size_T = length_T + extra_bits_T
    stored_bytes = len(_stored(row_N))
    if int(size_T.sum()) // 8 >= stored_bytes:
        return _stored(row_N)
    last = max(symbol for symbol, length in enumerate(lengths) if length)
    head, head_bits = _head(lengths[: last + 1], _length_code(lengths[: last + 1]))
    bits_T = _canonical(np.array(lengths, np.uint32)).astype(np.uint64)[symbol_T]
    bits_T |= extra_T << length_T
    stop_T = np.cumsum(size_T, dtype=np.uint64) + _U64(head_bits)
    words = np.zeros((1, int(stop_T[-1]) // 64 + 2), np.uint64)
    words[0, : head_bits // 64 + 1] = np.frombuffer(head.to_bytes(8 * (head_bits // 64 + 1), "little"), "<u8")
    _put(words, bits_T[None], (stop_T - size_T)[None])
    (stream,) = _cut(words, stop_T[-1:], row_N[None])
    return stream if len(stream) < stored_bytes else _stored(row_N)


def _tokens(row_N: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.uint64]]:
    """Return a row's symbols, the end included, the extra bits of each with a match's distance, and their number.

    A byte that occurs again and again is written once, and its repeats as matches: of :data:`_MAX_RUN` while as many
    are left, and of the rest if it is at least :data:`_MIN_RUN`.
    """
    start = np.flatnonzero(np.append(True, row_N[1:] != row_N[:-1]))
    value, repeats = row_N[start].astype(np.intp), np.diff(np.append(start, len(row_N))) - 1
    whole, rest = np.divmod(repeats, _MAX_RUN)
    match = rest >= _MIN_RUN
    literals = 1 + np.where(match, 0, rest)  # the first of a run, and a rest that is too short for a match
    # In a run: the byte, its whole matches, then the rest.
    count = np.stack([np.ones_like(value), whole, match.astype(np.intp), literals - 1], axis=1)
    symbol, extra, extra_bits = _MATCHES
    of_rest = np.where(match, rest, _MIN_RUN)
    full = np.full_like(value, symbol[_MAX_RUN])
    zero = np.zeros_like(value)
    kinds = np.stack([value, full, symbol[of_rest], value], axis=1)
    extras = np.stack([zero, zero, extra[of_rest], zero], axis=1)
    sizes = np.stack([zero, zero + 1, extra_bits[of_rest] + 1, zero], axis=1)
    times = count.ravel()
    end = np.array([_END])
    return (
        np.append(np.repeat(kinds.ravel(), times), end),
        np.append(np.repeat(extras.ravel(), times), 0).astype(np.uint64),
        np.append(np.repeat(sizes.ravel(), times), 0).astype(np.uint64),
    )


def _match_symbols() -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return for each length of a match its symbol, its extra bits and their number: RFC 1951, 3.2.5."""
    symbol, extra, extra_bits = (np.zeros(_MAX_RUN + 1, np.intp) for _ in range(3))
    for length in range(_MIN_RUN, _MAX_RUN):
        offset = length - 3
        wide = max(0, offset.bit_length() - 3)
        symbol[length], extra_bits[length] = 257 + 4 * wide + (offset >> wide), wide
        extra[length] = offset & (1 << wide) - 1
    symbol[_MAX_RUN] = 285
    return symbol, extra, extra_bits


_MATCHES = _match_symbols()


def _stored(row_N: NDArray[np.uint8]) -> bytes:
    data = row_N.tobytes()
    blocks = [data[at : at + _MAX_STORED] for at in range(0, len(data), _MAX_STORED)]
    heads = [struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) for block in blocks]
    body = [piece for pair in zip(heads, blocks, strict=True) for piece in pair]
    return b"".join([_ZLIB_HEADER, *body, _checksum(data)])


def code_lengths(weights: Sequence[int], longest: int) -> list[int]:
    """Return the lengths of the best prefix code with none above ``longest``; 0 for symbols of weight 0.

    Package-merge: Larmore and Hirschberg, "A fast algorithm for optimal length-limited Huffman codes", 1990. Among
    equal weights leaves come first, and leaves in the order of their symbols: so the lengths are determined.
    """
    leaves = sorted((weight, symbol) for symbol, weight in enumerate(weights) if weight)
    lengths = [0] * len(weights)
    if len(leaves) == 1:
        lengths[leaves[0][1]] = 1
    if len(leaves) < 2:
        return lengths
    packages: list[int] = []
    levels: list[list[bool]] = []
    for _ in range(longest):
        level = sorted([(weight, False) for weight, _ in leaves] + [(weight, True) for weight in packages])
        levels.append([not package for _, package in level])
        packages = [one[0] + other[0] for one, other in zip(level[0::2], level[1::2], strict=False)]
    take = 2 * (len(leaves) - 1)
    for is_leaf in reversed(levels):
        taken = sum(is_leaf[:take])
        for _, symbol in leaves[:taken]:
            lengths[symbol] += 1
        take = 2 * (take - taken)
    return lengths


def _canonical(lengths: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return each symbol's code, lowest bit first, as RFC 1951, 3.2.2, derives it from the lengths [..., symbol]."""
    order = np.argsort(lengths, axis=-1, kind="stable")
    ascending = np.take_along_axis(lengths, order, axis=-1)
    # A code is a binary fraction: the sum of 2**-length over the symbols before it. Here in 16 bits, then mirrored.
    share = np.where(ascending > 0, np.uint32(1 << 16) >> ascending, np.uint32(0))
    bits = np.cumsum(share, axis=-1, dtype=np.uint32) - share
    for width, mask in ((1, 0x5555), (2, 0x3333), (4, 0x0F0F), (8, 0x00FF)):
        bits = bits >> np.uint32(width) & np.uint32(mask) | (bits & np.uint32(mask)) << np.uint32(width)
    codes = np.empty_like(lengths)
    np.put_along_axis(codes, order, bits, axis=-1)
    return codes


_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
"""The order in which the lengths of the code-length code are sent."""


def _length_code(lengths: Sequence[int]) -> list[int]:
    """Return the lengths of the best code in which a block's header sends the lengths of its symbols."""
    counts = [0] * len(_ORDER)
    for symbol, _, _ in _run_lengths([*lengths, 1, 1]):
        counts[symbol] += 1
    return code_lengths(counts, 7)


def _head(lengths: Sequence[int], sizes: Sequence[int]) -> tuple[int, int]:
    """Return zlib's header and that of a final block with this code, as bits, lowest first, and their number.

    As in zlib, two distance codes are defined though at most one is used: some readers refuse fewer.

    Args:
        lengths: of the symbols, up to the last that is used.
        sizes: lengths of the code in which they are sent.
    """
    codes = _canonical(np.array(sizes, np.uint32)).tolist()
    shown = max(place for place, symbol in enumerate(_ORDER) if sizes[symbol]) + 1
    fields = [(int.from_bytes(_ZLIB_HEADER, "little"), 16), (1, 1), (2, 2), (len(lengths) - 257, 5), (1, 5)]
    fields += [(shown - 4, 4), *((sizes[symbol], 3) for symbol in _ORDER[:shown])]
    for symbol, extra, extra_bits in _run_lengths([*lengths, 1, 1]):
        fields += [(codes[symbol], sizes[symbol]), (extra, extra_bits)]
    bits = size = 0
    for value, width in fields:
        bits, size = bits | value << size, size + width
    return bits, size


def _run_lengths(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield symbols with the value and number of their extra bits: lengths, repeats of the last, and runs of zeros."""
    for length, run in groupby(lengths):
        left = len(list(run))
        if length:
            yield length, 0, 0
            left -= 1
        while left >= 3:
            repeat = min(left, 6 if length else 138 if left >= 11 else 10)
            if length:
                yield 16, repeat - 3, 2
            elif repeat >= 11:
                yield 18, repeat - 11, 7
            else:
                yield 17, repeat - 3, 3
            left -= repeat
        yield from [(length, 0, 0)] * left
