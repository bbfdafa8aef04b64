"""PNG: the rows of a batch are filtered at once in NumPy; then one deflate call per image, or one for all.

The format is W3C's PNG Specification (third edition), https://www.w3.org/TR/png-3/.
Shape suffixes: B samples, H height, W width, C channels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.codecs import huffman
from gen_engine.engine.codecs.png_decode import COLOUR_TYPES, SIGNATURE, SUB, UP, decode_png
from gen_engine.engine.errors import RequestError, WriterUnavailable
from gen_engine.engine.sample.schema import Field, Ragged

LEVEL = 1
"""Deflate's level: higher ones take several times as long to save a few percent."""

SHORT = 1100
"""Images of up to this many filtered bytes, such as 28×28 or 16×16×3, are deflated together, in 60 % of the time."""

IDAT_CRC = zlib.crc32(b"IDAT")
END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))

_length_and_kind = struct.Struct(">I4s").pack
_checksum_and_end = struct.Struct(f">I{len(END)}s").pack


class PngCodec:
    """Lossless; 8 or 16 bits per channel, 1 to 4 channels.

    Deflate is ISA-L's, several times as fast as zlib; small images use :mod:`gen_engine.engine.codecs.huffman`.

    Raises:
        WriterUnavailable: the package isal, which is part of the base install, is missing.
    """

    name = "png"
    extension = "png"
    kinds = frozenset({"image"})

    def __init__(self) -> None:
        try:
            import isal
            from isal import isal_zlib
        except ImportError as error:
            raise WriterUnavailable(
                f"codec png needs isal ({error}): pip install isal, or use --codec png-zlib, which is slower"
            ) from error
        self._version: str = isal.__version__
        self._compress: Callable[[Any], bytes] = partial(isal_zlib.compress, level=LEVEL)
        self._crc32 = isal_zlib.crc32

    @property
    def identity(self) -> str:
        """Name, settings, the version of isal, and a checksum of its output for a test vector on this machine.

        ISA-L chooses its kernels at run time. With one version, all x86-64 processors since SSE 4.2 make the same
        bytes; older ones and other architectures hash differently and find other matches.
        """
        made = zlib.crc32(self._compress(_probe()))
        return f"png/up-{LEVEL}/huffman-{huffman.VERSION}/isal-{self._version}-{made:08x}"

    def encode(self, values_B: NDArray[Any]) -> Ragged:
        """Return one PNG file per image.

        Raises:
            RequestError: PNG has no colour type for this number of channels.
        """
        _, height, width, channels = values_B.shape
        if channels not in COLOUR_TYPES:
            raise RequestError(f"png holds 1 to 4 channels, and these samples have {channels}: use --codec raw")
        if values_B.dtype.itemsize == 2:
            # Big-endian bytes, filtered as the bytes of twice as many channels.
            bytes_BHWC = values_B.astype(">u2").view(np.uint8).reshape(-1, height, width, 2 * channels)
            return Ragged.of_pieces(self._files(_head(height, width, channels, 16), _filter(bytes_BHWC)))
        return Ragged.of_pieces(self._files(_head(height, width, channels, 8), _filter(values_B)))

    def decode(self, data: bytes, field: Field) -> NDArray[Any]:
        """Return an image, uint8 or uint16 [H, W, C]; see :func:`~gen_engine.engine.codecs.png_decode.decode_png`."""
        return decode_png(data, field.sizes, field.numpy_dtype)

    def _files(self, head: bytes, scanlines: NDArray[np.uint8]) -> list[bytes]:
        """Return the files of images that were filtered."""
        if scanlines.shape[1] > SHORT:
            return [self._file(head, row) for row in scanlines]
        spread_B = huffman.spread(scanlines)
        suited_B = huffman.suited(spread_B)
        if suited_B.all():
            return self._short_files(head, scanlines, spread_B)
        some = huffman.Spread(*(values[suited_B] for values in spread_B))
        short = iter(self._short_files(head, scanlines[suited_B], some))
        return [
            next(short) if suited else self._file(head, row) for suited, row in zip(suited_B, scanlines, strict=True)
        ]

    def _file(self, head: bytes, scanlines: NDArray[np.uint8]) -> bytes:
        data = self._compress(scanlines)
        tail = _checksum_and_end(self._crc32(data, IDAT_CRC), END)
        return b"".join((head, _length_and_kind(len(data), b"IDAT"), data, tail))

    def _short_files(self, head: bytes, scanlines: NDArray[np.uint8], spread_B: huffman.Spread) -> list[bytes]:
        """Assemble the files around the streams in place, so that each is extracted once."""
        files: list[bytes] = []
        kind = len(head) + 4
        for data, stop_B, checksums in huffman.deflate_rows(scanlines, spread_B, prefix=kind + 4):
            data[:, : kind + 4] = np.frombuffer(head + _length_and_kind(0, b"IDAT"), np.uint8)
            size_B = stop_B - (kind + 4) + len(checksums[0])
            data[:, len(head) : kind] = size_B.astype(">u4")[:, None].view(np.uint8)
            packed, width = data.tobytes(), data.shape[1]
            for row, (stop, checksum) in enumerate(zip(stop_B.tolist(), checksums, strict=True)):
                file = packed[row * width : row * width + stop] + checksum
                files.append(file + _checksum_and_end(self._crc32(file[kind:]), END))
        return files


class ZlibPngCodec(PngCodec):
    """The same with Python's own zlib, which is always available.

    The strategy Z_RLE finds only repeats of the last byte. After the "Up" filter generated images have few longer
    matches: on slightly noisy 64×64×3 this is 1.5 times as fast as the default strategy and smaller, on Fashion-MNIST's
    28×28×1 10 % faster and 1 % larger. Flat areas still compress well, which they would not with Z_HUFFMAN_ONLY.
    """

    name = "png-zlib"

    def __init__(self) -> None:
        self._compress = _zlib_rle
        self._crc32 = zlib.crc32

    @property
    def identity(self) -> str:
        """Name, settings and the version of zlib, on which the bytes depend."""
        return f"png-zlib/up-rle-{LEVEL}/zlib-{zlib.ZLIB_RUNTIME_VERSION}"

    def _files(self, head: bytes, scanlines: NDArray[np.uint8]) -> list[bytes]:
        return [self._file(head, row) for row in scanlines]


def _zlib_rle(scanlines: Any) -> bytes:
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, 8, zlib.Z_RLE)
    return deflate.compress(scanlines) + deflate.flush()


def _filter(pixels_BHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return [B, H·(1 + W·C)]: each row as its filter number and the filtered bytes."""
    batch, height, width, channels = pixels_BHWC.shape
    rows = pixels_BHWC.reshape(batch, height, width * channels)
    scanlines = np.empty((batch, height, 1 + width * channels), np.uint8)
    # There is no row above the first one, so "Up" would store it unfiltered: 3 % more bytes at 64×64×3.
    scanlines[:, 0, 0] = SUB
    scanlines[:, 0, 1 : 1 + channels] = rows[:, 0, :channels]
    np.subtract(rows[:, 0, channels:], rows[:, 0, :-channels], out=scanlines[:, 0, 1 + channels :])
    scanlines[:, 1:, 0] = UP
    np.subtract(rows[:, 1:], rows[:, :-1], out=scanlines[:, 1:, 1:])
    return scanlines.reshape(batch, height * (1 + width * channels))


@lru_cache(maxsize=32)
def _head(height: int, width: int, channels: int, depth: int) -> bytes:
    """Return what precedes the data: ``depth`` bits per channel, deflate, the five standard filters, no interlacing."""
    header = struct.pack(">IIBBBBB", width, height, depth, COLOUR_TYPES[channels], 0, 0, 0)
    return (
        SIGNATURE + struct.pack(">I4s", len(header), b"IHDR") + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )


def _probe() -> bytes:
    """Return a test vector with near and far matches, for which compressors that hash differently give other bytes."""
    return bytes((i * i >> 7) & 0x3F for i in range(4096)) + bytes(i * 2654435761 >> 20 & 0x07 for i in range(4096))
