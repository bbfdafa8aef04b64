"""Decoding the PNG files that this package writes: deflate and two row filters, undone in NumPy.

The format is W3C's PNG Specification (third edition), https://www.w3.org/TR/png-3/. Files of other programs may use
features that are refused here: palettes, interlacing, transparency chunks, the filters "Average" and "Paeth".

Shape suffixes: H height, W width, C channels, S bytes of a scanline.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels to PNG colour type: grey, grey and alpha, RGB, RGBA."""

NONE, SUB, UP = 0, 1, 2
"""Row filters: the bytes themselves; each byte less the same channel's to the left, or less the one above, modulo 256.
"""


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
    bytes_HS = _unfilter(rows_HS[:, 0], rows_HS[:, 1:], step)
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


def _unfilter(filters_H: NDArray[np.uint8], rows_HS: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Return the rows with their filters undone; ``step`` is the bytes per pixel."""
    if filters_H.max(initial=NONE) > UP:
        raise ValueError(f"the PNG row filter {filters_H.max()} is not supported")
    made_HS = np.empty_like(rows_HS)
    starts = np.flatnonzero(filters_H != UP)
    if len(starts) == 0 or starts[0] != 0:
        starts = np.concatenate([np.zeros(1, starts.dtype), starts])
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(rows_HS)], strict=True):
        made_HS[start:stop] = rows_HS[start:stop]
        if filters_H[start] == SUB:
            row = made_HS[start].reshape(-1, step)
            np.cumsum(row, axis=0, dtype=np.uint8, out=row)
        # A run of rows with the filter "Up": each is the cumulative sum modulo 256.
        np.cumsum(made_HS[start:stop], axis=0, dtype=np.uint8, out=made_HS[start:stop])
    return made_HS
