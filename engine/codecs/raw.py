"""Samples as they are: each is the bytes of a ``.npy`` file, which NumPy and webdataset read.

Shape suffixes: B samples, H height, W width, C channels.
"""

from __future__ import annotations

import io

import numpy as np

from gen_engine.engine.sample.modalities import Pixels


class RawCodec:
    """Lossless and the fastest; any number of channels, and any modality."""

    name = "raw"
    extension = "npy"
    pictures_only = False
    identity = "raw/npy-1.0"

    def encode(self, pixels_BHWC: Pixels) -> list[bytes]:
        """Return one ``.npy`` file a sample: uint8 [H, W, C], or float32 of another modality."""
        little = pixels_BHWC.dtype.newbyteorder("<")
        header = npy_header(little.str, pixels_BHWC.shape[1:])
        return [header + sample.astype(little, copy=False).tobytes() for sample in pixels_BHWC]


def npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    """Return what stands before the C-order bytes in a ``.npy`` file of format 1.0.

    Args:
        descr: NumPy's dtype string with the byte order, such as ``<i8``.
        shape: of the whole array.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue()
