"""Decoding the PNG files that this package writes: deflate and row filters.

The format is W3C's PNG Specification (third edition), https://www.w3.org/TR/png-3/. Files of other programs may use
features that are refused here: palettes, interlacing, fewer than 8 bits per channel.

Shape suffixes: H height, W width, C channels, S bytes of a scanline.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.native import core

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels to PNG colour type: grey, grey and alpha, RGB, RGBA."""

NONE, SUB, UP, AVERAGE, PAETH = range(5)
"""Row filters. What is stored is a byte less a prediction, modulo 256: 0, the same channel's byte to the left, the one
above, the mean of both, or whichever of left, above and corner is nearest to left + above - corner."""


def decode_png(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the image of a PNG file.

    Args:
        data: the file.
        shape: [H, W, C] that the image must have; bounds the memory that is allocated.
        dtype: uint8 or uint16, which the image must have.

    Raises:
        ValueError: the file is damaged, of another shape or dtype, or uses a feature that this package never writes.
    """
    height, width, channels = shape
    depth = 8 * dtype.itemsize
    header, packed = _chunks(data)
    wanted = struct.pack(">IIBBBBB", width, height, depth, COLOUR_TYPES[channels], 0, 0, 0)
    if header != wanted:
        raise ValueError(
            f"the PNG file's header is {header.hex()}; {wanted.hex()}, {height} × {width} with {channels} channels of "
            f"{depth} bits, is due"
        )
    step = channels * dtype.itemsize
    rows_HS = _inflate(packed, height, 1 + width * step)
    bytes_HS = _unfilter(rows_HS, step)
    return bytes_HS.reshape(-1).view(dtype.newbyteorder(">")).astype(dtype, copy=False).reshape(shape)


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    """Return the contents of the chunks IHDR and IDAT; the order and the checksums of all chunks are verified."""
    if not data.startswith(SIGNATURE):
        raise ValueError("not a PNG file")
    header, packed, at = b"", [], len(SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise ValueError("the PNG file ends within a chunk")
        size, kind = struct.unpack_from(">I4s", data, at)
        stop = at + 8 + size
        if stop + 4 > len(data):
            raise ValueError("the PNG file ends within a chunk")
        if zlib.crc32(data[at + 4 : stop]) != struct.unpack_from(">I", data, stop)[0]:
            raise ValueError(f"the PNG chunk {kind!r} is damaged: its checksum differs")
        if (kind == b"IHDR") != (at == len(SIGNATURE)):
            raise ValueError("the PNG file does not begin with its one header")
        if kind == b"IHDR":
            header = data[at + 8 : stop]
        elif kind == b"IDAT":
            packed.append(data[at + 8 : stop])
        elif kind == b"IEND":
            return header, b"".join(packed)
        elif not kind[0] & 0x20:  # a decoder may skip chunks whose names begin in lower case
            raise ValueError(f"the PNG chunk {kind!r} is not supported")
        at = stop + 4


def _inflate(packed: bytes, height: int, scanline: int) -> NDArray[np.uint8]:
    """Return the scanlines, uint8 [H, S]. Stops inflating a stream that holds more."""
    size = height * scanline
    inflate = zlib.decompressobj()
    try:
        rows = inflate.decompress(packed, size + 1)
    except zlib.error as error:
        raise ValueError(f"the PNG file's data is damaged ({error})") from error
    if len(rows) != size or not inflate.eof or inflate.unused_data:
        raise ValueError(f"the PNG file does not hold {size:,} bytes of scanlines")
    return np.frombuffer(rows, np.uint8).reshape(height, scanline)


def _unfilter(rows_HS: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Return the rows without filter numbers and with their filters undone; ``step`` is the bytes per pixel."""
    filters_H, height, width = rows_HS[:, 0], len(rows_HS), rows_HS.shape[1] - 1
    if filters_H.max() > PAETH:
        raise ValueError(f"the PNG row filter {filters_H.max()} is none of the five")
    compiled = core()
    if compiled is not None:
        made_HS = np.empty((height, width), np.uint8)
        compiled.unfilter_png(rows_HS, height, width, step, made_HS)
        return made_HS
    rows_HWC = rows_HS[:, 1:].reshape(height, -1, step)
    if (filters_H == PAETH).all():
        return _without_paeth(rows_HWC).reshape(height, width)
    return _row_by_row(filters_H, rows_HWC).reshape(height, width)


def _row_by_row(filters_H: NDArray[np.uint8], rows_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    made = np.zeros((len(rows_HWC) + 1, rows_HWC.shape[1] + 1, rows_HWC.shape[2]), np.int16)
    for y, (kind, row_WC) in enumerate(zip(filters_H.tolist(), rows_HWC.astype(np.int16), strict=True)):
        if kind in (NONE, UP):
            made[y + 1, 1:] = row_WC + (made[y, 1:] if kind == UP else 0) & 0xFF
        elif kind == SUB:
            made[y + 1, 1:] = np.cumsum(row_WC, axis=0, dtype=np.uint8)
        else:
            for x, pixel in enumerate(row_WC):
                left, above, corner = made[y + 1, x], made[y, x + 1], made[y, x]
                guess = (left + above) // 2 if kind == AVERAGE else nearest(left, above, corner)
                made[y + 1, x + 1] = pixel + guess & 0xFF
    return made[1:, 1:].astype(np.uint8)


def nearest(left: NDArray[np.int16], above: NDArray[np.int16], corner: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the prediction of the filter Paeth."""
    to_left, to_above = np.abs(above - corner), np.abs(left - corner)
    to_corner = np.abs(left + above - 2 * corner)
    guess = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, guess)


def _without_paeth(rows_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the filter of all rows. Pixels of one anti-diagonal depend on the two before it, and not on each other."""
    height, width, channels = rows_HWC.shape
    made = np.zeros((height + 1, width + 1, channels), np.int16)  # with a row and a column of zeros
    for diagonal in range(height + width - 1):
        y = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        x = diagonal - y
        guess = nearest(made[y + 1, x], made[y, x + 1], made[y, x])
        made[y + 1, x + 1] = (rows_HWC[y, x] + guess) & 0xFF
    return made[1:, 1:].astype(np.uint8)
