"""PNG from NumPy and zlib alone: a batch is filtered at once, then one deflate call a picture.

The format is W3C's PNG Specification (third edition), https://www.w3.org/TR/png-3/.
Shape suffixes: B samples, H height, W width, C channels.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import RequestError
from gen_engine.engine.modalities import Pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels to PNG colour type: grey, grey and alpha, RGB, RGBA."""

SUB, UP = 1, 2
"""Row filters: each byte less the same channel's to the left, or less the one above; modulo 256."""

IDAT_CRC = zlib.crc32(b"IDAT")
END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))


class PngCodec:
    """Lossless; 8 bits a channel, up to 4 channels.

    Deflate runs at level 1 with the strategy Z_RLE, which looks for repeats of the last byte only. After the "Up"
    filter generated pictures have few longer matches: on slightly noisy 64×64×3 this is half as fast again as the
    default strategy and smaller, on Fashion-MNIST's 28×28×1 a tenth faster and 1 % larger. Flat areas still shrink to
    little, which Z_HUFFMAN_ONLY would not do.
    """

    name = "png"
    extension = "png"
    pictures_only = True

    @property
    def identity(self) -> str:
        """Name, settings and the version of zlib, on which the bytes depend."""
        return f"png/up-rle-1/zlib-{zlib.ZLIB_RUNTIME_VERSION}"

    def encode(self, pixels_BHWC: Pixels) -> list[bytes]:
        """Return one PNG file a picture.

        Raises:
            RequestError: PNG has no colour type for this number of channels.
        """
        _, height, width, channels = pixels_BHWC.shape
        if channels not in COLOUR_TYPES:
            raise RequestError(f"png holds 1 to 4 channels, and these samples have {channels}: use --codec raw")
        # Bit depth 8, deflate, the five standard filters, not interlaced.
        head = SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0))
        files = []
        for scanlines in _filter(pixels_BHWC):
            deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 8, zlib.Z_RLE)
            data = deflate.compress(scanlines) + deflate.flush()
            crc = zlib.crc32(data, IDAT_CRC)
            files.append(b"".join((head, struct.pack(">I4s", len(data), b"IDAT"), data, struct.pack(">I", crc), END)))
        return files


def _filter(pixels_BHWC: Pixels) -> NDArray[np.uint8]:
    """Return [B, H·(1 + W·C)]: every row as its filter's number and the filtered bytes."""
    batch, height, width, channels = pixels_BHWC.shape
    rows = pixels_BHWC.reshape(batch, height, width * channels)
    scanlines = np.empty((batch, height, 1 + width * channels), np.uint8)
    # Nothing stands above the first row, so "Up" would store it whole: 3 % more bytes at 64×64×3.
    scanlines[:, 0, 0] = SUB
    scanlines[:, 0, 1 : 1 + channels] = rows[:, 0, :channels]
    np.subtract(rows[:, 0, channels:], rows[:, 0, :-channels], out=scanlines[:, 0, 1 + channels :])
    scanlines[:, 1:, 0] = UP
    np.subtract(rows[:, 1:], rows[:, :-1], out=scanlines[:, 1:, 1:])
    return scanlines.reshape(batch, height * (1 + width * channels))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
