"""Image files that Pillow cannot write: 16 bits per channel, and TIFFs of any sample format."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

PNG_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
"""By number of channels: grey, grey with alpha, RGB, RGBA."""


def png16(values_HWC: NDArray[Any], chunks: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """A PNG of uint16 [H, W, C], C = 1 to 4; `chunks` go before the pixels."""
    height, width, channels = values_HWC.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values_HWC)
    header = struct.pack(">IIBBBBB", width, height, 16, PNG_COLOUR_TYPE[channels], 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in parts)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(values_HWC: NDArray[Any], *, order: str = "<", photometric: int | None = None) -> bytes:
    """An uncompressed TIFF of any dtype, [H, W, C]; order is "<" or ">"."""
    height, width, channels = values_HWC.shape
    data = values_HWC.astype(values_HWC.dtype.newbyteorder(order)).tobytes()
    bits, sample_format = values_HWC.dtype.itemsize * 8, {"u": 1, "i": 2, "f": 3}[values_HWC.dtype.kind]
    if photometric is None:
        photometric = 2 if channels >= 3 else 1
    extra_at = 8 + 2 + 11 * 12 + 4
    extra = struct.pack(f"{order}{channels}H", *[bits] * channels)
    extra += struct.pack(f"{order}{channels}H", *[sample_format] * channels)

    def per_channel(value: int, offset: int) -> int:
        return value if channels == 1 else extra_at + offset

    short, long = 3, 4
    tags = [
        (256, short, 1, width),
        (257, short, 1, height),
        (258, short, channels, per_channel(bits, 0)),
        (259, short, 1, 1),
        (262, short, 1, photometric),
        (273, long, 1, extra_at + len(extra)),
        (277, short, 1, channels),
        (278, short, 1, height),
        (279, long, 1, len(data)),
        (284, short, 1, 1),
        (339, short, channels, per_channel(sample_format, 2 * channels)),
    ]
    entries = b"".join(
        struct.pack(f"{order}HHIHH", tag, kind, count, value, 0)
        if kind == short and count == 1
        else struct.pack(f"{order}HHII", tag, kind, count, value)
        for tag, kind, count, value in tags
    )
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(f"{order}I", 8) + struct.pack(f"{order}H", len(tags)) + entries + struct.pack("<I", 0)
    assert len(head) == extra_at
    return head + extra + data


RAMP = np.linspace(0, 1, 28 * 28).reshape(28, 28, 1)
"""Grey values from 0 to 1, [28, 28, 1]."""
