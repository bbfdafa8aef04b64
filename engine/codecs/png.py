"""PNG: compiled code makes all files of a batch in one call; without it, the same bytes are made in NumPy.

The format is W3C's PNG Specification (third edition), https://www.w3.org/TR/png-3/.
Shape suffixes: B samples, H height, W width, C channels, N filtered bytes of an image.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.codecs import huffman
from gen_engine.engine.codecs.png_decode import COLOUR_TYPES, PAETH, SIGNATURE, SUB, UP, decode_png, nearest
from gen_engine.engine.errors import RequestError
from gen_engine.engine.native import core
from gen_engine.engine.native.contract import Core
from gen_engine.engine.sample.schema import Field, Ragged, join_ragged

SHORT: Final = 1100
"""Images of up to this many filtered bytes, such as 28×28 or 16×16×3, are filtered by "Up", larger ones by "Paeth": its
predictions are better by 2 % there and by 6 to 9 % at 64×64×3, for a tenth more time."""

MAX_BYTES: Final = 1 << 30
"""Limit of an image's filtered bytes: an encoded image is one chunk, whose length has 31 bits."""

_GROUP_BYTES = 1 << 25
"""Most memory that is reserved for the files of one call, which are rarely half as large as they could be."""

IDAT_CRC = zlib.crc32(b"IDAT")
END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))

_length_and_kind = struct.Struct(">I4s").pack
_checksum_and_end = struct.Struct(f">I{len(END)}s").pack


class PngCodec:
    """Lossless; 8 or 16 bits per channel, 1 to 4 channels.

    Deflate is :mod:`gen_engine.engine.codecs.huffman`: the file is a function of the image, on every machine.
    """

    name = "png"
    extension = "png"
    kinds = frozenset({"image"})

    @property
    def identity(self) -> str:
        """Name, filters and the version of the deflate encoder."""
        return f"png/up-paeth/huffman-{huffman.VERSION}"

    def encode(self, values_B: NDArray[Any]) -> Ragged:
        """Return one PNG file per image.

        Raises:
            RequestError: PNG holds no images of this dtype or number of channels, or one has more than
            :data:`MAX_BYTES`.
        """
        _, height, width, channels = values_B.shape
        if values_B.dtype.kind != "u" or values_B.dtype.itemsize > 2:
            raise RequestError(f"png holds uint8 and uint16, and these samples are {values_B.dtype}: use --codec raw")
        if channels not in COLOUR_TYPES:
            raise RequestError(f"png holds 1 to 4 channels, and these samples have {channels}: use --codec raw")
        if values_B[:1].nbytes + height > MAX_BYTES:
            raise RequestError(
                f"png holds images of up to {MAX_BYTES:,} bytes here, and {height} × {width} × {channels} of "
                f"{values_B.dtype} are more: use --codec raw"
            )
        head = _head(height, width, channels, 8 * values_B.dtype.itemsize)
        if values_B.dtype.itemsize == 2:
            # Big-endian bytes, filtered as the bytes of twice as many channels.
            values_B = values_B.astype(">u2", order="C").view(np.uint8).reshape(-1, height, width, 2 * channels)
        return self._files(head, values_B)

    def decode(self, data: bytes, field: Field) -> NDArray[Any]:
        """Return an image, uint8 or uint16 [H, W, C]; see :func:`~gen_engine.engine.codecs.png_decode.decode_png`."""
        return decode_png(data, field.sizes, field.numpy_dtype)

    def _files(self, head: bytes, bytes_BHWC: NDArray[np.uint8]) -> Ragged:
        """Return the files of images."""
        compiled = core()
        if compiled is not None:
            return _compiled(compiled, head, np.ascontiguousarray(bytes_BHWC))
        scanlines_BN = filtered(bytes_BHWC)
        return Ragged.of_pieces([_file(head, data) for data in huffman.deflate_rows(scanlines_BN)])


def _compiled(compiled: Core, head: bytes, bytes_BHWC: NDArray[np.uint8]) -> Ragged:
    batch, height, width, channels = bytes_BHWC.shape
    bound = compiled.png_bound(height, width * channels)
    group = max(1, _GROUP_BYTES // bound)
    codes, files = huffman.ready_codes(), []
    for first in range(0, max(batch, 1), group):
        some = bytes_BHWC[first : first + group]
        out, offsets = np.empty(len(some) * bound, np.uint8), np.empty(len(some) + 1, np.int64)
        compiled.encode_png(some, len(some), height, width * channels, channels, head, *codes, out, offsets)
        files.append(Ragged(out[: offsets[-1]], offsets))
    return files[0] if len(files) == 1 else join_ragged(files)


def _file(head: bytes, data: bytes) -> bytes:
    tail = _checksum_and_end(zlib.crc32(data, IDAT_CRC), END)
    return b"".join((head, _length_and_kind(len(data), b"IDAT"), data, tail))


class ZlibPngCodec(PngCodec):
    """The same with Python's own zlib, which is always available.

    The strategy Z_RLE finds only repeats of the last byte. After the "Up" filter generated images have few longer
    matches: on slightly noisy 64×64×3 this is 1.5 times as fast as the default strategy and smaller, on Fashion-MNIST's
    28×28×1 10 % faster and 1 % larger. Flat areas still compress well, which they would not with Z_HUFFMAN_ONLY.
    """

    name = "png-zlib"

    @property
    def identity(self) -> str:
        """Name, settings and the version of zlib, on which the bytes depend."""
        return f"png-zlib/up-rle-{LEVEL}/zlib-{zlib.ZLIB_RUNTIME_VERSION}"

    def _files(self, head: bytes, bytes_BHWC: NDArray[np.uint8]) -> Ragged:
        return Ragged.of_pieces([_file(head, _zlib_rle(scanlines_N)) for scanlines_N in _filtered_up(bytes_BHWC)])


LEVEL: Final = 1
"""Zlib's level: higher ones take several times as long to save a few percent."""


def _zlib_rle(scanlines: Any) -> bytes:
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, 8, zlib.Z_RLE)
    return deflate.compress(scanlines) + deflate.flush()


def filtered(bytes_BHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return [B, H·(1 + W·C)]: each row as its filter number and the filtered bytes."""
    _, height, width, channels = bytes_BHWC.shape
    return _filtered_up(bytes_BHWC) if height * (1 + width * channels) <= SHORT else _filtered_paeth(bytes_BHWC)


def _filtered_up(bytes_BHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    batch, height, width, channels = bytes_BHWC.shape
    rows = bytes_BHWC.reshape(batch, height, width * channels)
    scanlines = np.empty((batch, height, 1 + width * channels), np.uint8)
    # There is no row above the first one, so "Up" would store it unfiltered: 3 % more bytes at 64×64×3.
    scanlines[:, 0, 0] = SUB
    scanlines[:, 0, 1 : 1 + channels] = rows[:, 0, :channels]
    np.subtract(rows[:, 0, channels:], rows[:, 0, :-channels], out=scanlines[:, 0, 1 + channels :])
    scanlines[:, 1:, 0] = UP
    np.subtract(rows[:, 1:], rows[:, :-1], out=scanlines[:, 1:, 1:])
    return scanlines.reshape(batch, height * (1 + width * channels))


def _filtered_paeth(bytes_BHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    batch, height, width, channels = bytes_BHWC.shape
    padded = np.zeros((batch, height + 1, width + 1, channels), np.int16)
    padded[:, 1:, 1:] = bytes_BHWC
    guess = nearest(padded[:, 1:, :-1], padded[:, :-1, 1:], padded[:, :-1, :-1])
    scanlines = np.empty((batch, height, 1 + width * channels), np.uint8)
    scanlines[:, :, 0] = PAETH
    scanlines[:, :, 1:] = (bytes_BHWC - guess).astype(np.uint8).reshape(batch, height, width * channels)
    return scanlines.reshape(batch, height * (1 + width * channels))


@lru_cache(maxsize=32)
def _head(height: int, width: int, channels: int, depth: int) -> bytes:
    """Return what precedes the data: ``depth`` bits per channel, deflate, the five standard filters, no interlacing."""
    header = struct.pack(">IIBBBBB", width, height, depth, COLOUR_TYPES[channels], 0, 0, 0)
    return (
        SIGNATURE + struct.pack(">I4s", len(header), b"IHDR") + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
