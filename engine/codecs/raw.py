"""Uncompressed values: each sample is the bytes of a ``.npy`` file, which NumPy and webdataset read.

Shape suffixes: B samples.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Field, Ragged


class RawCodec:
    """Lossless and the fastest; arrays of any kind."""

    name = "raw"
    extension = "npy"
    kinds = frozenset[str]()
    """No kinds: formats store arrays without a codec, as such files or as columns."""

    identity = "raw/npy-1.0"

    def encode(self, values_B: NDArray[Any]) -> Ragged:
        """Return one ``.npy`` file per sample, of format 1.0 and little-endian."""
        little = values_B.dtype.newbyteorder("<")
        header = npy_header(little.str, values_B.shape[1:])
        count, size = len(values_B), len(header) + math.prod(values_B.shape[1:]) * little.itemsize
        files_BN = np.empty((count, size), np.uint8)
        files_BN[:, : len(header)] = np.frombuffer(header, np.uint8)
        values_BN = np.ascontiguousarray(values_B, little).view(np.uint8)
        files_BN[:, len(header) :] = values_BN.reshape(count, size - len(header))
        return Ragged(files_BN.reshape(-1), np.arange(count + 1, dtype=np.int64) * size)

    def decode(self, data: bytes, field: Field) -> NDArray[Any]:
        """Return the array of a ``.npy`` file that :meth:`encode` made.

        Raises:
            ValueError: its header is not the one of the field's dtype and shape, or the size differs.
        """
        header = npy_header(field.numpy_dtype.str, field.sizes)
        if not data.startswith(header):
            raise ValueError(f"not a .npy file of {field.dtype} {list(field.sizes)}")
        if len(data) != len(header) + field.value_bytes:
            raise ValueError(f"{len(data) - len(header):,} bytes of values, {field.value_bytes:,} are due")
        return np.frombuffer(data, field.numpy_dtype, offset=len(header)).reshape(field.sizes)


def npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    """Return the header before the C-order bytes in a ``.npy`` file of format 1.0.

    Args:
        descr: NumPy's dtype string with the byte order, such as ``<i8``.
        shape: of the whole array.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue()
